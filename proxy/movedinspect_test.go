package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// A request that was made ready before its host was inspected does not go there: it may bring a protocol
// by which others would go past the rules, or a trailer section that nobody has looked at.
func TestMovedUnderRules(t *testing.T) {
	for name, tt := range map[string]struct {
		fields, body string
		before       bool // it was inspected before
		want         int
	}{
		"upgrade":            {"Connection: Upgrade\r\nUpgrade: any\r\n", "", false, 503},
		"trailers":           {"Transfer-Encoding: chunked\r\n", "0\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", false, 503},
		"nothing":            {"", "", false, 503},
		"inspected, nothing": {"", "", true, 200},
		"inspected, upgrade": {"Connection: Upgrade\r\nUpgrade: any\r\n", "", true, 200},
	} {
		for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
			t.Run(name+" on the "+path, func(t *testing.T) {
				server := rawOrigin(t, func(c *rawClient) {
					switch r, err := http.ReadRequest(c.r); {
					case err != nil:
					case r.Header.Get("Upgrade") != "":
						c.send(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
					default:
						c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				})
				var then atomic.Pointer[func()]
				g := start(t, movedRules, nil, func(o *Options) { movesOnDial(o, loopbackNames, &then) })
				move := func() { g.inspects(t, "a.test", policy.CheckOff) }
				if tt.before {
					move()
				}
				then.Store(&move)
				c := g.dial(t)
				c.send(t, "%sPOST http://a.test:%s/ HTTP/1.1\r\nHost: x\r\n%s\r\n%s", ahead, portOf(server), tt.fields, tt.body)
				if ahead != "" {
					c.response(t, "GET")
				}
				status := 0
				fmt.Sscanf(c.head(t), "HTTP/1.1 %d", &status)
				assert.Equal(t, tt.want, status)
			})
		}
	}
}

// inspects puts in force, too, that a host is inspected.
func (g *gateway) inspects(t testing.TB, host string, check policy.TunnelCheck) {
	t.Helper()
	in, err := policy.NewInspect([]policy.Inspected{{Host: host, Requests: everything(t)}})
	require.NoError(t, err)
	in.Certificate = func(string) (*tls.Certificate, error) { return nil, errors.New("not asked for") }
	now := g.tenant
	now.Inspect = in
	g.SetGeneration(policy.Set{Rest: now, Check: check}.Generation())
}

// A tunnel to an address whose first bytes are waited for ends when requests to that address are asked
// what they may do; also when that came in force before a ClientHello that names a host which is not
// inspected any more.
func TestMovedWhilePeeking(t *testing.T) {
	got := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		b, _ := io.ReadAll(c.r)
		got <- string(b)
	})
	for name, tt := range map[string]struct {
		meanwhile func(g *insideGate)
		says      string // the client; "": nothing
		log       string
	}{
		"the address is inspected, and it is revoked": {func(g *insideGate) { g.inspects(t, server, policy.CheckLog); g.Revoke() }, "", `"revoked":"requests to this host`},
		"the address is inspected":                    {func(g *insideGate) { g.inspects(t, server, policy.CheckLog) }, "api.test", `"details":"requests to this host`},
		"the address is inspected, and no name is":    {func(g *insideGate) { g.inspects(t, server, policy.CheckLog) }, "other.test", `"details":"requests to this host`},
		"it is another tenant's": {func(g *insideGate) {
			now := g.tenant
			now.Inspect, now.Name = nil, "other"
			g.SetGeneration(policy.Set{Rest: now, Check: policy.CheckLog}.Generation())
		}, "api.test", `"details":"whose client this is`},
		"it has another source": {func(g *insideGate) {
			now := g.tenant
			now.Inspect, now.Sources = nil, policy.NewSources([]netip.Addr{netip.MustParseAddr("127.0.0.9")})
			g.SetGeneration(policy.Set{Rest: now, Check: policy.CheckLog}.Generation())
		}, "api.test", `"details":"whose client this is`},
	} {
		t.Run(name, func(t *testing.T) {
			g := startPeeking(t, policy.CheckLog, "api.test\n127.0.0.1 #@ protocol=tls", server)
			c := g.byAddress(t, server)
			nettest.Eventually(t, "it is open", func() bool { return len(g.Open()) == 1 && g.Open()[0].State == door.Tunnel })
			tt.meanwhile(g)
			if tt.says != "" {
				says(t, c.TCPConn, helloFor(t, tt.says))
			}
			io.Copy(io.Discard, c)
			assert.Empty(t, <-got)
			assert.Regexp(t, tt.log, g.lines(t, 1)[0])
		})
	}
}

// What was a request yet when somebody looked at what is to be revoked is judged when it becomes a
// tunnel, of which more is asked.
func TestMovedBeforeItIsATunnel(t *testing.T) {
	for path, ahead := range map[string]string{"loop": "", "goroutine": prefix} {
		t.Run(path, func(t *testing.T) {
			server, heads := asked(t)
			var then atomic.Pointer[func()]
			var g *gateway
			var late atomic.Bool
			g = start(t, movedRules, nil, func(o *Options) {
				movesOnDial(o, loopbackNames, &then)
				o.Gate.Checks = []outbound.Check{func(*outbound.Request, *outbound.Ticket) error {
					if late.Swap(false) { // it is admitted again
						g.inspects(t, server.String(), policy.CheckOff)
						if ahead != "" { // else who revokes waits until the loop is done with it
							assert.Zero(t, g.Revoke())
						}
					}
					return nil
				}}
			})
			move := func() {
				g.SetGeneration(policy.New(g.tenant))
				late.Store(true)
			}
			then.Store(&move)
			c := g.dial(t)
			c.send(t, "%sCONNECT %s HTTP/1.1\r\n\r\n", ahead, server)
			if ahead != "" {
				c.response(t, "GET")
			} else {
				assert.Contains(t, c.head(t), " 200 ")
			}
			c.closed(t)
			assert.Empty(t, <-heads)
			lines := g.lines(t, 1+len(ahead)/len(prefix))
			assert.Contains(t, lines[len(lines)-1], `"revoked":"requests to this host`)
		})
	}
}

// What a request by TLS becomes, in which nobody looks at requests, ends when requests to its host are
// asked what they may do, before it has become that or after.
func TestInspectedBehindUpgrade(t *testing.T) {
	ca := nettest.NewCA(t)
	for _, before := range []bool{false, true} {
		t.Run(fmt.Sprint("before: ", before), func(t *testing.T) {
			reached, goOn := make(chan struct{}), make(chan struct{})
			got := make(chan string, 1)
			server := rawOrigin(t, func(c *rawClient) {
				s := tls.Server(c.TCPConn, &tls.Config{Certificates: []tls.Certificate{ca.Issue("127.0.0.1")}})
				r := bufio.NewReader(s)
				if _, err := http.ReadRequest(r); err == nil {
					close(reached)
					<-goOn
					io.WriteString(s, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n")
					b, _ := io.ReadAll(r)
					got <- string(b)
				}
			})
			g := start(t, allowLoopback, nil, func(o *Options) { o.TLS = &tls.Config{RootCAs: ca.Pool} })
			c := g.dial(t)
			c.send(t, "GET https://%s/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\nearly", server)
			<-reached
			if before {
				g.inspects(t, server, policy.CheckOff)
				assert.Zero(t, g.Revoke(), "it is a request yet")
				close(goOn)
				assert.Empty(t, <-got)
				b, _ := io.ReadAll(c.r)
				assert.Empty(t, string(b))
			} else {
				close(goOn)
				require.Contains(t, c.head(t), " 101 ")
				nettest.Eventually(t, "it is a tunnel", func() bool { o := g.Open(); return len(o) == 1 && o[0].State == door.Tunnel })
				g.inspects(t, server, policy.CheckOff)
				assert.Equal(t, 1, g.Revoke())
				c.closed(t)
				assert.Equal(t, "early", <-got)
			}
			assert.Contains(t, g.lines(t, 1)[0], `"revoked":"requests to this host`)
		})
	}
}
