package drill

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/ca"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/tcp"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

// gate is a gateway with both front doors.
type gate struct {
	name    string
	patient bool // no limit of it is ever reached
	idle    time.Duration
	files   int64 // that it may open
	format  string

	http    *proxy.Server
	tcp     *tcp.Server
	addr    string
	tlsAddr string
	tcpAddr string
	socks   string // address for clients of SOCKS
	budgets [2]*fdbudget.Budget
	reg     *prometheus.Registry
	log     logCheck
	lines   *linelog.Log
	served  chan error // three times
}

func gates() []*gate {
	return []*gate{
		{name: "patient", patient: true, idle: time.Minute, files: 10_000, format: "json"},
		{name: "hasty", idle: 300 * time.Millisecond, files: 10_000, format: "combined"},
		{name: "poor", idle: time.Minute, files: 64, format: "squid"},
	}
}

// tenant is whose a worker's clients are.
type tenant struct {
	client, source string
	usage          policy.Usage
}

// tenants are those of the drill; the first has the clients that no other takes, and the other
// two come from one address, so that nothing but whose a connection is keeps them apart.
func tenants() []*tenant {
	return []*tenant{{client: "127.0.0.1", source: "127.0.0.1"}, {client: "127.0.0.21", source: "127.0.1.21"}, {client: "127.0.0.22", source: "127.0.1.21"}}
}

// credential is what the gateway puts into the requests of a tenant to insideHost.
func (n *tenant) credential() string { return "the-secret-of-" + n.client }

// inspecting is the CA of insideHost, and a client that trusts it.
func inspecting(t testing.TB) (*ca.Authority, *tls.Config) {
	cert, key, err := ca.Make("drill", []string{insideHost}, nil, time.Now().Add(48*time.Hour))
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	a, err := ca.New(pair)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(cert))
	return a, &tls.Config{RootCAs: roots, ServerName: insideHost, MinVersion: tls.VersionTLS12}
}

// inspect has the requests of a tenant to insideHost judged, at those ports, and carry its credential.
func (n *tenant) inspect(t testing.TB, authority *ca.Authority, ports ...int) *policy.Inspect {
	rules, err := request.Parse("!DELETE /**\n* /*/*/*\n", request.Options{})
	require.NoError(t, err)
	var hosts []policy.Inspected
	for _, port := range ports {
		hosts = append(hosts, policy.Inspected{Host: fmt.Sprintf("%s:%d", insideHost, port), Requests: rules,
			Headers: []policy.Header{policy.NewHeader("X-Credential", "Bearer ", []byte(n.credential()))}})
	}
	in, err := policy.NewInspect(hosts)
	require.NoError(t, err)
	in.Certificate = authority.Certificate
	return in
}

// policies are in force by turns. In both the requests to the ports inside are judged.
func policies(t testing.TB, tenants []*tenant, authority *ca.Authority, inside ...int) (all [2]*policy.Generation) {
	for i, text := range [...]string{"!denied.test\n127.0.0.0/8\n", "!denied.test\n!flip.test\n127.0.0.0/8 #@ protocol=http\n"} {
		p, err := acl.Parse(text)
		require.NoError(t, err)
		of := func(n int) policy.Tenant {
			return policy.Tenant{Name: fmt.Sprint("tenant-", n), Rules: p, Usage: &tenants[n].usage, Inspect: tenants[n].inspect(t, authority, inside...),
				Sources: policy.NewSources([]netip.Addr{netip.MustParseAddr(tenants[n].source)})}
		}
		s := policy.Set{Rest: of(0), Check: policy.CheckEnforce} // the second wants to see more than the first byte of a hello
		for n := range tenants[1:] {
			client := netip.MustParseAddr(tenants[n+1].client)
			s.Tenants = append(s.Tenants, policy.Taker{Tenant: of(n + 1), Clients: []netip.Prefix{netip.PrefixFrom(client, 32)}})
		}
		all[i] = s.Generation()
	}
	return all
}

// resolver knows the names of hosts.
func resolver(t testing.TB) *resolve.Resolver {
	d := nettest.NewDNS(t)
	d.Set("known.test", nettest.Addrs("127.0.0.1"))
	d.Set(insideHost, nettest.Addrs("127.0.0.1"))
	d.Set("flip.test", nettest.Addrs("127.0.0.1"))
	d.Set("brief.test", nettest.Addrs("127.0.0.1").TTL(0))
	d.Set("both.test", nettest.Addrs("127.0.0.2", "127.0.0.1"))
	r, err := resolve.New(resolve.Options{Servers: []netip.AddrPort{d.Addr()}, ResolvConf: os.DevNull, HostsFile: os.DevNull, Timeout: 30 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// certificate is one for every name here, and who trusts it.
func certificate(t testing.TB) (server, clients *tls.Config) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

func (g *gate) outbound(res *resolve.Resolver, i int) *outbound.Gate {
	g.budgets[i] = fdbudget.New(g.files)
	o := outbound.NewGate(res.Lookup, dial.TCP, outbound.NewPool(g.budgets[i], time.Minute))
	o.Known, o.Begin = res.Known, dial.Begin
	return o
}

// start runs g, whose TCP front door leads to that port.
func (g *gate) start(t testing.TB, res *resolve.Resolver, own, trust *tls.Config, gen *policy.Generation, tunnels int) {
	g.reg = prometheus.NewRegistry()
	g.log.t = t
	g.lines = linelog.New(&g.log, linelog.Options{Lost: func(int) { t.Error("a log line was lost") }})
	o := proxy.Options{
		Gate: g.outbound(res, 0), Metrics: metrics.New(g.reg, "drill"), Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})), Budget: g.budgets[0],
		Access: accesslog.New(g.lines, accesslog.Formats[g.format]),
		TLS:    trust, Name: "sluice-" + g.name, Head: http1.Limits{MaxHead: 64 << 10, MaxFields: 256}, AnswerHead: http1.Limits{MaxHead: 256 << 10, MaxFields: 1000},
		HeadTimeout: g.idle, ConnectTimeout: time.Minute, IdleTimeout: g.idle, KeepAliveTimeout: g.idle,
	}
	g.http = proxy.New(o)
	g.http.SetGeneration(gen)
	l, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	g.addr = l.Addr().String()
	g.served = make(chan error, 3)
	go func() { g.served <- g.http.Serve(l) }()
	secure, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	g.tlsAddr = secure.Addr().String()
	g.http.SetKeys(terminate.NewKeys(own.Certificates[0], nil))
	go func() { g.served <- g.http.ServeTLS(secure) }()
	socks, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	g.socks = socks.Addr().String()
	go func() { g.served <- g.http.ServeSOCKS(socks) }()

	gate := g.outbound(res, 1)
	g.tcp = tcp.New(tcp.Options{Gate: gate, TTL: res.TTL, Metrics: metrics.NewTCP(g.reg), Log: slog.New(slog.DiscardHandler), Budget: g.budgets[1],
		Panicked: contain.Log(o.Log, o.Metrics.Panics.Inc)})
	to, err := acl.ParseTarget(fmt.Sprintf("127.0.0.1:%d", tunnels))
	require.NoError(t, err)
	require.NoError(t, g.tcp.Apply(tcp.Config{
		Listeners:  []tcp.Listener{{Label: "drill", Listen: "127.0.0.1:0", Check: tcp.Check{Rise: 1, Fall: 3}, Destinations: []acl.Target{to}}},
		Generation: gen, HeadTimeout: g.idle, ConnectTimeout: time.Minute, DNSTimeout: time.Minute, IdleTimeout: g.idle,
	}))
	g.tcpAddr = g.tcp.Status()[0].Addr.String()
}

// stop ends g, of which nothing may be left.
func (g *gate) stop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		g.http.Shutdown(ctx)
		g.tcp.Shutdown(ctx)
	}()
	select {
	case <-over:
	case <-time.After(3 * time.Minute):
		stacks := make([]byte, 1<<20)
		t.Fatalf("%s: what was cut has not ended: %+v, %+v\n%s", g.name, g.http.Open(), g.tcp.Open(), stacks[:runtime.Stack(stacks, true)])
	}
	assert.NoError(t, ctx.Err(), "%s: what was open has not ended by itself", g.name)
	for range 3 {
		assert.NoError(t, <-g.served)
	}
	assert.Zero(t, g.lines.Close(time.Minute))
	for i, b := range g.budgets {
		assert.Equal(t, g.files, b.Left(), "%s: descriptors of front door %d were not given back", g.name, i)
	}
	all, err := g.reg.Gather()
	require.NoError(t, err)
	requests := 0
	for _, f := range all {
		for _, m := range f.Metric {
			switch f.GetName() {
			case "sluice_client_connections", "sluice_tunnels", "sluice_tcp_connections":
				assert.Zero(t, m.GetGauge().GetValue(), "%s: %s %v", g.name, f.GetName(), m.Label)
			case "sluice_panics_total":
				assert.Zero(t, m.GetCounter().GetValue(), "%s: panics", g.name)
			case "sluice_requests_total":
				requests += int(m.GetCounter().GetValue())
			}
		}
	}
	assert.Equal(t, requests, g.log.lines, "%s: each request is counted once and logged once", g.name)
}

// logCheck is an access log whose lines must each be of one exchange.
type logCheck struct {
	t     testing.TB
	mu    sync.Mutex
	rest  []byte
	lines int
}

var keys = regexp.MustCompile(`\b[a-z]/\d+/\d\b`)

func (l *logCheck) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		found := keys.FindAll(l.rest[:i], -1)
		for _, k := range found {
			if !bytes.Equal(k, found[0]) {
				l.t.Errorf("a log line of two exchanges: %s", l.rest[:i])
			}
		}
		l.lines++
		l.rest = l.rest[i+1:]
	}
}
