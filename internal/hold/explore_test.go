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
	spaceTime = flag.Duration("space", 100*time.Second, "explore a large space for so long at most")
)

// Memory that an exploration may have, in bytes: what the garbage collector leaves, and in all.
const (
	mostLive = 9 << 30
	mostHeap = 12 << 30
)

// live is how many bytes the garbage collector has left.
func live() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// exploration is what there is to reach, breadth first.
type exploration struct {
	rules *rules
	limit int // of states; 0: none
	depth int // of the last state
	nodes []node
	seen  map[key]struct{}
	whole bool // nothing was left out
	bad   int  // the first world with two holders, or -1
}

// node is a world that was reached: from which other, by which of its moves.
type node struct {
	parent int32
	move   uint16
}

// block is how many worlds are gone on from at a time, by all processors.
const block = 4096

// found is a world that one of a block leads to.
type found struct {
	key   key
	move  uint16
	world *world
}

func explore(r *rules, limit int, each ...func(*world)) *exploration {
	x := &exploration{rules: r, limit: limit, seen: map[key]struct{}{}, bad: -1}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(mostHeap))
	end := time.Now().Add(*spaceTime)
	first := newWorld(r)
	x.seen[(&canon{r: r}).key(first)] = struct{}{}
	x.nodes = append(x.nodes, node{parent: -1})
	layer, at := []*world{first}, 0
	for len(layer) > 0 {
		var next []*world
		for begin := 0; begin < len(layer); begin += block {
			worlds := layer[begin:min(begin+block, len(layer))]
			for i, ahead := range x.ahead(worlds) {
				for _, do := range each {
					do(worlds[i])
				}
				worlds[i] = nil
				next = x.take(next, at, ahead)
				at++
				if x.bad >= 0 || limit > 0 && len(x.nodes) >= limit {
					return x
				}
			}
			if limit == budget && (time.Now().After(end) || live() > mostLive) {
				return x
			}
		}
		layer = next
		x.depth++
	}
	x.whole = true
	return x
}

// ahead are what the worlds lead to that was not reached before, in the order of their moves.
func (x *exploration) ahead(worlds []*world) [][]found {
	all := make([][]found, len(worlds))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for first := range workers {
		wg.Go(func() {
			c := &canon{r: x.rules}
			for i := first; i < len(worlds); i += workers {
				n := uint16(0)
				worlds[i].moves(x.rules, func(_ move, v *world) {
					n++
					v.prune(x.rules)
					k := c.key(v)
					if _, ok := x.seen[k]; !ok {
						all[i] = append(all[i], found{k, n - 1, v})
					}
				})
			}
		})
	}
	wg.Wait()
	return all
}

// take adds to next what the world with the number at leads to.
func (x *exploration) take(next []*world, at int, ahead []found) []*world {
	for _, f := range ahead {
		if _, ok := x.seen[f.key]; ok { // by another of the block
			continue
		}
		x.seen[f.key] = struct{}{}
		x.nodes = append(x.nodes, node{int32(at), f.move})
		next = append(next, f.world)
		if f.world.holders() > 1 {
			x.bad = len(x.nodes) - 1
			break
		}
	}
	return next
}

// trace is how the n-th world came about, a line for each move.
func (x *exploration) trace(n int) string {
	var way []uint16
	for at := n; x.nodes[at].parent >= 0; at = int(x.nodes[at].parent) {
		way = append(way, x.nodes[at].move)
	}
	slices.Reverse(way)
	w := newWorld(x.rules)
	var b strings.Builder
	for step, want := range way {
		at := uint16(0)
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
	return b.String()
}

func (x *exploration) String() string {
	what := "all"
	if !x.whole {
		what = "the first"
	}
	return fmt.Sprintf("%s %d states, %d moves deep", what, len(x.nodes), x.depth)
}

// safe asserts that no world that was reached has two holders.
func (x *exploration) safe(t *testing.T) {
	t.Helper()
	if x.bad >= 0 {
		require.Fail(t, "two holders", "after %d states:\n%s", len(x.nodes), x.trace(x.bad))
	}
}

// overlap asserts that one has, and prints the shortest way there.
func (x *exploration) overlap(t *testing.T) {
	t.Helper()
	require.GreaterOrEqual(t, x.bad, 0, "no overlap in %s: the exploration finds nothing", x)
	t.Logf("two holders after %d states, by %d moves:\n%s", len(x.nodes), x.depth+1, x.trace(x.bad))
	assert.NotZero(t, x.depth)
}
