package hold

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// In whatever order things are done, fail and come late, at most one kernel lets the address
// out; and from wherever that has led, somebody holds for good within some ticks of a world in
// which faults have ended.
//
// Source: failover.md, "Shown, not said", 1.
func TestExhaustiveNeverTwoHolders(t *testing.T) {
	sum := 0
	for _, s := range spaces() {
		if s.size != small && !*large {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			start, most := time.Now(), limits{}
			if s.size != small {
				most = largest()
			}
			l := newLiveness(s.rules)
			x := explore(s.rules, most, func(n int, world func() *world) {
				if n%50 == 0 || *large && s.size == small {
					l.check(t, world())
				}
			})
			x.safe(t)
			sum += x.nodes.n
			t.Logf("%v and %v; somebody holds for good after %d ticks at most", x, time.Since(start).Round(time.Second/10), l.worst)
			assert.True(t, x.whole || s.size == endless, "the space is to be explored whole")
			assert.LessOrEqual(t, l.worst, bound(s.rules), "from %v", l.slow)
		})
	}
	t.Logf("%d states", sum)
}

// bound is how many ticks it may take: two waits, as when the Lease is deleted when the first
// is nearly over, and what a holder that leaves takes.
func bound(r *rules) int {
	longest := time.Duration(0)
	for i := range r.replicas {
		s := r.set[i]
		longest = max(longest, 2*s.Lease+s.SuccessorWait+s.DrainTimeout+s.Retry)
	}
	return int(longest/tick) + 2
}
