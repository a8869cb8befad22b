package hold

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// liveness finds how long it takes until somebody holds for good, when faults have ended and
// everybody does at each tick what is there to do. That is one way on, so it comes to a world
// that was there before, and what is known of one world serves all that lead to it.
type liveness struct {
	r     *rules
	c     *coder
	ticks map[key]int // until somebody holds for good
	worst int
	slow  *world // the one from which it takes longest
}

func newLiveness(r *rules) *liveness {
	calm := *r
	calm.faults = 0
	return &liveness{r: &calm, c: newCoder(&calm, newForms()), ticks: map[key]int{}}
}

// check goes on from w until it is known how it ends.
func (l *liveness) check(t *testing.T, w *world) {
	v := w.fork()
	v.faults = 0
	l.heal(v)
	var way []key
	var held []bool
	at := map[key]int{}
	for {
		v.prune(l.r)
		k := l.c.keyOf(v)
		if _, ok := l.ticks[k]; ok {
			way = append(way, k)
			break
		}
		if from, ok := at[k]; ok {
			for n := from; n < len(way); n++ {
				require.True(t, held[n], "nobody holds for ever, or not always: %s\nfrom %s", v.picture(l.r), w.picture(l.r))
				l.ticks[way[n]] = 0
			}
			way = append(way[:from], k)
			break
		}
		at[k] = len(way)
		way = append(way, k)
		held = append(held, l.next(v))
	}
	for n := len(way) - 2; n >= 0; n-- {
		l.ticks[way[n]] = 0
		if after := l.ticks[way[n+1]]; after > 0 || !held[n] {
			l.ticks[way[n]] = after + 1
		}
	}
	if n := l.ticks[way[0]]; n > l.worst {
		l.worst, l.slow = n, w
	}
}

// heal ends all faults: proxies serve, and who has ended is followed by another.
func (l *liveness) heal(v *world) {
	for i := range l.r.replicas {
		v.change(i)
		if p := v.replicas[i]; p.ended {
			v.start(l.r, i)
		} else if !p.s.serving {
			v.feed(l.r, i, Proxy{Serving: true})
		}
	}
}

// next does all that is to be done, lets a tick pass, and reports whether somebody held at
// its end.
func (l *liveness) next(v *world) bool {
	for range 3 {
		for i := range l.r.replicas {
			v.work(l.r, i)
			v.feed(l.r, i, Tick{})
			v.work(l.r, i)
			if v.replicas[i].ended {
				v.start(l.r, i)
			}
		}
	}
	v.pass(l.r)
	return v.holders() == 1
}
