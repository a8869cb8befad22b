package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
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
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names are the names that a test gateway resolves; any other does not exist.
type names map[string][]netip.Addr

// gateway is a proxy on loopback with its log.
type gateway struct {
	tenant policy.Tenant // in force with rules
	*Server
	Addr string
	log  *logBuffer
	reg  *prometheus.Registry

	mu    sync.Mutex
	asked map[string]bool // names looked up
}

// logBuffer collects the access log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rule that lets tests reach loopback, in front of each test's own.
const allowLoopback = "127.0.0.0/8\n"

// start runs a proxy with the rules; change, if not nil, adjusts its options.
func start(t testing.TB, rules string, known names, change func(*Options)) *gateway {
	t.Helper()
	g := &gateway{log: new(logBuffer), reg: prometheus.NewRegistry(), asked: map[string]bool{}}
	g.tenant.Contact = "net-team@example.com"
	lookup := func(_ context.Context, name string) ([]netip.Addr, error) {
		g.mu.Lock()
		g.asked[name] = true
		g.mu.Unlock()
		if a := known[name]; a != nil {
			return a, nil
		}
		return nil, &resolve.Error{Name: name, Kind: resolve.NotFound, Code: "NXDOMAIN"}
	}
	o := Options{
		Metrics:          metrics.New(g.reg, "test"),
		Log:              slog.New(slog.DiscardHandler),
		Budget:           fdbudget.New(1000),
		Name:             "sluice-test",
		Head:             http1.Limits{MaxHead: 64 << 10, MaxFields: 256},
		AnswerHead:       http1.Limits{MaxHead: 256 << 10, MaxFields: 1000},
		HeadTimeout:      10 * time.Second,
		ConnectTimeout:   5 * time.Second,
		IdleTimeout:      20 * time.Second,
		KeepAliveTimeout: 10 * time.Second,
	}
	lines := linelog.New(g.log, linelog.Options{Lost: func(int) { t.Error("a log line was lost") }})
	o.Access = accesslog.New(lines, accesslog.JSON)
	o.Gate = outbound.NewGate(lookup, dial.TCP, outbound.NewPool(o.Budget, time.Minute))
	o.Gate.Begin = dial.Begin
	o.Gate.Known = func(name string) ([]netip.Addr, bool, error) {
		addrs, err := lookup(t.Context(), name)
		return addrs, true, err
	}
	if change != nil {
		change(&o)
	}
	g.Server = New(o)
	g.rules(t, rules)
	l, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	g.Addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		g.Shutdown(ctx)
		require.NoError(t, <-served)
		lines.Close(time.Minute)
	})
	return g
}

// wasAsked reports whether the name was looked up.
func (g *gateway) wasAsked(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[name]
}

// rules puts new rules in force.
func (g *gateway) rules(t testing.TB, text string) {
	t.Helper()
	p, err := acl.Parse(text)
	require.NoError(t, err)
	g.tenant.Rules = p
	g.SetGeneration(policy.New(g.tenant))
}

// lines waits until the access log has n lines and returns them.
func (g *gateway) lines(t testing.TB, n int) []string {
	t.Helper()
	var lines []string
	ok := nettest.Within(30*time.Second, func() bool {
		lines = strings.Split(strings.TrimSuffix(g.log.String(), "\n"), "\n")
		return len(lines) >= n && lines[0] != ""
	})
	require.True(t, ok, "want %d lines, have %q", n, lines)
	require.Len(t, lines, n)
	return lines
}

// dial opens a raw client connection.
func (g *gateway) dial(t testing.TB) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", g.Addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return &rawClient{TCPConn: c.(*net.TCPConn), r: bufio.NewReader(c)}
}

// client is a real client: net/http's.
func (g *gateway) client(t testing.TB) *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: g.Addr})}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// rawClient speaks bytes.
type rawClient struct {
	*net.TCPConn
	r *bufio.Reader
}

func (c *rawClient) send(t testing.TB, format string, args ...any) {
	t.Helper()
	_, err := fmt.Fprintf(c, format, args...)
	require.NoError(t, err)
}

// head reads up to the empty line.
func (c *rawClient) head(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		require.NoError(t, err, "after %q", b.String())
		b.WriteString(line)
		if line == "\r\n" {
			return b.String()
		}
	}
}

// response reads a whole answer to a request of the method.
func (c *rawClient) response(t testing.TB, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(body)
}

// closed checks that the proxy has closed the connection, with nothing unread.
func (c *rawClient) closed(t testing.TB) {
	t.Helper()
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	require.Empty(t, string(b))
}

// origin runs a web server on loopback.
func origin(t testing.TB, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// rawOrigin runs a server that speaks bytes: script gets each connection.
func rawOrigin(t testing.TB, script func(c *rawClient)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				script(&rawClient{TCPConn: c.(*net.TCPConn), r: bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func portOf(hostport string) string {
	_, port, _ := net.SplitHostPort(hostport)
	return port
}
