package proxy

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// paced is a gateway that wants 1,000 octets a second, over that time.
func paced(t *testing.T, over time.Duration) *gateway {
	return start(t, allowLoopback, nil, func(o *Options) {
		o.IdleTimeout, o.MinRate, o.MinRateOver = time.Hour, 1000, over
		o.HeadTimeout = 200 * time.Millisecond // the sweeper looks every 50
	})
}

// A client that takes a body too slowly is cut, on both paths; so is one that sends one so.
func TestSlowClientIsCut(t *testing.T) {
	download := func(t *testing.T, g *gateway, method string) {
		server := rawOrigin(t, func(c *rawClient) {
			c.head(t)
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
			io.CopyN(c.TCPConn, neverEnding('x'), 100_000_000)
		})
		c := g.dial(t)
		c.SetReadBuffer(4 << 10)
		c.send(t, "%s http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", method, server)
		assert.Contains(t, g.lines(t, 1)[0], `"error":"client_too_slow"`)
		_, err := io.Copy(io.Discard, c.r)
		assert.Error(t, err, "reset, not ended")
	}
	t.Run("takes, on a loop", func(t *testing.T) { download(t, paced(t, 800*time.Millisecond), "GET") })
	t.Run("takes, on a goroutine", func(t *testing.T) { download(t, paced(t, 800*time.Millisecond), "OPTIONS") })
	for name, head := range map[string]string{
		"sends":          "Content-Length: 1000000\r\n\r\n",
		"sends chunks":   "Transfer-Encoding: chunked\r\n\r\n10000\r\n",
		"sends, unasked": "Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := rawOrigin(t, func(c *rawClient) { io.Copy(io.Discard, c.r) })
			g := paced(t, 800*time.Millisecond)
			c := g.dial(t)
			c.send(t, "POST http://%s/ HTTP/1.1\r\nHost: x\r\n%s", server, head)
			stop := make(chan struct{})
			go func() { // 100 octets a second
				for ticker := time.NewTicker(50 * time.Millisecond); ; {
					select {
					case <-stop:
						return
					case <-ticker.C:
						fmt.Fprint(c, "01234")
					}
				}
			}()
			res, _ := c.response(t, "POST")
			close(stop)
			assert.Equal(t, 408, res.StatusCode)
			assert.Contains(t, res.Header.Get("Proxy-Status"), "error=http_request_error")
		})
	}
}

// Whoever is quick enough, waits for a slow server, or has nothing to send is not cut.
func TestWhoIsNotSlow(t *testing.T) {
	for name, tt := range map[string]struct {
		request string
		serve   func(t *testing.T, c *rawClient, hold <-chan struct{})
		client  func(t *testing.T, c *rawClient, hold <-chan struct{})
	}{
		"a long poll, with a part of its answer": {"GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", func(t *testing.T, c *rawClient, hold <-chan struct{}) {
			c.send(t, "HTTP/1.1 200 OK\r\n\r\nabc")
			<-hold
		}, func(t *testing.T, c *rawClient, hold <-chan struct{}) { c.head(t) }},
		"waits for its 100": {"POST http://%s/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
			func(t *testing.T, c *rawClient, hold <-chan struct{}) { <-hold }, func(t *testing.T, c *rawClient, hold <-chan struct{}) {}},
		"a server that does not take": {"POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n",
			func(t *testing.T, c *rawClient, hold <-chan struct{}) { <-hold }, func(t *testing.T, c *rawClient, hold <-chan struct{}) {
				go io.CopyN(c.TCPConn, neverEnding('x'), 100_000_000)
			}},
		"a server that thinks": {"POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1",
			func(t *testing.T, c *rawClient, hold <-chan struct{}) { <-hold }, func(t *testing.T, c *rawClient, hold <-chan struct{}) { c.send(t, "2345") }},
		"a quiet tunnel": {"CONNECT %s HTTP/1.1\r\n\r\n",
			func(t *testing.T, c *rawClient, hold <-chan struct{}) { <-hold }, func(t *testing.T, c *rawClient, hold <-chan struct{}) { c.head(t) }},
		"a tunnel that is not read": {"CONNECT %s HTTP/1.1\r\n\r\n", func(t *testing.T, c *rawClient, hold <-chan struct{}) {
			go io.CopyN(c.TCPConn, neverEnding('x'), 100_000_000)
			<-hold
		}, func(t *testing.T, c *rawClient, hold <-chan struct{}) {}},
		"quick enough": {"POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
			func(t *testing.T, c *rawClient, hold <-chan struct{}) { go io.Copy(io.Discard, c.r); <-hold },
			func(t *testing.T, c *rawClient, hold <-chan struct{}) {
				go func() {
					for ticker := time.NewTicker(20 * time.Millisecond); ; {
						select {
						case <-hold:
							return
						case <-ticker.C:
							fmt.Fprint(c, strings.Repeat("x", 100)) // 5,000 octets a second
						}
					}
				}()
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			at := rawOrigin(t, func(c *rawClient) {
				if !strings.HasPrefix(tt.request, "CONNECT") {
					c.head(t)
				}
				tt.serve(t, c, hold)
			})
			t.Cleanup(func() { close(hold) })
			g := paced(t, 400*time.Millisecond)
			c := g.dial(t)
			c.send(t, tt.request, at)
			tt.client(t, c, hold)
			passed := g.door.Now() + 5*g.MinRateOver
			nettest.Eventually(t, "the time is over", func() bool { return g.door.Now() > passed })
			assert.Equal(t, 1.0, testutil.ToFloat64(g.Metrics.Clients))
			assert.Empty(t, g.log.String())
			c.Close()
		})
	}
}
