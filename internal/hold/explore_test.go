package hold

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	large     = flag.Bool("large", false, "explore the large spaces too, in up to 13 GiB")
	spaceTime = flag.Duration("space", time.Hour, "explore a large space for so long at most")
)

// limits are what an exploration may take; 0: as much as it needs.
type limits struct {
	states int
	time   time.Duration
	memory uint64 // in bytes, of what the garbage collector leaves
}

// mostHeap is the memory, in bytes, from which on the garbage collector spares nothing.
const mostHeap = 12 << 30

func largest() limits { return limits{0, *spaceTime, 10 << 30} }

// exploration is what there is to reach, breadth first.
type exploration struct {
	rules   *rules
	depth   int // of the last state
	nodes   nodes
	seen    seen
	workers []*worker
	layer   layer // what there is to go on from
	next    layer // what that has led to
	whole   bool  // nothing was left out
	bad     int   // the first world with two holders, or -1
	memory  uint64
}

// worker is what one processor does with a slab.
type worker struct {
	*stepper
	here    parts
	all     []found  // that here leads to
	flatAll []uint16 // in one
	touched uint32
	found   []found // of them, and of those of the worlds before, what was not reached before
	data    []uint16
	taken   int
}

// found is a world that one of a slab leads to.
type found struct {
	key  key
	from int // which of the slab
	move int
	bad  bool
	end  int // of its data
}

// explore explores what r allows, and has look see each world that is gone on from.
func explore(r *rules, most limits, look ...func(n int, world func() *world)) *exploration {
	x := &exploration{rules: r, bad: -1}
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(mostHeap))
	begin := time.Now()
	f, m := newForms(), newMemo()
	for range runtime.GOMAXPROCS(0) {
		x.workers = append(x.workers, &worker{stepper: newStepper(r, f, m)})
	}
	x.begin()
	for at := 0; len(x.next.slabs) > 0; x.depth++ {
		x.layer, x.next = x.next, layer{spare: x.next.spare}
		for _, s := range x.layer.slabs {
			x.ahead(s)
			for i := range s.at {
				for _, do := range look {
					do(at, func() *world { return x.world(s, i) })
				}
				x.take(at, i)
				at++
				if x.bad >= 0 || most.states > 0 && x.nodes.n >= most.states {
					return x
				}
			}
			x.next.reuse(s)
			if x.sample(); most.time > 0 && time.Since(begin) > most.time || most.memory > 0 && live() > most.memory {
				return x
			}
		}
	}
	x.whole = true
	return x
}

// begin has the first world be what there is to go on from.
func (x *exploration) begin() {
	w := newWorld(x.rules)
	w.prune(x.rules)
	c := x.workers[0].coder
	p := c.encode(w)
	x.seen.add(c.key(p))
	x.nodes.add(-1, 0)
	x.next.add(c.flat(nil, p))
}

// world is the i-th one of s.
func (x *exploration) world(s *slab, i int) *world {
	w := x.workers[0]
	w.unflat(s.of(i), &w.here)
	return w.decode(&w.here)
}

// ahead has the workers find what the worlds of s lead to that was not reached before.
func (x *exploration) ahead(s *slab) {
	var wg sync.WaitGroup
	for first, w := range x.workers {
		wg.Go(func() {
			w.found, w.data, w.taken = w.found[:0], w.data[:0], 0
			for i := first; i < len(s.at); i += len(x.workers) {
				w.unflat(s.of(i), &w.here)
				w.look(&x.seen, i)
			}
		})
	}
	wg.Wait()
}

// look finds what w.here, which is the i-th of a slab, leads to.
func (w *worker) look(seen *seen, i int) {
	w.all, w.flatAll = w.all[:0], w.flatAll[:0]
	w.ahead(&w.here, func(p *parts) {
		w.flatAll = w.flat(w.flatAll, p)
		w.all = append(w.all, found{w.key(p), i, len(w.all), w.holders(p) > 1, len(w.flatAll)})
	})
	for k := range w.all { // one wait for the memory, not one for each
		w.touched += seen.touch(w.all[k].key)
	}
	begin := 0
	for _, f := range w.all {
		data := w.flatAll[begin:f.end]
		begin = f.end
		if !seen.has(f.key) {
			w.data = append(w.data, data...)
			f.end = len(w.data)
			w.found = append(w.found, f)
		}
	}
}

// take keeps what the i-th world of a slab leads to; it has the number at of all. What is found
// first is what would be with one worker, so that the numbers of two runs are the same.
func (x *exploration) take(at, i int) {
	w := x.workers[i%len(x.workers)]
	for ; w.taken < len(w.found) && w.found[w.taken].from == i; w.taken++ {
		f := &w.found[w.taken]
		if !x.seen.add(f.key) { // by another of the slab
			continue
		}
		begin := 0
		if w.taken > 0 {
			begin = w.found[w.taken-1].end
		}
		x.nodes.add(at, f.move)
		x.next.add(w.data[begin:f.end])
		if f.bad {
			x.bad = x.nodes.n - 1
			return
		}
	}
}

// live is how many bytes the garbage collector has left.
func live() uint64 { return measured("/gc/heap/live:bytes") }

// sample notes how much memory the process has from the system.
func (x *exploration) sample() {
	x.memory = max(x.memory, measured("/memory/classes/total:bytes")-measured("/memory/classes/heap/released:bytes"))
}

func measured(what string) uint64 {
	s := []metrics.Sample{{Name: what}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// trace is how the n-th world came about, a line for each move, and that world.
func (x *exploration) trace(n int) (string, *world) {
	var way []int
	for n > 0 {
		parent, move := x.nodes.of(n)
		n, way = parent, append(way, move)
	}
	slices.Reverse(way)
	w := newWorld(x.rules)
	var b strings.Builder
	for step, want := range way {
		at := 0
		var next *world
		var said string
		w.moves(x.rules, func(m move, v *world) {
			if at == want {
				v.prune(x.rules)
				next, said = v, w.describe(m)
			}
			at++
		})
		w = next
		fmt.Fprintf(&b, "%3d  %-75s %s\n", step+1, said, w.picture(x.rules))
	}
	return b.String(), w
}

func (x *exploration) String() string {
	what := "all"
	if !x.whole {
		what = "the first"
	}
	return fmt.Sprintf("%s %d states, %d moves deep, in %.1f GiB", what, x.nodes.n, x.depth, float64(x.memory)/(1<<30))
}

// safe asserts that no world that was reached has two holders.
func (x *exploration) safe(t *testing.T) {
	t.Helper()
	if x.bad >= 0 {
		way, _ := x.trace(x.bad)
		require.Fail(t, "two holders", "after %d states:\n%s", x.nodes.n, way)
	}
}

// overlap asserts that one has, and prints the shortest way there.
func (x *exploration) overlap(t *testing.T) {
	t.Helper()
	require.GreaterOrEqual(t, x.bad, 0, "no overlap in %s: the exploration finds nothing", x)
	way, last := x.trace(x.bad)
	t.Logf("two holders after %d states, by %d moves:\n%s", x.nodes.n, x.depth+1, way)
	assert.NotZero(t, x.depth)
	assert.Equal(t, 2, last.holders(), "by what the world does, too, and not only by what is remembered of it")
}
