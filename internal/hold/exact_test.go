package hold

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is taken for the same must go on the same: of two worlds that are written alike, each
// move of one leads to what a move of the other leads to. So neither canon nor prune leaves
// out what matters.
func TestExhaustiveCanonIsExact(t *testing.T) {
	for _, r := range exactRules() {
		r.alike = false // which replica is which: rough does not always tell, so more is told apart than need be
		c := newCoder(r, newForms())
		ahead := func(w *world) map[key]bool {
			all := map[key]bool{}
			w.moves(r, func(_ move, v *world) {
				v.prune(r)
				all[c.keyOf(v)] = true
			})
			return all
		}
		seen := map[key]*world{}
		layer, compared := []*world{newWorld(r)}, 0
		for len(layer) > 0 && compared < 10_000 {
			var next []*world
			for _, w := range layer {
				w.moves(r, func(_ move, raw *world) {
					v := raw.fork()
					v.prune(r)
					k := c.keyOf(v)
					first, ok := seen[k]
					if !ok {
						seen[k] = v
						next = append(next, v)
						return
					}
					if compared++; compared%5 == 0 {
						want := ahead(first)
						require.Equal(t, want, ahead(v), "%s\n%s", first.picture(r), v.picture(r))
						// What prune drops leads nowhere else.
						for k := range ahead(raw) {
							require.True(t, want[k] || k == c.keyOf(first), "pruned too much: %s", raw.picture(r))
						}
					}
				})
			}
			layer = next
		}
		t.Logf("%d worlds, %d pairs", len(seen), compared/5)
		require.NotZero(t, compared)
	}
}

// What is remembered of parts is what whole worlds do: each leads to what world.moves says, in that
// order, whatever other worlds its parts were met in before.
func TestExhaustiveMemoIsExact(t *testing.T) {
	most := 20_000
	if *large {
		most = 400_000
	}
	for _, r := range exactRules() {
		r.alike = false
		s := newStepper(r, newForms(), newMemo())
		c := newCoder(r, s.forms)
		first := newWorld(r)
		first.prune(r)
		seen := map[key]bool{}
		for layer := []*world{first}; len(layer) > 0 && len(seen) < most; {
			var next []*world
			for _, w := range layer {
				var want, got []key
				w.moves(r, func(_ move, v *world) {
					v.prune(r)
					k := c.keyOf(v)
					want = append(want, k)
					if !seen[k] {
						seen[k] = true
						next = append(next, v)
					}
				})
				s.ahead(s.encode(w), func(p *parts) { got = append(got, s.key(p)) })
				require.Equal(t, want, got, "%s", w.picture(r))
			}
			layer = next
		}
		t.Logf("%d worlds", len(seen))
		assert.NotEmpty(t, seen)
	}
}

// Of replicas that are alike it does not matter which is which, and that is all that is taken for
// the same beside what always is.
func TestExhaustiveAlike(t *testing.T) {
	for _, r := range []*rules{alike(2, shortest, 1, restart), differingOf(3, 0, 0), alike(3, shortest, 0, 0)} {
		told := *r
		told.alike = false
		f := newForms()
		c, d := newCoder(r, f), newCoder(&told, f)
		twins := map[key]map[key]bool{} // by key, what is told apart
		explore(&told, limits{states: 30_000}, func(_ int, world func() *world) {
			w := world()
			k, swaps := c.keyOf(w), map[key]bool{}
			for _, o := range orders {
				v, possible := w.fork(), true
				for i, j := range o {
					v.replicas[i] = w.replicas[j]
					possible = possible && r.class(i) == r.class(j) && (v.replicas[i] == nil) == (i >= r.replicas)
				}
				if possible {
					swaps[d.keyOf(v)] = true
					require.Equal(t, k, c.keyOf(v), "%s\n%s", w.picture(r), v.picture(r))
				}
			}
			if twins[k] == nil {
				twins[k] = swaps
			}
			require.Equal(t, twins[k], swaps, "%s", w.picture(r))
		})
		assert.Greater(t, len(twins), 1000)
	}
}
