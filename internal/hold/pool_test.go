package hold

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// town is a pool of replicas and the Leases of its groups, in which all that is asked for is
// done at once.
type town struct {
	pools  []Pool
	dead   []bool
	leases []Lease
	writes int
	at     time.Duration
}

func newTown(replicas, groups int) *town {
	w := &town{leases: make([]Lease, groups), dead: make([]bool, replicas), pools: make([]Pool, replicas)}
	for g := range w.leases {
		w.leases[g].Missing = true
	}
	for i := range w.pools {
		w.start(i)
	}
	return w
}

func (w *town) start(i int) {
	w.writes++
	p, actions := NewPool(Identity{Pod: "pod-" + strconv.Itoa(i), Process: uint64(w.writes)}, len(w.leases), Defaults)
	w.pools[i], w.dead[i] = p, false
	w.do(i, actions)
	w.feed(i, Every, Proxy{Serving: true})
}

func (w *town) feed(i, group int, what Happening) {
	p, actions := w.pools[i].Step(group, Event{w.at, what})
	w.pools[i] = p
	w.do(i, actions)
}

func (w *town) do(i int, actions []GroupAction) {
	for _, ga := range actions {
		g := ga.Group
		switch a := ga.Action.(type) {
		case Check:
			w.feed(i, g, Checked{Nonce: a.Nonce, Up: true, Gateway: true, Alone: true})
		case Prepare:
			w.feed(i, g, Prepared{a.Nonce, true})
		case Commit:
			w.feed(i, g, Committed{a.Nonce, true})
		case LetGo:
			w.feed(i, g, LetGone{a.Nonce, true})
		case Drain:
			w.feed(i, g, Drained{})
		case ReadLease:
			w.feed(i, g, Seen{a.Nonce, w.leases[g]})
		case WriteLease:
			l := w.leases[g]
			if a.Base.Missing != l.Missing || a.Base.Version != l.Version {
				w.feed(i, g, Written{Nonce: a.Nonce, Outcome: Conflict})
				continue
			}
			w.writes++
			l = a.Lease
			l.UID, l.Version = "uid-"+strconv.Itoa(g), strconv.Itoa(w.writes)
			w.leases[g] = l
			w.feed(i, g, Written{a.Nonce, Acknowledged, l.UID, l.Version})
		}
	}
}

// run lets d pass.
func (w *town) run(d time.Duration) {
	for end := w.at + d; w.at < end; w.at += 50 * time.Millisecond {
		for i := range w.pools {
			for g := range w.leases {
				if !w.dead[i] {
					w.feed(i, g, Seen{Lease: w.leases[g]})
				}
			}
			if !w.dead[i] {
				w.feed(i, Every, Tick{})
			}
		}
	}
}

// held is which groups each replica that lives holds.
func (w *town) held() (all [][]int) {
	for i, p := range w.pools {
		var mine []int
		for g := range w.leases {
			if !w.dead[i] && p.Group(g).Status().Holding {
				mine = append(mine, g)
			}
		}
		all = append(all, mine)
	}
	return all
}

// check asserts that no replica has two groups, no group two replicas, and that as many
// groups are held as there can be.
func (w *town) check(t require.TestingT) {
	holders := map[int]int{}
	living := 0
	for i, mine := range w.held() {
		assert.LessOrEqual(t, len(mine), 1, "replica %d holds %v", i, mine)
		for _, g := range mine {
			holders[g]++
		}
		if !w.dead[i] {
			living++
		}
	}
	for g, n := range holders {
		assert.Equal(t, 1, n, "holders of group %d", g)
	}
	require.Len(t, holders, min(living, len(w.leases)), "%v", w.held())
}

// Replicas come and go; those that live hold one group each, as far as there are groups.
func TestPool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTown(rapid.IntRange(1, 5).Draw(t, "replicas"), rapid.IntRange(1, 3).Draw(t, "groups"))
		w.run(10 * time.Second)
		w.check(t)
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			i := rapid.IntRange(0, len(w.pools)-1).Draw(t, "replica")
			switch {
			case w.dead[i]:
				w.start(i)
			case rapid.Bool().Draw(t, "killed"):
				w.dead[i] = true
			default:
				w.feed(i, Every, Leave{})
				w.run(20 * time.Second)
				require.True(t, w.pools[i].Ended())
				w.dead[i] = true
			}
			w.run(10 * time.Second)
			w.check(t)
		}
	})
}

// A spare says to one holder that it can take over, and takes that group at once.
func TestPoolHandsOver(t *testing.T) {
	w := newTown(3, 2)
	w.run(10 * time.Second)
	w.check(t)
	for i, mine := range w.held() {
		if len(mine) == 1 {
			w.feed(i, Every, Leave{})
			w.run(600 * time.Millisecond)
			require.True(t, w.pools[i].Ended())
			w.dead[i] = true
			w.check(t)
			return
		}
	}
}
