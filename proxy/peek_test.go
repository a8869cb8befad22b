package proxy

import (
	"crypto/x509"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// startPeeking starts a gateway that waits for a ClientHello in tunnels to the server's address,
// since it may name api.test, which is inspected.
func startPeeking(t testing.TB, mode policy.TunnelCheck, rules, server string) *insideGate {
	t.Helper()
	g := &insideGate{}
	g.use(t, x509.NewCertPool(), server, func(_ *policy.Inspected, o *Options) { o.KeepAliveTimeout = 200 * time.Millisecond }) // so that it is looked often
	g.check(t, mode, rules)
	return g
}

// byAddress makes a tunnel to the server's address.
func (g *insideGate) byAddress(t testing.TB, server string) *rawClient {
	t.Helper()
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", server)
	hears(t, c.TCPConn, string(established))
	return c
}

var bothModes = map[string]policy.TunnelCheck{"log": policy.CheckLog, "enforce": policy.CheckEnforce}

// A server that speaks first, and one that goes, is heard at once: it is no server of TLS.
func TestPeekServerFirst(t *testing.T) {
	const rules = "api.test\n127.0.0.1 #@ protocol=tls"
	for name, mode := range bothModes {
		t.Run(name, func(t *testing.T) {
			server := rawOrigin(t, func(c *rawClient) {
				c.send(t, "SSH-2.0-server\r\n")
				io.Copy(c.TCPConn, c.r)
			})
			g := startPeeking(t, mode, rules, server)
			c := g.byAddress(t, server)
			hears(t, c.TCPConn, "SSH-2.0-server\r\n")
			says(t, c.TCPConn, "SSH-2.0-client\r\n")
			if mode == policy.CheckLog {
				hears(t, c.TCPConn, "SSH-2.0-client\r\n")
			}
			c.CloseWrite()
			_, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Contains(t, g.lines(t, 1)[0], `"check":"protocol"`)
		})
		t.Run(name+", and is gone", func(t *testing.T) {
			server := rawOrigin(t, func(c *rawClient) { c.send(t, "bye") })
			g := startPeeking(t, mode, rules, server)
			c := g.byAddress(t, server)
			said, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Equal(t, "bye", string(said))
		})
	}
}

// When no ClientHello comes in time log tells that, and the tunnel stays; enforce ends it.
func TestPeekNothingComes(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.r) })
	for name, mode := range bothModes {
		for _, first := range []string{"", helloFor(t, "api.test")[:100]} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, len(first)), func(t *testing.T) {
				g := startPeeking(t, mode, "api.test\n127.0.0.1 #@ protocol=tls", server)
				g.checkTime = 300 * time.Millisecond
				g.check(t, mode, "api.test\n127.0.0.1 #@ protocol=tls")
				c := g.byAddress(t, server)
				says(t, c.TCPConn, first)
				if mode == policy.CheckEnforce {
					io.Copy(io.Discard, c)
					assert.Contains(t, g.lines(t, 1)[0], `"check":"too_slow"`)
					return
				}
				nettest.Eventually(t, "log tells", func() bool { return g.counted(t, "sluice_tunnel_checks_total", "result=too_slow") == 1 })
				hears(t, c.TCPConn, first)
				says(t, c.TCPConn, "more")
				hears(t, c.TCPConn, "more")
				c.CloseWrite()
				_, err := io.ReadAll(c)
				require.NoError(t, err)
				assert.Contains(t, g.lines(t, 1)[0], `"check":"too_slow"`)
			})
		}
	}
}

// A ClientHello that names an inspected host is decided as that host, whether the check enforces or
// tells: a host that is denied is denied.
func TestPeekDenied(t *testing.T) {
	got := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		b, _ := io.ReadAll(c.r)
		got <- string(b)
	})
	for name, mode := range bothModes {
		t.Run(name, func(t *testing.T) {
			g := startPeeking(t, mode, "!api.test\n127.0.0.1 #@ protocol=tls", server)
			c := g.byAddress(t, server)
			says(t, c.TCPConn, helloFor(t, "api.test"))
			said, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Equal(t, string(accessDenied), string(said))
			assert.Empty(t, <-got)
			line := g.lines(t, 1)[0]
			host := "api.test:" + portOf(server)
			assert.Contains(t, line, `"target":"`+server+`","verdict":"deny"`)
			assert.Contains(t, line, `"check":"server_name","details":"the client's first bytes: `+host+` is not allowed at 127.0.0.1"`)
			assert.Contains(t, line, `"error":"http_request_denied"`)
			assert.EqualValues(t, 1, g.counted(t, "sluice_tunnel_checks_total", "result=server_name"))
		})
	}
}

// What ends the connection while the first bytes are waited for ends it.
func TestPeekEnds(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) { io.Copy(io.Discard, c.r) })
	for what, end := range map[string]func(g *insideGate, c *rawClient){
		"the client resets": func(_ *insideGate, c *rawClient) {
			c.SetLinger(0)
			c.Close()
		},
		"the client closes":   func(_ *insideGate, c *rawClient) { c.Close() },
		"it may not any more": func(g *insideGate, _ *rawClient) { g.rules(t, "!127.0.0.1"); g.Revoke() },
	} {
		t.Run(what, func(t *testing.T) {
			g := startPeeking(t, policy.CheckLog, "api.test\n127.0.0.1 #@ protocol=tls", server)
			c := g.byAddress(t, server)
			nettest.Eventually(t, "it is open", func() bool { return len(g.Open()) == 1 })
			end(g, c)
			nettest.Eventually(t, "it has ended", func() bool { return len(g.Open()) == 0 })
			g.lines(t, 1)
		})
	}
}
