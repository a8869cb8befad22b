package outbound

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Attempts beside the first are bounded, and each is in the budget: a name with many dead
// addresses takes no more descriptors than were counted. Where none is left the addresses are
// tried one after the other all the same.
func TestAttemptsBesideAreBudgeted(t *testing.T) {
	var addrs []netip.Addr
	for i := range 60 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	for name, tt := range map[string]struct {
		budget int64
		most   int64
	}{"enough": {100, attemptsBeside}, "a few": {3, 4}, "none": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			budget := fdbudget.New(tt.budget)
			var open, most, tried atomic.Int64
			hang := func(ctx context.Context, _ netip.Addr, _ netip.AddrPort) (*sock.Conn, error) {
				n := open.Add(1)
				defer open.Add(-1)
				tried.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				if tt.budget == 0 {
					return nil, errors.New("dead")
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			g := NewGate(nil, hang, NewPool(budget, time.Minute))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := g.Blocking().Connect(ctx, &Route{addrs: addrs, port: 80})
				done <- err
			}()
			if tt.budget == 0 {
				require.Error(t, <-done)
				assert.EqualValues(t, len(addrs), tried.Load())
			} else {
				nettest.Eventually(t, "so many are tried", func() bool { return most.Load() == tt.most })
				assert.EqualValues(t, tt.budget-tt.most+1, budget.Left())
				cancel()
				require.Error(t, <-done)
			}
			cancel()
			assert.Equal(t, tt.most, most.Load())
			nettest.Eventually(t, "descriptors are given back", func() bool { return budget.Left() == tt.budget })
		})
	}
}
