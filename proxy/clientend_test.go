package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// thinking is a server that has read a request and does not answer before it is told to;
// it tells when the proxy has gone.
func thinking(t *testing.T) (plain, secure string, roots *x509.CertPool, asked chan struct{}, answer chan string, left chan struct{}) {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	certified.Close()
	roots = x509.NewCertPool()
	roots.AddCert(certified.Certificate()) // for example.com
	asked, answer, left = make(chan struct{}, 1), make(chan string), make(chan struct{}, 1)
	serve := func(c io.ReadWriter) {
		b := make([]byte, 1<<10)
		if n, _ := c.Read(b); n == 0 {
			return
		}
		asked <- struct{}{}
		gone := make(chan struct{})
		go func() {
			io.Copy(io.Discard, c)
			close(gone)
		}()
		select {
		case a := <-answer:
			io.WriteString(c, a)
			<-gone
		case <-gone:
		}
		left <- struct{}{}
	}
	plain = rawOrigin(t, func(c *rawClient) { serve(c.TCPConn) })
	secure = rawOrigin(t, func(c *rawClient) {
		serve(tls.Server(c.TCPConn, &tls.Config{Certificates: certified.TLS.Certificates}))
	})
	return plain, secure, roots, asked, answer, left
}

// A client that goes while its server thinks is noticed at once when it resets, on both
// paths; one that has ended its half waits, and its server has HalfCloseTimeout for each byte.
func TestClientGoesWhileTheServerThinks(t *testing.T) {
	for _, way := range []string{"on a loop", "on a goroutine", "with a body on its way", "https"} {
		for _, how := range []string{"reset", "half-closed, no answer", "half-closed, answer"} {
			t.Run(way+", "+how, func(t *testing.T) {
				plain, secure, roots, asked, answer, left := thinking(t)
				g := start(t, allowLoopback, names{"example.com": {loopback}}, func(o *Options) {
					o.IdleTimeout, o.HalfCloseTimeout = time.Hour, 10*time.Second
					if how == "half-closed, no answer" {
						o.HalfCloseTimeout = 300 * time.Millisecond
					}
					o.TLS = &tls.Config{RootCAs: roots}
				})
				c := g.dial(t)
				request := fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", plain)
				switch way {
				case "on a goroutine":
					request = "OPTIONS" + request[3:] // which no loop serves
				case "with a body on its way":
					request = fmt.Sprintf("POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", plain)
				case "https":
					request = fmt.Sprintf("GET https://example.com:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", portOf(secure))
				}
				c.send(t, "%s", request)
				if soon(t, asked); way == "with a body on its way" {
					c.send(t, "123456789")
				}
				switch how {
				case "reset":
					c.SetLinger(0)
					c.Close()
					soon(t, left)
					assert.Contains(t, g.lines(t, 1)[0], `"error":"client_aborted"`)
				case "half-closed, no answer":
					c.CloseWrite()
					soon(t, left)
					res, _ := c.response(t, "GET")
					assert.Equal(t, 504, res.StatusCode)
				default:
					c.CloseWrite()
					answer <- "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
					_, body := c.response(t, "GET")
					assert.Equal(t, "yes", body)
				}
				c.Close()
				nettest.Eventually(t, "descriptors are given back", func() bool { return g.Budget.Left()+int64(g.Gate.Pool.Len()) == 1000 })
			})
		}
	}
}

// So it is while nobody has been reached yet: a client that resets while its name is looked
// up, or a server is connected to, leaves nothing behind.
func TestClientGoesBeforeThereIsAServer(t *testing.T) {
	dead, _ := nettest.FullQueue(t)
	for name, request := range map[string]string{
		"name, GET":        "GET http://slow.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"name, CONNECT":    "CONNECT slow.test:443 HTTP/1.1\r\n\r\n",
		"connect, CONNECT": "CONNECT two.test:" + portOf(dead.String()) + " HTTP/1.1\r\n\r\n",
		"connect, POST":    "POST http://two.test:" + portOf(dead.String()) + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 1)
			lookup := func(ctx context.Context, name string) ([]netip.Addr, error) {
				if asked <- struct{}{}; name == "two.test" {
					a := dead.Addr()
					return []netip.Addr{a, a}, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			g := start(t, allowLoopback+"*.test", nil, func(o *Options) {
				o.ConnectTimeout = time.Hour
				o.Gate = outbound.NewGate(lookup, dial.TCP, o.Gate.Pool)
			})
			c := g.dial(t)
			c.send(t, "%s", request)
			soon(t, asked)
			c.SetLinger(0)
			c.Close()
			assert.Contains(t, g.lines(t, 1)[0], `"error":"client_aborted"`)
			nettest.Eventually(t, "descriptors are given back", func() bool { return g.Budget.Left() == 1000 })
		})
	}
}

// soon waits for c, and fails where that is in vain.
func soon(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("waited in vain")
	}
}
