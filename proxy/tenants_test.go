package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

const clientOfA, clientOfB, clientOfNone = "127.0.0.11", "127.0.0.12", "127.0.0.13"

// tenants puts two in force, of which limits holds for a.
func (g *gateway) tenants(t testing.TB, limits policy.Limits) (a, b *policy.Usage) {
	t.Helper()
	rules := func(text string) *acl.Policy { return g.ruleset(t, text) }
	a, b = new(policy.Usage), new(policy.Usage)
	one := func(addr string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(addr + "/32")} }
	g.SetGeneration(policy.Set{
		Rest: policy.Tenant{Name: policy.DefaultName, Unclaimed: true, Usage: new(policy.Usage)},
		Tenants: []policy.Taker{
			{Tenant: policy.Tenant{Name: "a", Rules: rules("!denied.test\n" + allowLoopback), Limits: limits, Usage: a}, Clients: one(clientOfA)},
			{Tenant: policy.Tenant{Name: "b", Rules: rules(allowLoopback + "denied.test\n"), Usage: b}, Clients: one(clientOfB)},
		},
	}.Generation())
	return a, b
}

// from opens a raw connection of a client at addr.
func (g *gateway) from(t testing.TB, addr string) *rawClient {
	t.Helper()
	c, err := dialFrom(t, addr, g.Addr)
	require.NoError(t, err)
	return &rawClient{TCPConn: c.(*net.TCPConn), r: bufio.NewReader(c)}
}

// paths are what a client sends first so that it is served there.
var paths = map[string]string{"loop": "", "goroutine": prefix}

// begin sends what leads a client to a path, and reads what that is answered.
func (c *rawClient) begin(t testing.TB, path string) *rawClient {
	t.Helper()
	if paths[path] != "" {
		c.send(t, "%s", paths[path])
		c.response(t, "GET")
	}
	return c
}

// A connection to a server that one tenant has opened is never used for another.
func TestTenantsShareNoConnection(t *testing.T) {
	var conns atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		n := conns.Add(1)
		for {
			if _, err := http.ReadRequest(c.r); err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		}
	})
	g := start(t, "", nil, nil)
	g.tenants(t, policy.Limits{})
	get := func(addr string) string {
		c := g.from(t, addr)
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", server)
		_, body := c.response(t, "GET")
		return body
	}
	assert.Equal(t, []string{"1", "1", "2", "1", "2", "2"},
		[]string{get(clientOfA), get(clientOfA), get(clientOfB), get(clientOfA), get(clientOfB), get(clientOfB)})
}

// Each client has the rules of its tenant, one of no tenant has none, and answers and log say
// whose it is.
func TestTenantsHaveTheirRules(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) { io.Copy(io.Discard, c.r) })
	for path := range paths {
		t.Run(path, func(t *testing.T) {
			g := start(t, "", names{"denied.test": {netip.MustParseAddr("127.0.0.1")}}, nil)
			a, b := g.tenants(t, policy.Limits{})
			target := "denied.test:" + portOf(server)
			for _, test := range []struct{ want, client, tenant string }{
				{"403 Egress denied: line 1 !denied.test", clientOfA, "a"},
				{"200 Connection established", clientOfB, "b"},
				{"403 Egress denied: this client is no tenant's", clientOfNone, "default"},
			} {
				c := g.from(t, test.client).begin(t, path)
				c.send(t, "CONNECT %s HTTP/1.1\r\nAccept: application/json\r\n\r\n", target)
				head := c.head(t)
				assert.Contains(t, head, test.want, test.client)
				if strings.Contains(head, " 403 ") {
					body, err := c.r.ReadString('\n')
					require.NoError(t, err)
					assert.Contains(t, body, `"tenant":"`+test.tenant+`"`)
				}
				c.Close()
				nettest.Eventually(t, "the log has it", func() bool {
					return strings.Contains(g.log.String(), `"tenant":"`+test.tenant+`","method":"CONNECT"`)
				})
			}
			extra := int64(strings.Count(paths[path], "HTTP/1.1")) // denied to a, and nobody there for b
			nettest.Eventually(t, "all is counted", func() bool { return a.Denied.Load() == 1+extra && b.Allowed.Load() == 1+extra })
			assert.Equal(t, []int64{0, 0}, []int64{a.Open(), b.Open()})
		})
	}
}

// A tenant at its limit is told to come again, whatever it asks for, and costs no other.
func TestTenantLimits(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		if b, err := c.r.Peek(3); err == nil && string(b) == "GET" {
			http.ReadRequest(c.r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			return
		}
		io.Copy(io.Discard, c.r)
	})
	get, connect := "GET http://"+server+"/ HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT "+server+" HTTP/1.1\r\n\r\n"
	upgrade := "GET http://" + server + "/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
	for path, ahead := range paths {
		t.Run("under way on the "+path, func(t *testing.T) {
			g := start(t, "", nil, nil)
			a, b := g.tenants(t, policy.Limits{Connections: 2})
			var open []*rawClient
			for range 2 {
				c := g.from(t, clientOfA).begin(t, path)
				c.send(t, "%s", connect)
				require.Contains(t, c.head(t), " 200 ")
				open = append(open, c)
			}
			require.Equal(t, int64(2), a.Open())
			for _, request := range []string{get, connect, upgrade} {
				c := g.from(t, clientOfA).begin(t, path)
				c.send(t, "%s", request)
				head := c.head(t)
				assert.Contains(t, head, "HTTP/1.1 429 Too Many Requests: the tenant is at its limit of 2 requests and tunnels at once\r\n")
				assert.Contains(t, head, "\r\nRetry-After: 1\r\n")
				assert.Contains(t, head, "Proxy-Status: sluice; error=connection_limit_reached")
				other := g.from(t, clientOfB).begin(t, path)
				other.send(t, "%s", get)
				assert.Contains(t, other.head(t), " 200 ")
			}
			assert.Equal(t, int64(3), a.OverConnections.Load())
			open[0].Close()
			nettest.Eventually(t, "a place is free", func() bool { return a.Open() == 1 })
			c := g.from(t, clientOfA).begin(t, path)
			c.send(t, "%s", get)
			assert.Contains(t, c.head(t), " 200 ")
			open[1].Close()
			nettest.Eventually(t, "nothing is held", func() bool { return a.Open() == 0 && b.Open() == 0 })
		})
		t.Run("a second on the "+path, func(t *testing.T) {
			g := start(t, "", nil, nil)
			burst := 2 + strings.Count(ahead, "HTTP/1.1")
			a, _ := g.tenants(t, policy.Limits{RequestsPerSecond: 0.01, Burst: burst})
			c := g.from(t, clientOfA).begin(t, path)
			for range 2 {
				c.send(t, "%s", get)
				resp, _ := c.response(t, "GET")
				require.Equal(t, 200, resp.StatusCode)
			}
			c.send(t, "%s", get)
			resp, _ := c.response(t, "GET")
			assert.Equal(t, 429, resp.StatusCode)
			after, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s")
			require.NoError(t, err)
			assert.InDelta(t, 100, after.Seconds(), 20)
			other := g.from(t, clientOfB)
			other.send(t, "%s", get)
			assert.Contains(t, other.head(t), " 200 ")
			nettest.Eventually(t, "nothing is held", func() bool { return a.Open() == 0 })
		})
	}
}
