package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// eachWay runs test with a proxy whose requests are served on the loops, with one that
// serves them by goroutines, and with a server behind TLS. base is what URLs of the server
// begin with.
func eachWay(t *testing.T, script func(c *rawClient), test func(t *testing.T, g *gateway, base string)) {
	t.Helper()
	for _, way := range []string{"loop", "goroutine", "TLS"} {
		t.Run(way, func(t *testing.T) {
			base, change := "http://"+rawOrigin(t, script), func(*Options) {}
			switch way {
			case "goroutine":
				change = func(o *Options) { o.Gate.Begin, o.Gate.Known = nil, nil }
			case "TLS":
				addr, roots := behindTLS(t, strings.TrimPrefix(base, "http://"))
				base, change = "https://"+addr, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} }
			}
			test(t, start(t, allowLoopback, nil, change), base)
		})
	}
}

// behindTLS runs a server that passes on to plain what it gets over TLS, and what that says.
func behindTLS(t testing.TB, plain string) (addr string, roots *x509.CertPool) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	s.Close() // but its certificate is of use
	roots = x509.NewCertPool()
	roots.AddCert(s.Certificate())
	addr = rawOrigin(t, func(c *rawClient) {
		to, err := net.Dial("tcp", plain)
		if !assert.NoError(t, err) {
			return
		}
		secure := tls.Server(c.TCPConn, &tls.Config{Certificates: s.TLS.Certificates})
		var wg sync.WaitGroup
		wg.Go(func() {
			io.Copy(to, secure)
			to.Close()
		})
		io.Copy(secure, to)
		secure.Close()
		wg.Wait()
	})
	return addr, roots
}

const viaClose = "Via: 1.1 sluice-test\r\nConnection: close\r\n\r\n"

// What servers send that is not neat, but safe, comes through neat.
func TestUntidyAnswers(t *testing.T) {
	const chunkedClose = "HTTP/1.1 200 OK\r\nVia: 1.1 sluice-test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
	tests := map[string]struct {
		pooled   int // connections, afterwards
		version  string
		in, want string
	}{
		"tidy": {1, "1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", chunkedClose + "5\r\nhello\r\n0\r\n\r\n"},
		"padded chunk sizes": {1, "1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n3\t;x=y\r\nabc\r\n2\r\nde\r\n0 \r\nX : y\r\n\r\n",
			chunkedClose + "5\r\nhello\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"},
		"padded chunk sizes for HTTP/1.0": {1, "0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n3 ;x=y\r\nabc\r\n0 \r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + viaClose + "helloabc"},
		"white space before a colon": {1, "1", "HTTP/1.1 200 OK\r\nServer : x\r\nContent-Length \t: 2\r\nConnection : X-Hop\r\nX-Hop : 1\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n" + viaClose + "ok"},
		"a list that is none": {1, "1", "HTTP/1.1 200 OK\r\nConnection: Keep-Alive, timeout=15, X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + viaClose + "ok"},
		"204":             {1, "1", "HTTP/1.1 204 No\r\nX: y\r\n\r\n", "HTTP/1.1 204 No\r\nX: y\r\n" + viaClose},
		"204 with length": {0, "1", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 204 No\r\n" + viaClose},
		"204 with a body": {0, "1", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 204 No\r\n" + viaClose},
		"204 with chunks": {0, "1", "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 204 No\r\n" + viaClose},
		"204 with both":   {0, "1", "HTTP/1.1 204 No\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 204 No\r\n" + viaClose},
		"103": {1, "1", "HTTP/1.1 103 Hints\r\nLink : </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + viaClose + "ok"},
		"103 with length": {0, "1", "HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + viaClose + "ok"},
		"100 with chunks for HTTP/1.0": {0, "0", "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + viaClose + "ok"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachWay(t, func(c *rawClient) {
				c.head(t)
				c.send(t, "%s", tt.in)
				c.r.Peek(1)
			}, func(t *testing.T, g *gateway, base string) {
				c := g.dial(t)
				c.send(t, "GET %s/ HTTP/1.%s\r\nHost: x\r\nConnection: close\r\n\r\n", base, tt.version)
				got, err := io.ReadAll(c.r)
				require.NoError(t, err)
				assert.Equal(t, tt.want, string(got))
				assert.Equal(t, tt.pooled, g.Gate.Pool.Len())
				assert.NotContains(t, g.lines(t, 1)[0], `"error"`)
			})
		})
	}
}

// An answer that cannot be framed from its first bytes on is told as such: nothing of it
// was sent, however much of it was right.
func TestFirstChunkWrong(t *testing.T) {
	tests := []struct{ fault, body string }{
		{"malformed chunk size", "zz\r\n"},
		{"malformed chunk size", "\r\n"},
		{"malformed chunk size", "5 5\r\nhello\r\n"},
		{"malformed chunk size", "5\r\nhello\r\n-1\r\n"},
		{"line ends in a bare LF, not CRLF", "5\nhello"},
		{"chunk data not followed by CRLF", "5\r\nhello!!"},
		{"chunk size line or trailer section too long", strings.Repeat("0", 2000)},
		{"field that may not stand in a trailer section", "0\r\nContent-Length : 5\r\n\r\n"},
	}
	for _, tt := range tests {
		for _, version := range []string{"1.1", "1.0"} {
			t.Run(fmt.Sprintf("%.20q to HTTP/%s", tt.body, version), func(t *testing.T) {
				t.Parallel()
				eachWay(t, func(c *rawClient) {
					c.head(t)
					c.send(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s", tt.body)
					c.r.Peek(1)
				}, func(t *testing.T, g *gateway, base string) {
					c := g.dial(t)
					c.send(t, "GET %s/ HTTP/%s\r\nHost: x\r\nAccept: text/plain\r\n\r\n", base, version)
					res, body := c.response(t, "GET")
					assert.Equal(t, "502 Bad Gateway: the server's answer: "+tt.fault, res.Status)
					assert.Contains(t, body, tt.fault)
					assert.Contains(t, res.Header.Get("Proxy-Status"), "error=http_protocol_error;")
					assert.Contains(t, g.lines(t, 1)[0], `"status":502,`)
					assert.Contains(t, g.lines(t, 1)[0], `"error":"http_protocol_error"`)
					assert.Zero(t, g.Gate.Pool.Len())
					assert.EqualValues(t, 1, g.counted(t, "sluice_errors_total", "class=http_protocol_error"))
					if version == "1.1" { // the client's connection is as good as before
						c.send(t, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", base)
						res, _ = c.response(t, "GET")
						assert.Equal(t, 502, res.StatusCode)
					}
				})
			})
		}
	}
}

// counted is the value of the counters of that name that have all the labels, NAME=VALUE.
func (g *gateway) counted(t testing.TB, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := g.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			has := map[string]bool{}
			for _, l := range m.GetLabel() {
				has[l.GetName()+"="+l.GetValue()] = true
			}
			if f.GetName() == name && !slices.ContainsFunc(labels, func(l string) bool { return !has[l] }) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// An answer that turns wrong when its beginning was sent ends in a reset, one that breaks
// off as it can; the log calls neither a success.
func TestLaterFaults(t *testing.T) {
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	tests := map[string]struct {
		class, begin, end string
		reset             bool
	}{
		"bad size":         {"http_protocol_error", chunked + "5\r\nhello\r\n", "zz\r\n", true},
		"bad first size":   {"http_protocol_error", chunked, "zz\r\n", true},
		"no end of data":   {"http_protocol_error", chunked + "5\r\nhel", "lo!!", true},
		"bad trailer":      {"http_protocol_error", chunked + "5\r\nhello\r\n", "0\r\nHost: x\r\n\r\n", true},
		"cut in a chunk":   {"connection_terminated", chunked + "5\r\nhel", "", false},
		"cut in a length":  {"connection_terminated", "Content-Length: 10\r\n\r\nhel", "", false},
		"cut in long body": {"connection_terminated", "Content-Length: 200000\r\n\r\nhel", "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goOn := make(chan struct{})
			eachWay(t, func(c *rawClient) {
				c.head(t)
				c.send(t, "HTTP/1.1 200 OK\r\n%s", tt.begin)
				<-goOn
				c.send(t, "%s", tt.end)
				if tt.reset {
					c.r.Peek(1) // it is the proxy that ends it
				}
			}, func(t *testing.T, g *gateway, base string) {
				c := g.dial(t)
				c.send(t, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", base)
				assert.Contains(t, c.head(t), "HTTP/1.1 200 OK\r\n")
				_, body, _ := strings.Cut(tt.begin, "\r\n\r\n")
				got := make([]byte, len(body))
				_, err := io.ReadFull(c.r, got)
				require.NoError(t, err)
				goOn <- struct{}{}
				_, err = io.ReadAll(c.r)
				assert.Equal(t, tt.reset, errors.Is(err, syscall.ECONNRESET), "%v", err)
				assert.Contains(t, g.lines(t, 1)[0], `"status":502,`)
				assert.Contains(t, g.lines(t, 1)[0], `"error":"`+tt.class+`"`)
				assert.EqualValues(t, 1, g.counted(t, "sluice_errors_total", "class="+tt.class))
			})
		})
	}
}

// Interim answers without end are an answer that does not come, for all clients.
func TestInterimWithoutEnd(t *testing.T) {
	for _, version := range []string{"1.0", "1.1"} {
		for _, gone := range []bool{false, true} {
			t.Run(fmt.Sprintf("HTTP/%s, gone %v", version, gone), func(t *testing.T) {
				asked, closed, stopped := make(chan struct{}), make(chan struct{}), make(chan struct{})
				eachWay(t, func(c *rawClient) {
					c.head(t)
					asked <- struct{}{}
					<-closed
					for {
						if _, err := io.WriteString(c, strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100)); err != nil {
							break
						}
					}
					stopped <- struct{}{}
				}, func(t *testing.T, g *gateway, base string) {
					c := g.dial(t)
					c.send(t, "GET %s/ HTTP/%s\r\nHost: x\r\n\r\n", base, version)
					<-asked
					if gone {
						c.Close()
					}
					closed <- struct{}{}
					if !gone {
						head := c.head(t)
						for strings.HasPrefix(head, "HTTP/1.1 102 ") && version == "1.1" {
							head = c.head(t)
						}
						assert.Contains(t, head, "502 Bad Gateway: the server's answer: interim answers (1xx) of more than 262144 bytes (--max-answer-head)\r\n")
						assert.Contains(t, g.lines(t, 1)[0], `"status":502,`)
						assert.Contains(t, g.lines(t, 1)[0], `"error":"http_protocol_error"`)
					}
					select {
					case <-stopped:
					case <-time.After(15 * time.Second):
						t.Fatal("the proxy reads on")
					}
				})
			})
		}
	}
}

// What clients send that means nothing, or is the server's business, does not stop a
// request; what goes on is what the server is to act upon.
func TestUntidyRequests(t *testing.T) {
	const rest = "Via: 1.1 sluice-test\r\n\r\n"
	tests := map[string]struct{ want, target, fields string }{
		"an expectation of nothing": {"GET / HTTP/1.1\r\nHost: %s\r\n" + rest, "/", "Expect:\r\n"},
		"h2c":                       {"GET / HTTP/1.1\r\nHost: %s\r\n" + rest, "/", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"},
		"h2c without settings":      {"GET / HTTP/1.1\r\nHost: %s\r\n" + rest, "/", "Connection: Upgrade\r\nUpgrade: h2c\r\n"},
		"settings without h2c":      {"GET / HTTP/1.1\r\nHost: %s\r\n" + rest, "/", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"},
		"h2c among others": {"GET / HTTP/1.1\r\nHost: %s\r\nVia: 1.1 sluice-test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "/",
			"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n"},
		"a % alone":           {"GET /100%%/%%zz?%% HTTP/1.1\r\nHost: %s\r\n" + rest, "/100%/%zz?%", ""},
		"a list that is none": {"GET / HTTP/1.1\r\nHost: %s\r\nTimeout: 1\r\n" + rest, "/", "Connection: Keep-Alive, timeout=15, X-Hop\r\nTimeout: 1\r\nX-Hop: 1\r\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan string, 1)
			eachWay(t, func(c *rawClient) {
				for {
					if _, err := c.r.Peek(1); err != nil {
						return
					}
					seen <- c.head(t)
					c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}, func(t *testing.T, g *gateway, base string) {
				c := g.dial(t)
				_, host, _ := strings.Cut(base, "://")
				for range 2 { // it is kept open
					c.send(t, "GET %s%s HTTP/1.1\r\nHost: x\r\n%s\r\n", base, tt.target, tt.fields)
					res, body := c.response(t, "GET")
					assert.Equal(t, 200, res.StatusCode, body)
					if res.StatusCode == 200 {
						assert.Equal(t, fmt.Sprintf(tt.want, host), <-seen)
					}
				}
			})
		})
	}
}
