package resolve

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// waiting reports how many callers wait for name.
func (b *bench) waiting(name string) int {
	b.Resolver.mu.Lock()
	defer b.Resolver.mu.Unlock()
	if f := b.flights[name]; f != nil {
		return f.waiters
	}
	return 0
}

// untilWaiting returns when n callers wait for name.
func (b *bench) untilWaiting(name string, n int) {
	b.t.Helper()
	nettest.Eventually(b.t, fmt.Sprintf("%d wait for %s", n, name), func() bool { return b.waiting(name) == n })
}

func TestConcurrentQuestionsAreFolded(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	gate := make(chan struct{})
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1").TTL(0).Gate(gate))
	r := start(t, s)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			addrs, err := r.Lookup(context.Background(), "host.test")
			if err != nil || len(addrs) != 2 {
				t.Errorf("got %v, %v", addrs, err)
			}
		})
	}
	r.untilWaiting("host.test", 50)
	close(gate)
	all.Wait()
	require.Equal(t, 2, s.Asked("host.test"))
	kinds := r.kinds()
	count := map[string]int{}
	for _, k := range kinds {
		count[k]++
	}
	require.Equal(t, map[string]int{"answered": 2, "miss": 1, "folded": 49}, count)
}

func TestCallerThatLeavesDoesNotEndTheFlightOfOthers(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	gate := make(chan struct{})
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1").Gate(gate))
	r := start(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() {
		_, err := r.Lookup(ctx, "host.test")
		left <- err
	}()
	r.untilWaiting("host.test", 1)
	stayed := make(chan string, 1)
	go func() { stayed <- r.look("host.test") }()
	r.untilWaiting("host.test", 2)
	cancel()
	err := <-left
	require.EqualError(t, err, "look up host.test: context canceled")
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, ServerFailure, kindOf(err))
	close(gate)
	require.Equal(t, "192.0.2.1 2001:db8::1", <-stayed)
}

func TestLastCallerToLeaveEndsTheFlight(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Silent(), nettest.Addrs("192.0.2.1", "2001:db8::1"))
	r := start(t, s)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := r.Lookup(ctx, "host.test")
	require.EqualError(t, err, "look up host.test: context deadline exceeded")
	require.Equal(t, Timeout, kindOf(err))
	r.await(Abandoned)
	// It left nothing behind: the next caller asks afresh.
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
}

func TestSilentAAAADoesNotHoldBackA(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	gate := make(chan struct{})
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	s.SetType("host.test", dns.TypeAAAA, nettest.Addrs("2001:db8::1").Gate(gate))
	r := start(t, s)
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	require.Equal(t, "192.0.2.1", r.look("host.test")) // from the cache
	require.Equal(t, 2, s.Asked("host.test"))
	close(gate)
	r.await(LateAnswer)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	require.Equal(t, 2, s.Asked("host.test"))
}

func TestFlightsThatNobodyWaitsForAreBounded(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	for _, name := range []string{"a.test", "b.test", "c.test"} {
		s.Set(name, nettest.Addrs("192.0.2.1"))
		s.SetType(name, dns.TypeAAAA, nettest.Silent())
	}
	r := start(t, s, func(o *Options) { o.Timeout = time.Minute })
	r.maxLate = 2
	for _, name := range []string{"a.test", "b.test", "c.test"} {
		require.Equal(t, "192.0.2.1", r.look(name))
	}
	require.Equal(t, int64(2), r.late.Load())
	require.NoError(t, r.Close())
	require.Zero(t, r.late.Load())

	// Without room, nothing is left running: Close was not what ended it.
	r = start(t, s, func(o *Options) { o.Timeout = time.Minute })
	r.maxLate = 0
	require.Equal(t, "192.0.2.1", r.look("a.test"))
	begin := time.Now()
	r.running.Wait()
	require.Less(t, time.Since(begin), 30*time.Second)
}

func TestSilentADoesNotHoldBackAAAAForEver(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	gate := make(chan struct{})
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	s.SetType("host.test", dns.TypeA, nettest.Addrs("192.0.2.1").Gate(gate))
	r := start(t, s)
	require.Equal(t, "2001:db8::1", r.look("host.test"))
	close(gate)
	r.await(LateAnswer)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("silent.test", nettest.Silent())
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	r := start(t, s)
	r.look("host.test")
	got := make(chan string, 1)
	go func() { got <- r.look("silent.test") }()
	r.untilWaiting("silent.test", 1)
	require.NoError(t, r.Close())
	require.Equal(t, "server_failure: look up silent.test: resolver is closed", <-got)
	require.Equal(t, "server_failure: look up other.test: resolver is closed", r.look("other.test"))
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	require.NoError(t, r.Close())
}

func TestNoDescriptorLeft(t *testing.T) {
	// Alone in the process: the limit holds for every test.
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	s.Set("stale.test", nettest.Addrs("192.0.2.2", "2001:db8::2"))
	r := start(t, s)
	r.look("stale.test")
	r.advance(time.Minute)

	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	none := syscall.Rlimit{Cur: 0, Max: limit.Max}
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	addrs, err := r.Lookup(context.Background(), "host.test")
	stale, staleErr := r.Lookup(context.Background(), "stale.test")
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))

	require.Empty(t, addrs)
	require.ErrorIs(t, err, syscall.EMFILE)
	require.Equal(t, ServerFailure, kindOf(err))
	require.Equal(t, "look up host.test at "+s.Addr().String()+": dial udp "+s.Addr().String()+
		": socket: too many open files", err.Error())
	require.NoError(t, staleErr)
	require.Len(t, stale, 2)

	// It is not remembered.
	s.Forget()
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	require.Equal(t, "192.0.2.2 2001:db8::2", r.look("stale.test"))
	require.Len(t, s.Queries(), 4)
}

func TestRefusedPort(t *testing.T) {
	t.Parallel()
	addr := closedPort(t)
	r := start(t, nettest.NewDNS(t), func(o *Options) { o.Servers = []netip.AddrPort{addr} })
	_, err := r.Lookup(context.Background(), "host.test")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Equal(t, ServerFailure, kindOf(err))
	require.Equal(t, addr, r.await(QueryError).Server)
}
