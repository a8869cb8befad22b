package tcp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server with a scripted DNS server behind it.
type rig struct {
	*Server
	t       testing.TB
	dns     *nettest.DNS
	reg     *prometheus.Registry
	guard   acl.GuardMode
	sources []netip.Addr
	config  Config

	mu      sync.Mutex
	records []accesslog.Connection
}

// start makes a server that is in a hurry. Its guard is off: everything here is
// on loopback.
func start(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, dns: nettest.NewDNS(t), reg: prometheus.NewRegistry(), guard: acl.GuardOff}
	res, err := resolve.New(resolve.Options{Servers: []netip.AddrPort{r.dns.Addr()}, ResolvConf: os.DevNull,
		HostsFile: os.DevNull, NegativeTTLMax: -1, FailureTTL: -1})
	require.NoError(t, err)
	t.Cleanup(func() { res.Close() })
	o := Options{
		Gate: outbound.NewGate(res.Lookup, dial.TCP, outbound.NewPool(nil, time.Minute)),
		TTL:  res.TTL, Metrics: metrics.NewTCP(r.reg), Log: slog.New(slog.DiscardHandler),
		Access: accessLog(t, func(b []byte, rec *accesslog.Connection) []byte {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.records = append(r.records, *rec)
			return b
		}),
	}
	o.Gate.Begin = dial.Begin
	for _, f := range change {
		f(&o)
	}
	r.Server = New(o)
	r.pace = pace{5 * time.Millisecond, 0, 5 * time.Millisecond, 20 * time.Millisecond}
	r.config = Config{HeadTimeout: 20 * time.Second, ConnectTimeout: 5 * time.Second, DNSTimeout: 5 * time.Second}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.Shutdown(ctx)
	})
	return r
}

// accessLog is an access log whose lines go nowhere but to format.
func accessLog(t testing.TB, format accesslog.Format[accesslog.Connection]) *accesslog.Log[accesslog.Connection] {
	lines := linelog.New(io.Discard, linelog.Options{})
	t.Cleanup(func() { lines.Close(time.Minute) })
	return accesslog.New(lines, format)
}

func target(t testing.TB, s string) acl.Target {
	t.Helper()
	tg, err := acl.ParseTarget(s)
	require.NoError(t, err)
	return tg
}

// listener leads to destinations, HOST:PORT.
func listener(t testing.TB, to ...string) Listener {
	l := Listener{Label: "p", Listen: "127.0.0.1:0", Check: Check{Rise: 2, Fall: 3}}
	for _, s := range to {
		l.Destinations = append(l.Destinations, target(t, s))
	}
	return l
}

// apply puts listeners in force.
func (r *rig) apply(ls ...Listener) error {
	var rules []string
	add := func(ts []acl.Target) {
		for _, t := range ts {
			rules = append(rules, net.JoinHostPort(t.Host.String(), fmt.Sprint(t.Port)))
		}
	}
	for _, l := range ls {
		add(l.Destinations)
		for _, rt := range l.Routes {
			add(rt.Destinations)
		}
	}
	p, err := acl.Parse(strings.Join(rules, "\n"))
	require.NoError(r.t, err)
	r.config.Listeners = ls
	r.config.Generation = policy.New(policy.Tenant{Rules: p.WithGuard(acl.Guard{Mode: r.guard}), Sources: policy.NewSources(r.sources)})
	return r.Apply(r.config)
}

func (r *rig) must(ls ...Listener) {
	r.t.Helper()
	require.NoError(r.t, r.apply(ls...))
}

// connect opens a connection to the i-th port.
func (r *rig) connect(i int) *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Status()[i].Addr.String())
	require.NoError(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// ask opens a connection, ends its sending half and returns all that comes.
func (r *rig) ask(i int) (string, error) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Status()[i].Addr.String())
	if err != nil {
		return "", err // the reset may come that soon
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	return string(b), err
}

// got is what ask gave, without an error.
func (r *rig) got(i int) string {
	r.t.Helper()
	s, err := r.ask(i)
	require.NoError(r.t, err)
	return s
}

// last waits for n records and returns the last.
func (r *rig) last(n int) accesslog.Connection {
	r.t.Helper()
	var rec accesslog.Connection
	nettest.Eventually(r.t, fmt.Sprintf("%d connections are logged", n), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.records) >= n {
			rec = r.records[n-1]
		}
		return len(r.records) >= n
	})
	return rec
}

// logged waits until n records are as ok says.
func (r *rig) logged(n int, ok func(accesslog.Connection) bool) {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			r.t.Logf("logged: %+v", r.records)
		}
	}()
	nettest.Eventually(r.t, "the connections are logged", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		found := 0
		for _, rec := range r.records {
			if ok(rec) {
				found++
			}
		}
		return found == n
	})
}

// state is what is known of the first destination of the first port.
func (r *rig) state() string { return r.Status()[0].Destinations[0].String() }

// server accepts connections and serves them.
type server struct {
	l    net.Listener
	addr netip.AddrPort
	open sync.WaitGroup
	mu   sync.Mutex
	n    int // accepted
}

func (s *server) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *server) stop() {
	s.l.Close()
	s.open.Wait()
}

// serve listens at addr, ADDR:PORT, and gives each connection to handle, which
// owns it.
func serve(t testing.TB, addr string, handle func(*net.TCPConn)) *server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	s := &server{l: l, addr: l.Addr().(*net.TCPAddr).AddrPort()}
	s.open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.n++
			s.mu.Unlock()
			s.open.Go(func() { defer c.Close(); handle(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(s.stop)
	return s
}

// say answers each connection with a word.
func say(word string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		io.WriteString(c, word)
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}
}

// echo sends back what comes.
func echo(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
}

// several serves words on one port of 127.0.0.2, .3 and so on: "2", "3" …
func several(t testing.TB, n int) (all []*server, port string) {
	t.Helper()
	for range 20 {
		all = []*server{serve(t, "127.0.0.2:0", say("2"))}
		port = fmt.Sprint(all[0].addr.Port())
		for i := 1; i < n; i++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:%s", i+2, port))
			if err != nil {
				break
			}
			l.Close()
			all = append(all, serve(t, fmt.Sprintf("127.0.0.%d:%s", i+2, port), say(fmt.Sprint(i+2))))
		}
		if len(all) == n {
			return all, port
		}
	}
	t.Fatal("no port is free on so many addresses")
	return nil, ""
}

func echoes(t testing.TB, c net.Conn, word string) {
	t.Helper()
	_, err := io.WriteString(c, word)
	require.NoError(t, err)
	got := make([]byte, len(word))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, word, string(got))
}
