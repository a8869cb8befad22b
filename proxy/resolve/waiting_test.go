package resolve

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// hush is the address of a server that never answers.
func hush(t testing.TB) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { pc.Close() })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// crowd has n callers wait for a name each, and returns when all do. The end of ctx
// sends them away; all is done then.
func crowd(ctx context.Context, t testing.TB, r *Resolver, n int) *sync.WaitGroup {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { _, _ = r.Lookup(ctx, fmt.Sprintf("name%d.silent.test", i)) })
	}
	nettest.Eventually(t, "all wait", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.flights) == n
	})
	return &all
}

// BenchmarkWaiting is what a caller costs that waits for a server which keeps silent:
// memory, descriptors and goroutines, its own among them.
func BenchmarkWaiting(b *testing.B) {
	const callers = 2000
	var silences atomic.Int64
	r, err := New(Options{Servers: []netip.AddrPort{hush(b)}, ResolvConf: os.DevNull, HostsFile: os.DevNull, Timeout: time.Minute,
		Observe: func(e Event) {
			if e.Kind == QueryTimeout {
				silences.Add(1)
			}
		}})
	require.NoError(b, err)
	defer r.Close()
	for b.Loop() {
		ctx, leave := context.WithCancel(context.Background())
		before, goroutines := inUse(), runtime.NumGoroutine()
		silences.Store(0)
		all := crowd(ctx, b, r, callers)
		nettest.Eventually(b, "each family of each name was asked for again", func() bool { return silences.Load() >= 2*callers })
		b.ReportMetric(float64(inUse()-before)/callers, "B/caller")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/callers, "goroutines/caller")
		b.ReportMetric(float64(descriptors(b)), "descriptors")
		leave()
		all.Wait()
	}
}

// inUse is the memory in use, stacks included.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// descriptors counts the open descriptors of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(fds)
}

// However many wait for a server that keeps silent, descriptors are few, and a name that
// is answered is answered at once.
func TestManyWaitByFewDescriptors(t *testing.T) {
	// Alone in the process: it counts what is the process's.
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	answering := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if !strings.Contains(strings.ToLower(q.Question[0].Name), "silent") {
			_ = w.WriteMsg(address(q))
		}
	})}
	go func() { _ = answering.ActivateAndServe() }()
	defer answering.Shutdown()
	before := udpSockets(t)
	budget := fdbudget.New(896) // what ulimit -n 1024 leaves
	r, err := New(Options{Servers: []netip.AddrPort{pc.LocalAddr().(*net.UDPAddr).AddrPort()},
		ResolvConf: os.DevNull, HostsFile: os.DevNull, Timeout: time.Minute, Budget: budget})
	require.NoError(t, err)
	require.EqualValues(t, 896-mostDescriptors, budget.Left())
	for _, n := range []int{240, 2000} {
		ctx, leave := context.WithCancel(context.Background())
		all := crowd(ctx, t, r, n)
		for i := range 50 {
			begin := time.Now()
			addrs, err := r.Lookup(context.Background(), fmt.Sprintf("good%d.test", i))
			require.NoError(t, err)
			require.Len(t, addrs, 1)
			require.Less(t, time.Since(begin), 10*time.Second)
		}
		open := udpSockets(t) - before
		require.LessOrEqual(t, open, mostDescriptors*(tcpPart-1)/tcpPart)
		require.Equal(t, r.sockets.count(), open)
		leave()
		all.Wait()
		nettest.Eventually(t, "the sockets are closed", func() bool { return udpSockets(t) == before })
	}
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	require.EqualValues(t, 896, budget.Left())
}

// Names in flight are bounded. Who asks for one of them waits with the others, and who
// asks for another is told so at once; addresses past their time are better than that.
func TestNamesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("stale.test", nettest.Addrs("192.0.2.7", "2001:db8::7"))
	for i := range 3 {
		s.Set(fmt.Sprintf("name%d.silent.test", i), nettest.Silent())
	}
	s.Set("other.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	r := start(t, s, func(o *Options) { o.Timeout, o.MaxNames = time.Minute, 3 })
	r.look("stale.test")
	r.advance(time.Minute)
	ctx, leave := context.WithCancel(context.Background())
	all := crowd(ctx, t, r.Resolver, 3)
	r.kinds()

	const busy = "busy: look up other.test: 3 names are being looked up already; do the DNS servers answer?"
	require.Equal(t, busy, r.look("other.test"))
	require.Equal(t, []string{"busy"}, r.kinds())
	require.Equal(t, "192.0.2.7 2001:db8::7", r.look("stale.test"))
	all.Go(func() { _, _ = r.Lookup(ctx, "name1.silent.test") })
	r.untilWaiting("name1.silent.test", 2)

	leave()
	all.Wait()
	nettest.Eventually(t, "it is no longer remembered", func() bool { return r.look("other.test") == "192.0.2.1 2001:db8::1" })
}

// A budget that has little gives a part of it, and one that has next to nothing is told of.
func TestDescriptorsOfASmallBudget(t *testing.T) {
	t.Parallel()
	for has, takes := range map[int64]int64{1 << 20: 64, 400: 50, 32: 16, 16: 16} {
		b := fdbudget.New(has)
		r, err := New(Options{Servers: []netip.AddrPort{hush(t)}, ResolvConf: os.DevNull, Budget: b})
		require.NoError(t, err)
		require.Equal(t, has-takes, b.Left())
		require.LessOrEqual(t, int64(2*len(r.sockets.slots)+cap(r.tcp)), takes)
		require.NoError(t, r.Close())
		require.Equal(t, has, b.Left())
	}
	_, err := New(Options{Servers: []netip.AddrPort{hush(t)}, ResolvConf: os.DevNull, Budget: fdbudget.New(15)})
	require.EqualError(t, err, "start resolver: the limit of open files leaves no descriptors for DNS; raise it (ulimit -n, LimitNOFILE)")
}

// Questions that share sockets differ in their IDs; a socket takes questions for its time
// and no longer; and one more question never opens more sockets than there may be.
func TestSharedSocketsAreRotated(t *testing.T) {
	t.Parallel()
	r, err := New(Options{Servers: []netip.AddrPort{hush(t), hush(t), hush(t)}, ResolvConf: os.DevNull, Budget: fdbudget.New(16)})
	require.NoError(t, err)
	defer r.Close()
	defer func() { // those who ask do that
		r.sockets.mu.Lock()
		defer r.sockets.mu.Unlock()
		for i := range r.sockets.slots {
			r.sockets.slots[i].now.close()
			r.sockets.slots[i].before.close()
		}
	}()
	u := *r.conf.get(0)
	mail := &mailbox{bell: make(chan struct{}, 1)}
	type port struct {
		k  *socket
		id uint16
	}
	ask := func(n int) map[port]bool {
		seen := map[port]bool{}
		for i := range n {
			q := &question{s: u.servers[i%3], to: mail, asked: dns.Question{Name: "host.test.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
			require.NoError(t, r.sockets.put(q))
			require.Equal(t, u.servers[i%3], q.k.s)
			require.Equal(t, q, q.k.find(q.id))
			seen[port{q.k, q.id}] = true
			require.LessOrEqual(t, r.sockets.count(), 12)
		}
		return seen
	}
	first := ask(300)
	require.Len(t, first, 300)
	require.Equal(t, 6, r.sockets.count(), "one for each slot")
	old := map[*socket]bool{}
	for p := range first {
		old[p.k] = true
	}
	age := func() {
		r.sockets.mu.Lock()
		defer r.sockets.mu.Unlock()
		for i := range r.sockets.slots {
			r.sockets.slots[i].now.born = time.Now().Add(-r.sockets.life)
		}
	}
	age()
	for p := range ask(300) {
		require.False(t, old[p.k], "a socket past its time")
	}
	require.Equal(t, 12, r.sockets.count(), "the old ones still listen")
	age()
	ask(300)
	require.Equal(t, 12, r.sockets.count())
	for k := range old {
		require.Nil(t, k.first, "closed by now")
	}
}
