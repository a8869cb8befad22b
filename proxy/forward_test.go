package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestForwardRequestHead(t *testing.T) {
	seen := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-A: b\r\nKeep-Alive: x\r\nConnection: X-Hop\r\nX-Hop: 1\r\nProxy-Authenticate: Basic\r\n\r\nok")
	})
	g := start(t, allowLoopback, names{"origin.test": {loopback}}, nil)
	c := g.dial(t)
	c.send(t, "GET http://ORIGIN.test.:%s/a?b HTTP/1.1\r\nHost: lies.test\r\nAccept: */*\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\n"+
		"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\nKeep-Alive: 1\r\nX-Stays: 1\r\n\r\n", portOf(server))
	assert.Equal(t, "GET /a?b HTTP/1.1\r\nHost: origin.test:"+portOf(server)+"\r\nAccept: */*\r\nX-Stays: 1\r\nVia: 1.1 sluice-test\r\nConnection: TE\r\nTE: trailers\r\n\r\n", <-seen)
	assert.Equal(t, "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-A: b\r\nVia: 1.1 sluice-test\r\nConnection: close\r\n\r\n", c.head(t))
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	assert.Equal(t, "ok", string(b))
	line := g.lines(t, 1)[0]
	assert.Contains(t, line, `"method":"GET","target":"http://ORIGIN.test.:`+portOf(server)+`/a?b","verdict":"allow"`)
	assert.Contains(t, line, `"status":200,"received":0,"sent":2,`)
}

func TestForwardHostForms(t *testing.T) {
	tests := []struct{ want, target string }{
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n", "http://127.0.0.1:PORT"},
		{"GET /?q HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n", "http://127.0.0.1:PORT?q"},
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n", "HTTP://[::ffff:127.0.0.1]:PORT/"},
		{"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n", "http://127.0.0.1:PORT"},
	}
	seen := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, nil)
	for _, tt := range tests {
		c := g.dial(t)
		method, _, _ := strings.Cut(tt.want, " ")
		c.send(t, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, strings.ReplaceAll(tt.target, "PORT", portOf(server)))
		assert.Contains(t, <-seen, strings.ReplaceAll(tt.want, "PORT", portOf(server)))
		assert.Contains(t, c.head(t), "HTTP/1.1 204 No Content\r\n")
		c.Close()
	}
}

// The port travels as the client wrote it, also the scheme's own: there are clients that
// sign it.
func TestForwardHostPort(t *testing.T) {
	tests := []struct{ want, target string }{
		{"example.com:80", "http://example.com:80/"},
		{"example.com", "http://example.com/"},
		{"example.com", "http://example.com:/"},
		{"example.com:443", "http://Example.com.:443/"},
		{"192.0.2.1:80", "http://192.0.2.1:80"},
		{"192.0.2.1", "http://192.0.2.1?:80"},
		{"[2001:db8::80]", "http://[2001:db8::80]/"},
		{"[2001:db8::80]:80", "http://[2001:DB8:0::80]:80/"},
		{"example.com:443", "https://example.com:443/"},
		{"example.com:80", "https://example.com:80/"},
		{"example.com", "https://example.com/"},
	}
	seen := make(chan string, 1)
	plain := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	secure, roots := behindTLS(t, plain)
	for _, onLoop := range []bool{false, true} {
		for _, tt := range tests {
			to := netip.MustParseAddrPort(plain)
			if strings.HasPrefix(tt.target, "https") {
				to = netip.MustParseAddrPort(secure)
			}
			g := start(t, "*", names{"example.com": {netip.MustParseAddr("192.0.2.1")}}, func(o *Options) {
				known := o.Gate.Known
				o.TLS = &tls.Config{RootCAs: roots}
				o.Gate = outbound.NewGate(func(_ context.Context, name string) ([]netip.Addr, error) {
					addrs, _, err := known(name)
					return addrs, err
				}, func(ctx context.Context, source netip.Addr, _ netip.AddrPort) (*sock.Conn, error) {
					return dial.TCP(ctx, source, to)
				}, outbound.NewPool(o.Budget, time.Minute))
				if onLoop {
					o.Gate.Known = known
					o.Gate.Begin = func(c *sock.Conn, source netip.Addr, _ netip.AddrPort) (bool, error) {
						return dial.Begin(c, source, to)
					}
				}
			})
			c := g.dial(t)
			c.send(t, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", tt.target)
			assert.Contains(t, <-seen, "\r\nHost: "+tt.want+"\r\n", tt.target)
			c.head(t)
		}
	}
}

func TestForwardRefusals(t *testing.T) {
	g := start(t, "!*.example.com\n"+allowLoopback, nil, nil)
	tests := []struct {
		want string
		in   string
		keep bool // the connection can be used again
	}{
		{"403 Egress denied: line 1 !*.example.com", "GET http://www.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n", true},
		{"403 Egress denied: line 1 !*.example.com", "POST http://www.example.com/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", true},
		{"403 Egress denied: line 1 !*.example.com", "POST http://www.example.com/ HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\nabc", false},
		{"400 Bad Request: this is a proxy, not a web server", "GET / HTTP/1.1\r\nHost: sluice:8080\r\n\r\n", true},
		{"400 Bad Request: this is a proxy, not a web server", "GET /metrics HTTP/1.1\r\nHost: sluice:8080\r\n\r\n", true},
		{"400 Bad Request: scheme other than http and https", "GET ftp://a.test/ HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"400 Bad Request: more than one Host field", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", false},
		{"400 Bad Request: both Content-Length and Transfer-Encoding", "POST http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"400 Bad Request: line ends in a bare LF, not CRLF", "GET http://127.0.0.1/ HTTP/1.1\nHost: x\n\n", false},
		{"431 Request Header Fields Too Large: head larger than the limit", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 70000) + "\r\n\r\n", false},
		{"431 Request Header Fields Too Large: more header fields than the limit", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", false},
		{"505 HTTP Version Not Supported: HTTP version not supported, want HTTP/1.0 or HTTP/1.1", "GET http://127.0.0.1/ HTTP/2.0\r\nHost: x\r\n\r\n", false},
		{"400 Bad Request: malformed chunk size", "POST http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", false},
		{"417 Expectation Failed: expectation other than 100-continue", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n", false},
		{"502 Bad Gateway: the request has come through this proxy before (Via)", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nVia: 1.1 other, 1.1 sluice-test\r\n\r\n", true},
	}
	for _, tt := range tests {
		c := g.dial(t)
		go c.Write([]byte(tt.in))
		res, body := c.response(t, "GET")
		assert.Equal(t, tt.want, res.Status)
		assert.NotEmpty(t, res.Header.Get("X-Request-Id"))
		assert.Contains(t, body, res.Header.Get("X-Request-Id"))
		assert.Contains(t, body, "net-team@example.com")
		assert.Equal(t, !tt.keep, res.Close, tt.want)
		if tt.keep {
			c.send(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			res, _ = c.response(t, "GET")
			assert.Equal(t, 400, res.StatusCode)
		}
		c.Close()
	}
}

// TestOtherProtocols: a client that speaks something else is told at once, on a new
// connection and on one that was on the loop meanwhile, and the log says what it spoke.
func TestOtherProtocols(t *testing.T) {
	g := start(t, allowLoopback, nil, nil)
	server := origin(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }).Listener.Addr().String()
	for _, tt := range []struct{ sent, speaks, scheme string }{
		{"\x05\x02\x00\x01", "SOCKS5", "socks5://, or have it listen for SOCKS (--listen-socks)"},
		{"\x04\x01\x00P\x7f\x00\x00\x01\x00", "SOCKS4", "socks4://"},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS", "https://"},
	} {
		details := "the client speaks " + tt.speaks + ", and this port speaks HTTP: name the proxy as http://, not " + tt.scheme
		for _, kept := range []bool{false, true} {
			before := strings.Count(g.log.String(), details)
			c := g.dial(t)
			if kept {
				c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", server, server)
				res, _ := c.response(t, "GET")
				assert.Equal(t, 200, res.StatusCode)
			}
			c.send(t, "%s", tt.sent)
			res, body := c.response(t, "GET")
			assert.Equal(t, "400 Bad Request: "+details, res.Status)
			assert.Contains(t, body, "Because:      "+details+"\n")
			assert.True(t, res.Close)
			assert.NoError(t, c.Close())
			nettest.Eventually(t, tt.speaks+" is logged", func() bool {
				return strings.Count(g.log.String(), `"error":"http_request_error","details":"`+details+`"}`) == before+1
			})
		}
	}
}

func TestAnswerPages(t *testing.T) {
	g := start(t, "!*.example.com # secret comment", nil, nil)
	ask := func(method, accept string) (*http.Response, string) {
		c := g.dial(t)
		c.send(t, "%s http://www.example.com/<x> HTTP/1.1\r\nHost: x\r\nAccept: %s\r\n\r\n", method, accept)
		return c.response(t, method)
	}
	res, body := ask("GET", "text/html,application/xhtml+xml,*/*;q=0.8")
	assert.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
	assert.Contains(t, body, "<dd>GET http://www.example.com/&lt;x&gt;</dd>")
	assert.Contains(t, body, "<dd>line 1 !*.example.com</dd>")

	res, body = ask("GET", "*/*")
	assert.Equal(t, "text/plain; charset=utf-8", res.Header.Get("Content-Type"))
	assert.Equal(t, "sluice: 403 Egress denied\n\nAsked for:    GET http://www.example.com/<x>\nDecided by:   line 1 !*.example.com\n"+
		"Whom to ask:  net-team@example.com\nRequest id:   "+res.Header.Get("X-Request-Id")+"\n", body)

	res, body = ask("GET", "text/html;q=0.5, application/json")
	assert.Equal(t, "application/json", res.Header.Get("Content-Type"))
	assert.JSONEq(t, `{"status":403,"title":"Egress denied","error":"http_request_denied","request":"GET http://www.example.com/<x>",
		"decided_by":"line 1 !*.example.com","contact":"net-team@example.com","request_id":"`+res.Header.Get("X-Request-Id")+`"}`, body)

	res, body = ask("HEAD", "*/*")
	assert.Empty(t, body)
	assert.Positive(t, res.ContentLength)
}

func TestHideRules(t *testing.T) {
	g := start(t, "", nil, nil)
	g.tenant.HideRules = true
	g.rules(t, "!*.example.com")
	c := g.dial(t)
	c.send(t, "CONNECT www.example.com:443 HTTP/1.1\r\n\r\n")
	res, body := c.response(t, "GET")
	assert.Equal(t, "403 Egress denied: line 1", res.Status)
	assert.Equal(t, `sluice; error=http_request_denied; details="Egress denied: line 1"`, res.Header.Get("Proxy-Status"))
	assert.NotContains(t, body, "*.example.com")
	assert.Contains(t, g.lines(t, 1)[0], `"reason":"line 1 !*.example.com"`) // the log is for those who wrote the rule
}

// A client that resolves names by itself must learn why the rule for the name did
// not help.
func TestAddressAgainstNameRules(t *testing.T) {
	g := start(t, "*.example.com", nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT 192.0.2.1:443 HTTP/1.1\r\n\r\n")
	res, body := c.response(t, "GET")
	assert.Equal(t, "403 Egress denied: no rule allows it", res.Status)
	assert.Contains(t, body, "Rules for names never match an address.")
}

func TestUpgrade(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		head := c.head(t)
		assert.Contains(t, head, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		assert.Contains(t, head, "Sec-WebSocket-Key: k\r\n")
		c.send(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\nhello")
		io.Copy(c, c.r)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "GET http://%s/chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\nearly", server)
	assert.Equal(t, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nVia: 1.1 sluice-test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", c.head(t))
	c.send(t, "+late")
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(c.r)
	require.NoError(t, err)
	assert.Equal(t, "helloearly+late", string(b))
	assert.Contains(t, g.lines(t, 1)[0], `"status":101,"received":10,"sent":15,`)
}

// A switch that nobody asked for must not become a tunnel.
func TestUnaskedSwitch(t *testing.T) {
	server := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		c.send(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
	res, _ := c.response(t, "GET")
	assert.Equal(t, "502 Bad Gateway: the server switched protocols unasked", res.Status)
}

func TestServerGarbage(t *testing.T) {
	tests := []struct {
		want string
		in   string
	}{
		{"502 Bad Gateway: the server's answer: malformed status line", "SSH-2.0-x\r\n"},
		{"502 Bad Gateway: the server's answer: more than one Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
		{"502 Bad Gateway: the server's answer: line ends in a bare LF, not CRLF", "HTTP/1.1 200 OK\nContent-Length: 1\n\na"},
		{"502 Bad Gateway: the server closed the connection before its answer", ""},
		{"502 Bad Gateway: the server closed the connection before its answer", "HTTP/1.1 200 OK\r\nConte"},
	}
	for _, tt := range tests {
		server := rawOrigin(t, func(c *rawClient) {
			c.head(t)
			c.send(t, "%s", tt.in)
		})
		g := start(t, allowLoopback, nil, nil)
		c := g.dial(t)
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		res, _ := c.response(t, "GET")
		assert.Equal(t, tt.want, res.Status)
	}
}

func TestMaxForwards(t *testing.T) {
	seen := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "TRACE http://%s/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nCookie: secret\r\nX-Y: z\r\n\r\n", server)
	res, body := c.response(t, "TRACE")
	assert.Equal(t, "message/http", res.Header.Get("Content-Type"))
	assert.Equal(t, "TRACE http://"+server+"/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nX-Y: z\r\n", body)
	c.send(t, "OPTIONS http://%s/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n", server)
	res, _ = c.response(t, "OPTIONS")
	assert.Equal(t, 200, res.StatusCode)
	assert.NotEmpty(t, res.Header.Get("Allow"))
	c.send(t, "TRACE http://%s/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 3\r\n\r\n", server)
	assert.Contains(t, <-seen, "Max-Forwards: 2\r\n")
	c.response(t, "TRACE")
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n", server) // means nothing for GET
	assert.Contains(t, <-seen, "Max-Forwards: 0\r\n")
	c.response(t, "GET")
}

func TestForwardedFor(t *testing.T) {
	seen := make(chan string, 1)
	server := rawOrigin(t, func(c *rawClient) {
		seen <- c.head(t)
		c.send(t, "HTTP/1.1 204 OK\r\n\r\n")
	})
	g := start(t, allowLoopback, nil, func(o *Options) { o.ForwardedFor = true })
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n", server)
	assert.Contains(t, <-seen, "X-Forwarded-For: 10.1.1.1, 127.0.0.1\r\n")
}

// However a connect fails, a request in absolute form is told the same as CONNECT:
// not that the server was slow to answer, or closed.
func TestDialErrorsAreTold(t *testing.T) {
	tests := []struct {
		err    error
		status int
		class  string
	}{
		{os.ErrDeadlineExceeded, 504, "connection_timeout"},
		{context.DeadlineExceeded, 504, "connection_timeout"},
		{syscall.ECONNRESET, 502, "connection_terminated"},
		{syscall.EHOSTUNREACH, 502, "destination_ip_unroutable"},
		{syscall.EMFILE, 503, "connection_limit_reached"},
	}
	for _, tt := range tests {
		g := start(t, "*", nil, func(o *Options) {
			dial := func(context.Context, netip.Addr, netip.AddrPort) (*sock.Conn, error) { return nil, tt.err }
			o.Gate = outbound.NewGate(nil, dial, outbound.NewPool(o.Budget, time.Minute))
		})
		for _, request := range []string{"GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT 192.0.2.1:80 HTTP/1.1\r\n\r\n"} {
			c := g.dial(t)
			c.send(t, "%s", request)
			res, body := c.response(t, "GET")
			assert.Equal(t, tt.status, res.StatusCode, tt.err)
			assert.Contains(t, res.Header.Get("Proxy-Status"), "error="+tt.class+";", tt.err)
			assert.Contains(t, body, "connect to 192.0.2.1:80: "+tt.err.Error())
		}
	}
}
