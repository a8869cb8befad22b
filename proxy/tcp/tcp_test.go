package tcp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

func refused(t testing.TB, r *rig, i int) {
	t.Helper()
	_, err := r.ask(i)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestAddress(t *testing.T) {
	r := start(t)
	s := serve(t, "127.0.0.1:0", echo)
	r.must(listener(t, s.addr.String()))
	c := r.connect(0)
	echoes(t, c, "word")
	c.CloseWrite()
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Empty(t, rest)
	rec := r.last(1)
	assert.Equal(t, "closed", rec.End)
	assert.EqualValues(t, 4, rec.Received)
	assert.EqualValues(t, 4, rec.Sent)
	assert.Equal(t, s.addr.String(), rec.Destination)
	assert.Equal(t, 1, rec.Attempts)
	assert.Contains(t, string(accesslog.ConnectionJSON(nil, &rec)), `"end":"closed"}`)
}

// The source address is the one given; the destination sees it.
func TestSource(t *testing.T) {
	r := start(t)
	r.sources = []netip.Addr{netip.MustParseAddr("127.0.0.9")}
	s := serve(t, "127.0.0.1:0", func(c *net.TCPConn) { say(c.RemoteAddr().(*net.TCPAddr).IP.String())(c) })
	r.must(listener(t, s.addr.String()))
	assert.Equal(t, "127.0.0.9", r.got(0))
	assert.Equal(t, "127.0.0.9", r.last(1).Source.String())
}

// A name that moves: new connections go to the new address, the open one stays,
// and what has vanished is shown as draining until it ends.
func TestNameMoves(t *testing.T) {
	r := start(t)
	const b = "127.0.0.3"
	port := ""
	for free := false; !free; { // the port of one may be somebody's at the other
		_, port, _ = net.SplitHostPort(serve(t, "127.0.0.2:0", echo).addr.String())
		l, err := net.Listen("tcp", net.JoinHostPort(b, port))
		if free = err == nil; free {
			l.Close()
		}
	}
	serve(t, net.JoinHostPort(b, port), say("new"))
	r.dns.Set("db.test", nettest.Addrs("127.0.0.2").TTL(0))
	r.must(listener(t, "db.test:"+port))
	c := r.connect(0)
	echoes(t, c, "one")
	r.dns.Set("db.test", nettest.Addrs(b).TTL(0))
	nettest.Eventually(t, "the move is seen", func() bool { return strings.Contains(r.state(), b+" (up") })
	assert.Equal(t, "new", r.got(0))
	assert.Contains(t, r.state(), "127.0.0.2 (draining, 1 open)")
	echoes(t, c, "two")
	c.Close()
	nettest.Eventually(t, "the old address is forgotten", func() bool { return !strings.Contains(r.state(), "127.0.0.2") })
	// And back again, to one that had been there before.
	r.dns.Set("db.test", nettest.Addrs("127.0.0.2", b).TTL(0))
	nettest.Eventually(t, "both are there", func() bool { return strings.Count(r.state(), "(up") == 2 })
}

// A name that does not exist at the start: the port listens, resets whoever
// comes, says that it is not ready, and heals.
func TestHeals(t *testing.T) {
	changes := make(chan struct{}, 1000)
	r := start(t, func(o *Options) { o.Changed = func() { changes <- struct{}{} } })
	s := serve(t, "127.0.0.1:0", say("here"))
	port := fmt.Sprint(s.addr.Port())
	r.must(listener(t, "db.test:"+port))
	refused(t, r, 0)
	assert.False(t, r.Ready())
	assert.Contains(t, r.state(), "db.test:"+port+": look up db.test")
	rec := r.last(1)
	assert.Equal(t, "no_address", rec.Refused)
	assert.Contains(t, rec.Error, "no such name (NXDOMAIN)")
	r.dns.Set("db.test", nettest.Addrs("127.0.0.1").TTL(0))
	nettest.Eventually(t, "it heals", r.Ready)
	assert.Equal(t, "here", r.got(0))
	assert.NotEmpty(t, changes)
	// Servers that fail are no reason to forget an address.
	r.dns.Set("db.test", nettest.ServFail())
	nettest.Eventually(t, "the failure is seen", func() bool { return strings.Contains(r.state(), "SERVFAIL") })
	assert.Equal(t, "here", r.got(0))
	// That the name is gone is one, after a while (here 0).
	r.dns.Set("db.test", nettest.NXDomain())
	nettest.Eventually(t, "the end is seen", func() bool { return !r.Ready() })
	refused(t, r, 0)
}

// A dead address is left out after one client has found it, and comes back.
func TestDeadAddress(t *testing.T) {
	r := start(t)
	servers, port := several(t, 3)
	r.dns.Set("db.test", nettest.Addrs("127.0.0.2", "127.0.0.3", "127.0.0.4"))
	r.must(listener(t, "db.test:"+port))
	seen := map[string]int{}
	for range 9 {
		seen[r.got(0)]++
	}
	assert.Equal(t, map[string]int{"2": 3, "3": 3, "4": 3}, seen, "round robin")
	servers[1].stop()
	seen = map[string]int{}
	for range 8 {
		seen[r.got(0)]++ // no client is refused
	}
	assert.Zero(t, seen["3"])
	assert.Contains(t, r.state(), "127.0.0.3 (down")
	serve(t, "127.0.0.3:"+port, say("back"))
	nettest.Eventually(t, "it is used again", func() bool { return r.got(0) == "back" })
	assert.Contains(t, r.state(), "127.0.0.3 (up")
}

// Three addresses are tried, not four, each once; then the client is refused.
func TestThreeAttempts(t *testing.T) {
	r := start(t)
	servers, port := several(t, 4)
	r.dns.Set("db.test", nettest.Addrs("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"))
	for _, s := range servers[:3] {
		s.stop()
	}
	r.pace.firstRetry, r.pace.lastRetry = time.Hour, time.Hour
	r.must(listener(t, "db.test:"+port))
	refused(t, r, 0)
	rec := r.last(1)
	assert.Equal(t, 3, rec.Attempts)
	assert.Equal(t, "connect", rec.Refused)
	assert.Equal(t, "connect to 127.0.0.4:"+port+": connection refused", rec.Error)
	assert.Equal(t, "5", r.got(0), "the three are left out now")
	assert.Equal(t, 1, r.last(2).Attempts)
	servers[3].stop()
	refused(t, r, 0)
	assert.Equal(t, 3, r.last(3).Attempts, "those left out are a last resort")
}

func TestLeastConnections(t *testing.T) {
	r := start(t)
	_, port := several(t, 3)
	l := listener(t, "127.0.0.2:"+port, "127.0.0.3:"+port, "127.0.0.4:"+port)
	l.Balance = LeastConnections
	r.must(l)
	first := func() string {
		c := r.connect(0)
		b := make([]byte, 1)
		_, err := io.ReadFull(c, b)
		require.NoError(t, err)
		return string(b)
	}
	seen := map[string]int{}
	for range 6 {
		seen[first()]++ // and stays open
	}
	assert.Equal(t, map[string]int{"2": 2, "3": 2, "4": 2}, seen)
}

// The same client goes to the same address, and only the clients of an address
// that goes move.
func TestSourceHash(t *testing.T) {
	var list []*address
	for i := range 5 {
		d := &destination{target: acl.Target{Port: 80}}
		list = append(list, &address{d: d, addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})})
		set := []*address{list[i]}
		d.list.Store(&set)
	}
	group := func(as []*address) *group {
		g := &group{balance: SourceHash}
		for _, a := range as {
			g.members = append(g.members, a.d)
		}
		return g
	}
	all, four := group(list), group(list[:4])
	count := map[netip.Addr]int{}
	for i := range 5000 {
		client := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		was := all.order(client)[0].addr
		require.Equal(t, was, all.order(client)[0].addr)
		count[was]++
		if was != list[4].addr {
			require.Equal(t, was, four.order(client)[0].addr)
		}
	}
	for a, n := range count {
		assert.InDelta(t, 1000, n, 150, a)
	}
}

// Half-closes pass both ways, and a reset arrives as a reset.
func TestHalfCloseAndReset(t *testing.T) {
	r := start(t)
	s := serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
		q, _ := io.ReadAll(c) // until the client has said all
		if string(q) == "reset" {
			c.SetLinger(0)
			return
		}
		io.WriteString(c, "answer to "+string(q))
	})
	r.must(listener(t, s.addr.String()))
	for _, word := range []string{"question", strings.Repeat("x", 1<<20)} {
		c := r.connect(0)
		io.WriteString(c, word)
		c.CloseWrite()
		a, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, "answer to "+word, string(a))
	}
	c := r.connect(0)
	io.WriteString(c, "reset")
	c.CloseWrite()
	_, err := io.ReadAll(c)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	assert.Equal(t, "reset", r.last(3).End)
}

// The server that speaks first is heard.
func TestServerFirst(t *testing.T) {
	r := start(t)
	s := serve(t, "127.0.0.1:0", func(c *net.TCPConn) { io.WriteString(c, "220 hello"); io.Copy(io.Discard, c) })
	r.must(listener(t, s.addr.String()))
	b := make([]byte, 9)
	_, err := io.ReadFull(r.connect(0), b)
	require.NoError(t, err)
	assert.Equal(t, "220 hello", string(b))
}

// The guard: an address that is written down unlocks itself, a name does not.
func TestGuard(t *testing.T) {
	r := start(t)
	r.guard = acl.GuardDefault
	s := serve(t, "127.0.0.1:0", say("in"))
	port := fmt.Sprint(s.addr.Port())
	other := serve(t, "127.0.0.1:0", say("other"))
	r.dns.Set("evil.test", nettest.Addrs("127.0.0.1"))
	r.dns.Set("meta.test", nettest.Addrs("169.254.169.254"))
	r.must(listener(t, "127.0.0.1:"+port), listener(t, "evil.test:"+fmt.Sprint(other.addr.Port())), listener(t, "meta.test:80"))
	assert.Equal(t, "in", r.got(0))
	refused(t, r, 1)
	assert.Zero(t, other.accepted())
	refused(t, r, 2)
	assert.Contains(t, r.Status()[1].Destinations[0].Problem, "denied: guard loopback")
	assert.Contains(t, r.Status()[2].Destinations[0].Problem, "denied: guard link-local")
	// Once it is in force, a stricter generation holds at the next connection.
	r.SetGeneration(nil)
	refused(t, r, 0)
}

// One hour without a byte, by the clock of the server: nothing is cut without an
// idle limit, and with one it is.
func TestIdleHour(t *testing.T) {
	r := start(t)
	s := serve(t, "127.0.0.1:0", echo)
	r.must(listener(t, s.addr.String()))
	c := r.connect(0)
	echoes(t, c, "before")
	hours := time.Duration(0)
	hour := func() {
		hours += time.Hour
		r.door.Sweep(time.Now().Add(hours))
	}
	for range 24 {
		hour()
	}
	echoes(t, c, "after a day")

	r.config.IdleTimeout = 2 * time.Hour
	r.must(r.config.Listeners...)
	d := r.connect(0)
	echoes(t, d, "new")
	hour()
	echoes(t, d, "after an hour")
	nettest.Eventually(t, "two hours are too much", func() bool {
		hour()
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.records) > 0
	})
	assert.Equal(t, "idle", r.last(1).End)
}

// An open connection in which nothing moves keeps no goroutine, and so neither
// stack nor buffer; its first byte is carried all the same.
func TestQuietHoldsNoGoroutine(t *testing.T) {
	r := start(t)
	s := serve(t, "127.0.0.1:0", echo)
	r.must(listener(t, s.addr.String()))
	var open []*net.TCPConn
	for range 20 {
		c := r.connect(0)
		echoes(t, c, "hello")
		open = append(open, c)
	}
	nettest.Eventually(t, "no goroutine is a session's", func() bool {
		var b bytes.Buffer
		require.NoError(t, pprof.Lookup("goroutine").WriteTo(&b, 2))
		return !strings.Contains(b.String(), "tcp.(*session)")
	})
	for _, c := range open {
		echoes(t, c, "still here")
	}
}

// At the end open connections go on, new ones are not taken, and what is left at
// the limit is cut.
func TestShutdown(t *testing.T) {
	r := start(t)
	s := serve(t, "127.0.0.1:0", echo)
	r.must(listener(t, s.addr.String()))
	addr := r.Status()[0].Addr.String()
	stays, cut := r.connect(0), r.connect(0)
	echoes(t, stays, "a")
	echoes(t, cut, "a")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { r.Shutdown(ctx); close(done) }()
	nettest.Eventually(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	assert.False(t, r.Ready())
	echoes(t, stays, "goes on")
	stays.CloseWrite()
	_, err := io.ReadAll(stays)
	require.NoError(t, err)
	r.logged(1, func(rec accesslog.Connection) bool { return rec.End == "closed" && rec.Received == 8 })
	cancel()
	<-done
	io.ReadAll(cut)
	r.logged(1, func(rec accesslog.Connection) bool { return rec.End == "shutdown" && rec.Received == 1 })
}

// A reload: sockets that stay are the same, connections live on, what goes goes,
// and a port that can't be opened changes nothing.
func TestReload(t *testing.T) {
	r := start(t)
	a, b := serve(t, "127.0.0.1:0", echo), serve(t, "127.0.0.1:0", say("b"))
	taken := serve(t, "127.0.0.1:0", say("taken"))
	first := listener(t, a.addr.String())
	r.must(first)
	socket := (*r.ports.Load())[0].l
	c := r.connect(0)
	echoes(t, c, "before")

	second := listener(t, b.addr.String())
	r.must(second)
	require.Same(t, socket, (*r.ports.Load())[0].l)
	echoes(t, c, "goes on")
	assert.Equal(t, "b", r.got(0))

	bad := second
	bad.Listen = taken.addr.String()
	err := r.apply(first, bad)
	require.ErrorContains(t, err, "listen on "+bad.Listen+": ")
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	assert.Equal(t, "b", r.got(0), "nothing has changed")

	more := listener(t, a.addr.String())
	r.must(second, more)
	addr := r.Status()[1].Addr.String()
	d := r.connect(1)
	echoes(t, d, "two ports")
	r.must(second)
	echoes(t, d, "the port has gone, the connection has not")
	_, err = net.Dial("tcp", addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	echoes(t, c, "still there")
	c.Close()
	d.Close()
	r.last(4)
	families, err := r.reg.Gather()
	require.NoError(t, err)
	nettest.Eventually(t, "series of what has gone are gone", func() bool {
		families, err = r.reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "sluice_tcp_up" {
				return len(f.GetMetric()) == 1
			}
		}
		return false
	})
}

// Limits refuse by a reset, and free themselves.
func TestLimits(t *testing.T) {
	budget := fdbudget.New(5)
	r := start(t, func(o *Options) { o.Budget = budget })
	s := serve(t, "127.0.0.1:0", echo)
	r.must(listener(t, s.addr.String()))
	c, d := r.connect(0), r.connect(0)
	echoes(t, c, "1")
	echoes(t, d, "2")
	refused(t, r, 0)
	assert.Equal(t, "limit", r.last(1).Refused)
	c.Close()
	nettest.Eventually(t, "there is room again", func() bool { return budget.Left() >= 3 })
	r.config.MaxConns = 1
	r.must(r.config.Listeners...)
	refused(t, r, 0)
	assert.Equal(t, "too many connections", r.last(3).Error)
	d.Close()
	nettest.Eventually(t, "there is room again", func() bool { _, err := r.ask(0); return err == nil })
	nettest.Eventually(t, "all is given back", func() bool { return budget.Left() == 5 })
}
