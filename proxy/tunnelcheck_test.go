package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// check puts a tunnel check in force with the rules.
func (g *gateway) check(t testing.TB, mode policy.TunnelCheck, rules string) {
	t.Helper()
	g.tenant.Rules = g.ruleset(t, rules)
	g.SetGeneration(policy.Set{Rest: g.tenant, Check: mode}.Generation())
}

func helloFor(t testing.TB, name string) string {
	return string(nettest.ClientHello(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}))
}

// ways are those in which a client comes to have a tunnel, and says its first word: behind the
// answer, with the request, and by SOCKS in both ways.
var ways = map[string]func(t testing.TB, g *socksGateway, target, first string) net.Conn{
	"CONNECT": func(t testing.TB, g *socksGateway, target, first string) net.Conn {
		c := g.gateway.dial(t)
		c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", target)
		hears(t, c.TCPConn, string(established))
		says(t, c.TCPConn, first)
		return c.TCPConn
	},
	"CONNECT, early": func(t testing.TB, g *socksGateway, target, first string) net.Conn {
		c := g.gateway.dial(t)
		c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n%s", target, first)
		hears(t, c.TCPConn, string(established))
		return c.TCPConn
	},
	"SOCKS": func(t testing.TB, g *socksGateway, target, first string) net.Conn {
		c := g.dial(t)
		says(t, c, greets)
		hears(t, c, ok)
		says(t, c, asksFor(target))
		hears(t, c, made)
		says(t, c, first)
		return c
	},
	"SOCKS, early": func(t testing.TB, g *socksGateway, target, first string) net.Conn {
		c := g.dial(t)
		says(t, c, greets+asksFor(target)+first)
		hears(t, c, ok+made)
		return c
	},
}

// The server gets all that the client has sent, or nothing; and it is counted and logged why.
func TestTunnelCheck(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	var got strings.Builder
	server := rawOrigin(t, func(c *rawClient) {
		b, _ := io.ReadAll(c.r)
		got.Reset()
		got.Write(b)
		fmt.Fprintf(c, "%d bytes", len(b))
		c.CloseWrite()
	})
	_, port, _ := net.SplitHostPort(server)
	g := startSocks(t, "", names{"a.test": {loopback}, "ssh.test": {loopback}}, nil)
	const rules = "!*.denied.test\n!other.test\nssh.test #@ protocol=ssh\na.test #@ protocol=tls\n" + allowLoopback
	n, counts := 0, map[string]float64{}
	for mode, name := range map[policy.TunnelCheck]string{policy.CheckOff: "off", policy.CheckLog: "log", policy.CheckEnforce: "enforce"} {
		g.check(t, mode, rules)
		for way, open := range ways {
			if mode != policy.CheckEnforce && strings.HasSuffix(way, "early") {
				continue // a log line takes its time
			}
			for what, tt := range map[string]struct{ target, first, result string }{
				"the name":                  {"a.test", helloFor(t, "a.test"), "pass"},
				"another":                   {"a.test", helloFor(t, "other.test"), "server_name"},
				"none":                      {"a.test", helloFor(t, ""), "no_server_name"},
				"no TLS":                    {"a.test", "GET / HTTP/1.1\r\n\r\n", "protocol"},
				"a part of one":             {"a.test", helloFor(t, "a.test")[:200], "protocol"},
				"an address, a denied name": {"127.0.0.1", helloFor(t, "x.denied.test"), "server_name"},
				"an address, another name":  {"127.0.0.1", helloFor(t, "y.test"), "pass"},
				"an address, no name":       {"127.0.0.1", helloFor(t, ""), "pass"},
				"ssh":                       {"ssh.test", "SSH-2.0-x\r\n", "pass"},
				"TLS in the place of ssh":   {"ssh.test", helloFor(t, "ssh.test"), "protocol"},
				"nothing":                   {"ssh.test", "", "pass"},
			} {
				t.Run(name+", "+way+", "+what, func(t *testing.T) {
					c := open(t, g, net.JoinHostPort(tt.target, port), tt.first)
					require.NoError(t, c.(*net.TCPConn).CloseWrite())
					answer, err := io.ReadAll(c)
					require.NoError(t, err)
					n++
					line := g.lines(t, n)[n-1]
					if mode != policy.CheckOff {
						counts[tt.result]++
					}
					switch {
					case mode == policy.CheckOff || tt.result == "pass":
						assert.NotContains(t, line, `"check"`)
					default:
						assert.Contains(t, line, `"check":"`+tt.result+`","details":"the client's first bytes: `)
					}
					if mode == policy.CheckEnforce && tt.result != "pass" {
						assert.Contains(t, line, `"error":"http_request_denied"`)
						if tt.first[0] == 0x16 && tt.target != "ssh.test" && tt.result != "protocol" {
							assert.Equal(t, string(accessDenied), string(answer))
						}
						assert.NotContains(t, string(answer), "bytes")
						return
					}
					assert.NotContains(t, line, `"error"`)
					assert.Equal(t, fmt.Sprintf("%d bytes", len(tt.first)), string(answer))
					assert.Equal(t, tt.first, got.String())
				})
			}
		}
	}
	for result, want := range counts {
		assert.Equal(t, want, g.counted(t, "sluice_tunnel_checks_total", "result="+result), result)
	}
}

// A ClientHello that comes byte by byte goes on whole, and what the server says meanwhile at once.
func TestTunnelCheckByteByByte(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		io.WriteString(c, "banner")
		io.Copy(c.TCPConn, c.r)
	})
	g := startSocks(t, "", nil, nil)
	g.check(t, policy.CheckEnforce, allowLoopback)
	first := helloFor(t, "a.test") + "behind"
	for way, open := range ways {
		t.Run(way, func(t *testing.T) {
			c := open(t, g, server, first[:3])
			hears(t, c, "banner")
			for _, b := range []byte(first[3:]) {
				says(t, c, string([]byte{b}))
			}
			hears(t, c, first)
			c.Close()
		})
	}
}

// What is never completed ends in time, under log it goes on; what says nothing where a server
// may speak first stays.
func TestTunnelCheckNeverCompleted(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	server := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.r) })
	_, port, _ := net.SplitHostPort(server)
	g := startSocks(t, "", names{"a.test": {loopback}}, func(o *Options) { o.KeepAliveTimeout = 200 * time.Millisecond }) // so that it is looked often
	begun := helloFor(t, "a.test")[:100]
	g.checkTime = 200 * time.Millisecond
	for way, open := range ways {
		t.Run(way, func(t *testing.T) {
			lines := strings.Count(g.log.String(), "\n")
			g.check(t, policy.CheckEnforce, "a.test #@ protocol=tls\n"+allowLoopback)
			quiet := open(t, g, server, "")
			for i, first := range []string{begun, ""} { // after which the time of quiet is over, too
				c := open(t, g, "a.test:"+port, first)
				nettest.Eventually(t, "it ends", func() bool { return strings.Count(g.log.String(), "\n") == lines+i+1 })
				io.Copy(io.Discard, c)
				assert.Contains(t, g.lines(t, lines+i+1)[lines+i], `"check":"too_slow"`)
			}
			says(t, quiet, "EHLO")
			hears(t, quiet, "EHLO")
			quiet.Close()
			g.lines(t, lines+3)
			g.check(t, policy.CheckLog, "a.test #@ protocol=tls\n"+allowLoopback)
			c := open(t, g, "a.test:"+port, begun)
			nettest.Eventually(t, "it goes on", func() bool {
				open := g.Open()
				return len(open) == 1 && open[0].Sent == int64(len(begun))
			})
			hears(t, c, begun)
			c.Close()
			g.lines(t, lines+4)
		})
	}
}

// ECH is counted, and what it shows is judged.
func TestTunnelCheckECH(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	server := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.r) })
	_, port, _ := net.SplitHostPort(server)
	g := startSocks(t, "", names{"a.test": {loopback}}, nil)
	g.check(t, policy.CheckEnforce, "a.test #@ protocol=tls\n"+allowLoopback)
	hello := string(nettest.ClientHello(t, &tls.Config{ServerName: "secret.test", MinVersion: tls.VersionTLS13,
		EncryptedClientHelloConfigList: nettest.ECHConfigs(t, "a.test")}))
	for _, open := range ways {
		c := open(t, g, "a.test:"+port, hello)
		hears(t, c, hello)
		c.Close()
	}
	assert.EqualValues(t, len(ways), g.counted(t, "sluice_tunnel_ech_total"))
}

// A tunnel through which another name is asked for goes when that is not allowed any more: when
// it was open, and when the name comes later.
func TestTunnelCheckRevokedByName(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	server := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.r) })
	_, port, _ := net.SplitHostPort(server)
	g := startSocks(t, "", names{"a.test": {loopback}}, nil)
	hello := helloFor(t, "b.test")
	for way, open := range ways {
		t.Run(way, func(t *testing.T) {
			lines := strings.Count(g.log.String(), "\n")
			g.check(t, policy.CheckEnforce, "!c.test\n"+allowLoopback)
			stays := open(t, g, "a.test:"+port, helloFor(t, "a.test"))
			hears(t, stays, "\x16")
			goes := open(t, g, "a.test:"+port, hello)
			hears(t, goes, hello)
			late := open(t, g, "a.test:"+port, hello[:50])
			nettest.Eventually(t, "all are there", func() bool { return len(g.Open()) == 3 })
			g.check(t, policy.CheckEnforce, "!b.test\n"+allowLoopback)
			assert.Equal(t, 1, g.Revoke())
			_, err := io.ReadAll(goes)
			require.NoError(t, err)
			assert.Contains(t, g.lines(t, lines+1)[lines], `"error":"http_request_denied"`)
			says(t, late, hello[50:])
			hears(t, late, string(accessDenied))
			assert.Contains(t, g.lines(t, lines+2)[lines+1], "b.test is not allowed any more")
			assert.Len(t, g.Open(), 1)
			stays.Close()
			g.lines(t, lines+3)
		})
	}
}

// An Upgrade is no tunnel whose opening was promised: its head said what comes.
func TestTunnelCheckLeavesUpgrades(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		c.send(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		io.Copy(c.TCPConn, c.r)
	})
	g := start(t, "", nil, nil)
	g.check(t, policy.CheckEnforce, "127.0.0.1 #@ protocol=ssh")
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", server)
	require.Contains(t, c.head(t), " 101 ")
	c.send(t, "anything")
	b := make([]byte, 8)
	_, err := io.ReadFull(c.r, b)
	require.NoError(t, err)
	assert.Equal(t, "anything", string(b))
}
