package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// gone is a parent that cannot be connected to.
func gone(t testing.TB) *policy.Parent {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	return policy.NewParent("http://"+at.String(), acl.HostFromAddr(at.Addr()), at.Port(), nil, "", "")
}

// hangs answers nothing.
func hangs(_ *parentProxy, _ net.Conn, r *bufio.Reader, _ string) { io.Copy(io.Discard, r) }

// tunnelTo asks for a tunnel and returns the status line.
func (g *gateway) tunnelTo(t testing.TB, target string) (*rawClient, string) {
	t.Helper()
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", target)
	head := c.head(t)
	return c, head[:strings.Index(head, "\r\n")]
}

// The next parent is asked when one is down or does not get there, but not when it forbids; what was
// found down is left alone.
func TestParentFailover(t *testing.T) {
	t.Parallel()
	echo := greeter(t, "")
	target := fmt.Sprintf("a.test:%d", echo.Port())
	good := newParent(t, nil, goes)
	const ok = "HTTP/1.1 200 Connection established"
	for name, tt := range map[string]struct {
		first func() *policy.Parent
		want  string // "": the second was asked
		down  bool
	}{
		"refused": {func() *policy.Parent { return gone(t) }, "", true},
		"unavailable": {func() *policy.Parent {
			return newParent(t, nil, answering("HTTP/1.1 502 x\r\n\r\n")).parent(t, nil, "")
		}, "", false},
		"closes": {func() *policy.Parent { return newParent(t, nil, answering("")).parent(t, nil, "") }, "", false},
		"hangs":  {func() *policy.Parent { return newParent(t, nil, hangs).parent(t, nil, "") }, "", false},
		"no TLS": {func() *policy.Parent {
			return newParent(t, nil, answering("x")).parent(t, &tls.Config{ServerName: "a"}, "")
		}, "", true},
		"forbids": {func() *policy.Parent {
			return newParent(t, nil, answering("HTTP/1.1 403 no\r\n\r\n")).parent(t, nil, "")
		}, "HTTP/1.1 403 Forbidden: parent proxy", false},
		"login": {func() *policy.Parent {
			return newParent(t, nil, answering("HTTP/1.1 407 no\r\n\r\n")).parent(t, nil, "")
		}, "HTTP/1.1 502 Bad Gateway: parent proxy", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, "", loopbackNames, func(o *Options) { o.ConnectTimeout = 3 * time.Second })
			first := tt.first()
			g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{first, good.parent(t, nil, "")}})
			good.got()
			c, status := g.tunnelTo(t, target)
			c.Close()
			if tt.want != "" {
				assert.True(t, strings.HasPrefix(status, tt.want), status)
				assert.Empty(t, good.got())
				return
			}
			assert.Equal(t, ok, status)
			assert.Len(t, good.got(), 1)
			assert.Equal(t, tt.down, !first.Health.Up())
			if tt.down {
				c, status = g.tunnelTo(t, target)
				c.Close()
				assert.Equal(t, ok, status)
				outcomes := uint64(0)
				for o := range policy.Outcomes {
					outcomes += first.Health.Count(policy.Outcome(o))
				}
				assert.EqualValues(t, 1, outcomes, "it was left alone")
			}
		})
	}
}

// Three silences in a row, of whomever they are, and a parent is left alone; with nobody else it is
// asked all the same.
func TestParentSilent(t *testing.T) {
	t.Parallel()
	echo := greeter(t, "")
	g := start(t, "", loopbackNames, func(o *Options) { o.ConnectTimeout = time.Second })
	p := newParent(t, nil, hangs).parent(t, nil, "")
	g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p}})
	for i := range 4 {
		assert.Equal(t, i < 3, p.Health.Up())
		c, status := g.tunnelTo(t, fmt.Sprintf("a.test:%d", echo.Port()))
		c.Close()
		assert.Equal(t, "HTTP/1.1 504 Gateway Timeout: parent proxy "+p.URL+": no answer to CONNECT in time", status)
	}
	assert.EqualValues(t, 4, p.Health.Count(policy.Silent))
}

// One that takes the connection and says nothing in TLS is given up in time, too, be there another or not.
func TestParentSilentInTLS(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections; nobody else does
	require.NoError(t, err)
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	silent := func() *policy.Parent {
		return policy.NewParent("https://"+at.String(), acl.HostFromAddr(at.Addr()), at.Port(), &tls.Config{ServerName: "p.test"}, "", "")
	}
	g := start(t, "", loopbackNames, func(o *Options) { o.ConnectTimeout = time.Second })
	for n, parents := range [][]*policy.Parent{{silent()}, {silent(), silent()}} {
		g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: parents})
		c, status := g.tunnelTo(t, "a.test:443")
		assert.Contains(t, status, "HTTP/1.1 504 Gateway Timeout: parent proxy https://"+at.String()+": TLS: context deadline exceeded", "%d", n)
		c.Close()
	}
}

// Directly, as the last, the judged address is dialled; and only where direct is listed.
func TestParentDirectLast(t *testing.T) {
	t.Parallel()
	echo := greeter(t, "")
	g := start(t, "", loopbackNames, nil)
	g.by(t, "*.test\n127.0.0.0/8",
		policy.Way{For: []string{"a.test"}, Via: []*policy.Parent{gone(t), direct}},
		policy.Way{For: []string{"b.test"}, Via: []*policy.Parent{gone(t)}},
		policy.Way{For: []string{"127.0.0.9"}, Via: []*policy.Parent{gone(t)}})
	c, status := g.tunnelTo(t, fmt.Sprintf("a.test:%d", echo.Port()))
	assert.Equal(t, "HTTP/1.1 200 Connection established", status)
	c.Close()
	c, status = g.tunnelTo(t, fmt.Sprintf("b.test:%d", echo.Port()))
	assert.Contains(t, status, "HTTP/1.1 502 Bad Gateway: parent proxy http://127.0.0.1:")
	assert.Contains(t, status, ": connection refused")
	c.Close()
	c, status = g.tunnelTo(t, echo.String()) // none is for it
	assert.Equal(t, "HTTP/1.1 200 Connection established", status)
	c.Close()
	lines := strings.Join(g.lines(t, 3), "\n")
	assert.Equal(t, 1, strings.Count(lines, `"parent":`), lines)
}

// A denied destination is denied, and no parent is asked.
func TestParentDenied(t *testing.T) {
	t.Parallel()
	p := newParent(t, nil, goes)
	g := start(t, "", names{"in.test": {netip.MustParseAddr("127.0.0.1")}}, nil)
	for _, byName := range []bool{false, true} {
		g.by(t, "!no.test\n*.test", policy.Way{Via: []*policy.Parent{p.parent(t, nil, "")}, ByName: byName})
		c, status := g.tunnelTo(t, "no.test:443")
		c.Close()
		assert.Equal(t, "HTTP/1.1 403 Egress denied: line 1 !no.test", status)
		if !byName {
			c, status = g.tunnelTo(t, "in.test:443")
			c.Close()
			assert.Equal(t, "HTTP/1.1 403 Egress denied: guard loopback", status)
		}
	}
	assert.Empty(t, p.got())
}

// Two gateways that are each other's parents: the request comes back to the first, which sees
// that it has come through it.
func TestParentLoop(t *testing.T) {
	t.Parallel()
	a := start(t, "", loopbackNames, func(o *Options) { o.Name = "sluice-a" })
	b := start(t, "", loopbackNames, func(o *Options) { o.Name = "sluice-b" })
	to := func(g *gateway) *policy.Parent {
		at := netip.MustParseAddrPort(g.Addr)
		return policy.NewParent("http://"+g.Addr, acl.HostFromAddr(at.Addr()), at.Port(), nil, "", "")
	}
	for _, byName := range []bool{false, true} {
		a.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{to(b)}, ByName: byName})
		b.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{to(a)}, ByName: byName})
		c, status := a.tunnelTo(t, "a.test:443")
		c.Close()
		assert.Contains(t, status, "503 Service Unavailable: parent proxy http://"+b.Addr+": it does not get there: 503 Service Unavailable: parent proxy http://"+a.Addr+": it does not get there: 502 Bad Gateway: the request has c")
		resp, err := a.client(t).Get("http://a.test/")
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, map[bool]int{false: 503, true: 502}[byName], resp.StatusCode)
	}
	nettest.Eventually(t, "the loop is logged", func() bool { return strings.Contains(a.log.String(), `"error":"proxy_loop_detected"`) })

	a = start(t, "", loopbackNames, func(o *Options) {
		o.Gate.Self = func(at netip.AddrPort) bool { return at.String() == "127.0.0.1:9" }
	})
	self := policy.NewParent("http://127.0.0.1:9", acl.HostFromAddr(netip.MustParseAddr("127.0.0.1")), 9, nil, "", "")
	a.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{self}})
	c, status := a.tunnelTo(t, "a.test:443")
	c.Close()
	assert.Equal(t, "HTTP/1.1 502 Bad Gateway: parent proxy http://127.0.0.1:9: 127.0.0.1:9 is where this gateway listens itself", status)
}

// A 407 in absolute form is about the gateway: its client is not asked for anything.
func TestParentAbsoluteLogin(t *testing.T) {
	t.Parallel()
	p := newParent(t, nil, answering("HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 0\r\n\r\n"))
	g := start(t, "", nil, nil)
	g.by(t, "*.test", policy.Way{Via: []*policy.Parent{p.parent(t, nil, "")}, ByName: true})
	resp, err := g.client(t).Post("http://a.test/x?y", "text/plain", strings.NewReader("body"))
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 502, resp.StatusCode)
	assert.Empty(t, resp.Header["Proxy-Authenticate"])
	assert.Contains(t, resp.Header.Get("Proxy-Status"), "it wants a credential (407), and the gateway has none for it")
	assert.True(t, strings.HasPrefix(p.got()[0], "POST http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n"))
}

// TLS with the server is made through the parent, whom it does not trust for that.
func TestParentTLSToServer(t *testing.T) {
	t.Parallel()
	ca := nettest.NewCA(t)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue("a.test")}}
	srv.StartTLS()
	defer srv.Close()
	port := netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
	for _, secure := range []bool{false, true} {
		var config, trust *tls.Config
		if secure {
			config, trust = &tls.Config{Certificates: []tls.Certificate{ca.Issue("127.0.0.1")}}, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}
		}
		p := newParent(t, config, goes)
		g := start(t, "", loopbackNames, func(o *Options) { o.TLS = &tls.Config{RootCAs: ca.Pool} })
		g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, trust, "")}})
		get := func(host string) string {
			c := g.dial(t)
			defer c.Close()
			c.send(t, "GET https://%s:%d/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", host, port)
			b, err := io.ReadAll(c.r)
			require.NoError(t, err)
			return string(b)
		}
		for range 2 {
			assert.True(t, strings.HasSuffix(get("a.test"), fmt.Sprintf("\r\n\r\na.test:%d", port)))
		}
		assert.Len(t, p.got(), 1, "the connection is used again")
		assert.Contains(t, get("b.test"), "502 Bad Gateway: TLS with b.test: tls: failed to verify certificate")
		// What does not stand up as the parent's is no parent.
		g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{newParent(t, &tls.Config{Certificates: []tls.Certificate{ca.Issue("other.test")}}, goes).
			parent(t, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}, "")}})
		assert.Contains(t, get("a.test"), "TLS: tls: failed to verify certificate")
	}
}

// Many clients by one parent, each of whom gets its own bytes and no others.
func TestParentManyClients(t *testing.T) {
	t.Parallel()
	ca := nettest.NewCA(t)
	echo := greeter(t, "hello\n")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.Header.Get("X-Tag"), b)
	}))
	defer srv.Close()
	port := netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint(secure), func(t *testing.T) {
			var config, trust *tls.Config
			if secure {
				config, trust = &tls.Config{Certificates: []tls.Certificate{ca.Issue("127.0.0.1")}}, &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}
			}
			p := newParent(t, config, goes)
			g := start(t, "", loopbackNames, nil)
			g.by(t, "*.test\n127.0.0.0/8", policy.Way{Via: []*policy.Parent{p.parent(t, trust, "")}})
			var wg sync.WaitGroup
			for i := range 24 {
				wg.Go(func() {
					c := g.dial(t)
					defer c.Close()
					want := strings.Repeat(fmt.Sprintf("client %02d;", i), 20<<10)
					c.send(t, "CONNECT a.test:%d HTTP/1.1\r\n\r\n", echo.Port())
					if !assert.Equal(t, "HTTP/1.1 200 Connection established\r\n\r\n", c.head(t)) {
						return
					}
					go func() {
						io.WriteString(c, want)
						c.CloseWrite()
					}()
					b, err := io.ReadAll(c.r)
					assert.NoError(t, err)
					assert.True(t, string(b) == "hello\n"+want, "client %d got %d bytes, not its own", i, len(b))
				})
				wg.Go(func() {
					client := g.client(t)
					for j := range 10 {
						tag := fmt.Sprintf("%d-%d", i, j)
						req, _ := http.NewRequest("PUT", fmt.Sprintf("http://b.test:%d/", port), strings.NewReader(strings.Repeat(tag, 1000)))
						req.Header.Set("X-Tag", tag)
						resp, err := client.Do(req)
						if !assert.NoError(t, err) {
							return
						}
						b, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						assert.NoError(t, err)
						assert.True(t, string(b) == tag+" "+strings.Repeat(tag, 1000), "%s got another's answer", tag)
					}
				})
			}
			wg.Wait()
		})
	}
}

// A connection by one parent, credential or tenant is no other's.
func TestParentPools(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	port := netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
	p, q := newParent(t, nil, goes), newParent(t, nil, goes)
	g := start(t, "", loopbackNames, nil)
	client := g.client(t)
	get := func() int {
		resp, err := client.Get(fmt.Sprintf("http://a.test:%d/", port))
		require.NoError(t, err)
		resp.Body.Close()
		return len(p.got()) + len(q.got())
	}
	const rules = "*.test\n127.0.0.0/8"
	ways := []struct {
		name string
		put  func()
	}{
		{"a parent", func() { g.by(t, rules, policy.Way{Via: []*policy.Parent{p.parent(t, nil, "")}}) }},
		{"another credential", func() { g.by(t, rules, policy.Way{Via: []*policy.Parent{p.parent(t, nil, "Bearer a")}}) }},
		{"another parent", func() { g.by(t, rules, policy.Way{Via: []*policy.Parent{q.parent(t, nil, "Bearer a")}}) }},
		{"by name", func() { g.by(t, rules, policy.Way{Via: []*policy.Parent{q.parent(t, nil, "Bearer a")}, ByName: true}) }},
		{"another tenant", func() {
			g.tenant.Name = "other"
			g.by(t, rules, policy.Way{Via: []*policy.Parent{p.parent(t, nil, "")}})
		}},
	}
	for _, w := range ways {
		w.put()
		assert.Equal(t, 1, get(), "%s: not over a connection of before", w.name)
		if w.name != "by name" {
			assert.Equal(t, 0, get(), "%s: over that of before", w.name)
		}
	}
	g.tenant.Parents = nil
	g.rules(t, rules)
	assert.Equal(t, 0, get())
	nettest.Eventually(t, "each way has a connection of its own, but for that which its server closes", func() bool { return g.Gate.Pool.Len() == 5 })
}
