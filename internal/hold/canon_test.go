package hold

import (
	"encoding/binary"
	"hash/maphash"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// canon writes a world so that two that can only do the same are written alike: times as
// what is left of them, or what has passed as far as that matters; names of processes and
// versions by the order of their appearance, since they are only ever compared for being
// equal; counts of nonces by their rank within the process; replicas that are set alike in
// an order of what they do.
type canon struct {
	w       *world
	r       *rules
	i       int // whose clock
	nonces  []placed
	process []uint64
	strs    []string
	out     []byte
}

// placed is a nonce that is to be written at a place, once all are known.
type placed struct {
	nonce Nonce
	at    int
}

type key [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func (c *canon) key(w *world) key {
	c.w = w
	c.nonces, c.process, c.strs, c.out = c.nonces[:0], c.process[:0], c.strs[:0], c.out[:0]
	c.world()
	slices.SortFunc(c.nonces, func(a, b placed) int {
		if a.nonce.Process != b.nonce.Process {
			return int(a.nonce.Process) - int(b.nonce.Process)
		}
		return int(a.nonce.Count) - int(b.nonce.Count)
	})
	rank := byte(0)
	for i, p := range c.nonces {
		if i > 0 && p.nonce != c.nonces[i-1].nonce {
			rank++
		}
		c.out[p.at] = rank
	}
	return key{maphash.Bytes(seeds[0], c.out), maphash.Bytes(seeds[1], c.out)}
}

func (c *canon) num(n int) {
	if n < -1 || n > 254 {
		panic("out of range")
	}
	c.out = append(c.out, byte(n+1))
}

// time writes a time in ms.
func (c *canon) time(ms int) { c.out = binary.LittleEndian.AppendUint16(c.out, uint16(ms)) }

func (c *canon) flags(bits ...bool) {
	n := uint16(0)
	for i, b := range bits {
		if b {
			n |= 1 << i
		}
	}
	c.out = binary.LittleEndian.AppendUint16(c.out, n)
}

// index is the place of x in seen, where it is put when it is new.
func index[T comparable](seen *[]T, x T) int {
	for i, y := range *seen {
		if x == y {
			return i
		}
	}
	*seen = append(*seen, x)
	return len(*seen) - 1
}

func (c *canon) str(s string) {
	if s == "" {
		c.num(-1)
	} else {
		c.num(index(&c.strs, s))
	}
}

func (c *canon) nonce(n Nonce) {
	if n == (Nonce{}) {
		c.num(254)
		return
	}
	c.place(n.Process, 2*n.Count)
}

func (c *canon) place(process, twice uint64) {
	at := index(&c.process, process)
	c.num(at)
	c.nonces = append(c.nonces, placed{Nonce{uint64(at), twice}, len(c.out)})
	c.out = append(c.out, 0)
}

// to is how long it is until t, at least 0; since is how long ago t was, at most most.
func (c *canon) to(t time.Duration) { c.time(max(ms(t-c.w.local(c.r, c.i)), 0)) }
func (c *canon) since(t, most time.Duration) {
	c.time(ms(min(c.w.local(c.r, c.i)-t, most)))
}

func (c *canon) world() {
	c.num(c.w.faults)
	order := [3]int{0, 1, 2}
	if c.r.alike {
		slices.SortFunc(order[:c.r.replicas], func(a, b int) int { return c.rough(a) - c.rough(b) })
	}
	for _, c.i = range order[:c.r.replicas] {
		p := c.w.replicas[c.i]
		c.state(&p.s)
		c.time(p.kernel.held)
		c.num(len(p.kernel.pending))
		for _, e := range p.kernel.pending {
			c.nonce(e.nonce)
			c.time(e.left)
		}
		for _, list := range [][]Action{p.asks, p.late, p.calls, p.strays} {
			c.num(len(list))
			for _, a := range list {
				c.act(a)
			}
		}
		for _, list := range [][]Happening{p.answers, p.replies, p.echoes} {
			c.num(len(list))
			for _, h := range list {
				c.happening(h)
			}
		}
		c.flags(p.ended)
	}
	c.lease(&c.w.lease)
}

// rough is something by which replicas can be told apart most of the time.
func (c *canon) rough(i int) int {
	p := c.w.replicas[i]
	n := int(p.s.mode)*5 + int(p.s.try.phase)
	n = n*100 + min(ms(c.w.local(c.r, i)-p.s.changed), 99)
	n = n*100 + p.kernel.held
	n = n*4 + len(p.kernel.pending)
	n = n*4 + len(p.asks)
	return n*4 + len(p.replies)
}

func (c *canon) state(s *State) {
	c.str(s.name)
	if s.lease.Holder != s.name { // all that counts is which nonces are not below
		c.place(s.self.Process, 2*s.floor-1)
	} else {
		c.place(s.self.Process, 2*s.floor)
	}
	longest := max(s.set.Lease, Wait(max(s.lease.Bound, s.previous)))
	c.num(int(s.mode))
	c.flags(s.permitted, s.serving, s.known, s.away, s.unsure, s.doubt, s.held, s.leaving, s.draining, s.drained, s.give)
	t := &s.try
	c.num(int(t.phase))
	c.num(int(t.purpose))
	c.flags(t.blind)
	c.nonce(t.nonce)
	c.time(ms(t.p))
	c.time(ms(t.v))
	if t.phase == writing {
		c.lease(&t.write)
	}
	if t.phase == committing {
		c.since(t.asked, t.v)
	}
	if !s.serving {
		c.since(s.gone, s.set.ProxyGone)
	}
	c.to(s.due)
	c.to(s.backoff)
	c.nonce(s.asked)
	c.num(s.misses)
	c.lease(&s.lease)
	if s.mode != owner && s.known { // an owner sets it when it lets go
		c.since(s.changed, longest)
	}
	if s.away && s.mode != owner {
		c.since(s.contact, longest)
	}
	least := time.Duration(0)
	if Wait(s.set.bound()) <= s.set.Lease {
		least = s.set.bound() // less than that makes no difference
	}
	c.time(ms(max(s.previous, least)))
	c.nonce(s.reading)
	c.to(s.heldTill)
	c.time(ms(max(s.announced, least)))
	if s.set.Keep && s.mode == owner {
		c.since(s.lastAck, s.set.Grace)
	}
	if s.leaving {
		c.since(s.left, s.set.SuccessorWait)
	}
	if s.draining {
		c.since(s.drainAt, s.set.DrainTimeout)
	}
	if s.mode == releasing {
		c.since(s.since, s.set.Lease)
	}
}

func (c *canon) lease(l *Lease) {
	c.flags(l.Missing, l.Released(), l.Leaving)
	c.str(l.UID)
	c.str(l.Version)
	c.str(l.Holder)
	c.str(l.Successor)
	c.nonce(l.Nonce)
	c.time(ms(l.Bound))
}

func (c *canon) act(a Action) {
	switch a := a.(type) {
	case Prepare:
		c.num(1)
		c.nonce(a.Nonce)
		c.time(ms(a.For))
	case Commit:
		c.num(2)
		c.nonce(a.Nonce)
		c.flags(a.Renewing)
		c.time(ms(a.For))
	case LetGo:
		c.num(3)
		c.nonce(a.Nonce)
	case Check:
		c.num(4)
		c.nonce(a.Nonce)
	case ReadLease:
		c.num(5)
		c.nonce(a.Nonce)
	case WriteLease:
		c.num(6)
		c.nonce(a.Nonce)
		c.flags(a.Base.Missing)
		c.str(a.Base.Version)
		c.lease(&a.Lease)
	default:
		panic("not an action on its way")
	}
}

func (c *canon) happening(h Happening) {
	switch h := h.(type) {
	case Prepared:
		c.num(1)
		c.nonce(h.Nonce)
		c.flags(h.OK)
	case Committed:
		c.num(2)
		c.nonce(h.Nonce)
		c.flags(h.OK)
	case LetGone:
		c.num(3)
		c.nonce(h.Nonce)
		c.flags(h.OK)
	case Checked:
		c.num(4)
		c.nonce(h.Nonce)
		c.flags(h.Up, h.Gateway, h.Alone)
	case Seen:
		c.num(5)
		c.nonce(h.Read)
		c.lease(&h.Lease)
	case Written:
		c.num(6)
		c.nonce(h.Nonce)
		c.num(int(h.Outcome))
		c.str(h.UID)
		c.str(h.Version)
	case Drained:
		c.num(7)
	default:
		panic("not a happening on its way")
	}
}

// Whoever adds a field to what is hashed adds it to canon too, or two worlds that differ
// would be taken for one. Left out on purpose: State.now, which the next event sets; count,
// which is only ever above all nonces; probe, of which the world has no answers; Lease.Mark,
// which is Released; had and stale, which only say what is noted and cut.
func TestCanonKnowsAll(t *testing.T) {
	for _, tt := range []struct {
		fields int
		of     any
	}{{38, State{}}, {8, attempt{}}, {9, Lease{}}, {10, replica{}}, {6, world{}}, {2, pending{}}} {
		assert.Equal(t, tt.fields, reflect.TypeOf(tt.of).NumField(), "%T", tt.of)
	}
}

// What is taken for the same must go on the same: of two worlds that are written alike, each
// move of one leads to what a move of the other leads to. So neither canon nor prune leaves
// out what matters.
func TestExhaustiveCanonIsExact(t *testing.T) {
	for _, r := range exactRules() {
		r.alike = false // which replica is which: rough does not always tell, so more is told apart than need be
		c := &canon{r: r}
		ahead := func(w *world) map[key]bool {
			all := map[key]bool{}
			w.moves(r, func(_ move, v *world) {
				v.prune(r)
				all[c.key(v)] = true
			})
			return all
		}
		seen := map[key]*world{}
		layer, compared := []*world{newWorld(r)}, 0
		for len(layer) > 0 && compared < 20_000 {
			var next []*world
			for _, w := range layer {
				w.moves(r, func(_ move, raw *world) {
					v := raw.fork()
					v.prune(r)
					k := c.key(v)
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
							require.True(t, want[k] || k == c.key(first), "pruned too much: %s", raw.picture(r))
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
