package tcp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// world stands for the resolver and the network, by a clock that jumps.
type world struct {
	mu     sync.Mutex
	addrs  []netip.Addr
	err    error
	ttl    time.Duration
	looks  []time.Duration // when it was asked
	dials  []time.Duration
	refuse bool
	begin  time.Time
}

func (w *world) lookup(context.Context, string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks = append(w.looks, time.Since(w.begin))
	return w.addrs, w.err
}

func (w *world) dial(ctx context.Context, _ netip.Addr, _ netip.AddrPort) (*sock.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials = append(w.dials, time.Since(w.begin))
	if w.refuse {
		return nil, syscall.ECONNREFUSED
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return dial.TCP(ctx, netip.Addr{}, l.Addr().(*net.TCPAddr).AddrPort())
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// seen is a copy of what was written down.
func (w *world) seen(list *[]time.Duration) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Duration(nil), *list...)
}

// pass lets time pass, and what is due then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// follow runs f with a destination that lives in w.
func follow(t *testing.T, c Check, f func(w *world, s *Server, d *destination)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{begin: time.Now(), ttl: time.Minute, addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
		s := New(Options{
			Gate:    outbound.NewGate(w.lookup, w.dial, nil),
			TTL:     func(string) time.Duration { w.mu.Lock(); defer w.mu.Unlock(); return w.ttl },
			Metrics: metrics.NewTCP(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
		})
		p, err := acl.Parse("db.test:5432")
		require.NoError(t, err)
		s.live.Store(&settings{generation: policy.New(policy.Tenant{Rules: p}), connectTimeout: time.Second, dnsTimeout: time.Second})
		port := &port{srv: s, label: "5432", metrics: s.Metrics.Listener("5432")}
		port.plan.Store(&plan{})
		d := newDestination(port, target(t, "db.test:5432"), Listener{Check: c})
		synctest.Wait()
		f(w, s, d)
		d.stop()
		s.Shutdown(t.Context())
	})
}

// The name is looked up when its TTL has run out, and not before; at the least a
// second lies between two look-ups.
func TestFollowsTTL(t *testing.T) {
	follow(t, Check{}, func(w *world, s *Server, d *destination) {
		pass(59 * time.Second)
		require.Len(t, w.seen(&w.looks), 1)
		w.set(func() { w.ttl = 0; w.addrs = []netip.Addr{netip.MustParseAddr("192.0.2.2")} })
		pass(1100 * time.Millisecond)
		require.Len(t, w.seen(&w.looks), 2)
		assert.Contains(t, d.status().String(), "192.0.2.2 (up")
		pass(5 * time.Second)
		require.Len(t, w.seen(&w.looks), 7)
	})
}

// What DNS said last holds while DNS fails, for ever, and for a while when DNS
// says that there is no such name.
func TestKeepsAddresses(t *testing.T) {
	follow(t, Check{}, func(w *world, s *Server, d *destination) {
		w.set(func() { w.ttl = 0; w.err = &resolve.Error{Name: "db.test", Kind: resolve.Timeout} })
		pass(24 * time.Hour)
		assert.True(t, d.up())
		assert.Contains(t, d.status().Problem, "timeout")
		w.set(func() { w.err = nil })
		pass(2 * time.Second)
		w.set(func() { w.err = &resolve.Error{Name: "db.test", Kind: resolve.NotFound, Code: "NXDOMAIN"} })
		pass(29 * time.Second)
		assert.True(t, d.up())
		pass(3 * time.Second)
		assert.False(t, d.up())
		w.set(func() { w.err = nil })
		pass(2 * time.Second)
		assert.True(t, d.up())
		assert.Empty(t, d.status().Problem)
	})
}

// Without active checks nothing connects but for clients; what has failed is
// tried after 1, 2, 4, 8, 15, 15 … seconds, until it answers.
func TestPassiveHealth(t *testing.T) {
	follow(t, Check{Rise: 2, Fall: 3}, func(w *world, s *Server, d *destination) {
		pass(time.Hour)
		require.Empty(t, w.seen(&w.dials))
		w.set(func() { w.refuse = true; w.begin = time.Now() })
		a := (*d.list.Load())[0]
		a.failed(errors.New("by a client"))
		synctest.Wait()
		pass(50 * time.Second)
		assert.False(t, d.up())
		var seconds []int
		for _, at := range w.seen(&w.dials) {
			seconds = append(seconds, int(at/time.Second))
		}
		assert.Equal(t, []int{1, 3, 7, 15, 30, 45}, seconds)
		w.set(func() { w.refuse = false })
		pass(15 * time.Second)
		synctest.Wait()
		assert.True(t, d.up())
		n := len(w.seen(&w.dials))
		pass(time.Hour)
		assert.Len(t, w.seen(&w.dials), n)
	})
}

// With active checks: one failure at the start counts at once, later it takes
// fall; rise in a row bring it back.
func TestActiveChecks(t *testing.T) {
	follow(t, Check{Interval: 10 * time.Second, Rise: 2, Fall: 3}, func(w *world, s *Server, d *destination) {
		require.Len(t, w.seen(&w.dials), 1, "at once")
		require.True(t, d.up())
		w.set(func() { w.refuse = true })
		pass(21 * time.Second)
		assert.True(t, d.up(), "two failures")
		pass(10 * time.Second)
		assert.False(t, d.up(), "three")
		w.set(func() { w.refuse = false })
		pass(10 * time.Second)
		assert.False(t, d.up(), "one success")
		pass(10 * time.Second)
		assert.True(t, d.up(), "two")
		assert.Len(t, w.seen(&w.dials), 6)
	})
}

// A client's failure leaves an address out at once, even when checks find it well
// now and then: it takes rise of them to come back.
func TestActiveAndPassive(t *testing.T) {
	follow(t, Check{Interval: 10 * time.Second, Rise: 2, Fall: 3}, func(w *world, s *Server, d *destination) {
		(*d.list.Load())[0].failed(errors.New("by a client"))
		assert.False(t, d.up())
		pass(11 * time.Second)
		assert.False(t, d.up())
		pass(10 * time.Second)
		assert.True(t, d.up())
	})
}
