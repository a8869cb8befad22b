package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A client that does not take an answer is cut by the idle limit. Where only the end of the
// connection ends the answer, that must not look like the end.
func TestCutAnswerDoesNotLookWhole(t *testing.T) {
	for name, head := range map[string]string{
		"until close":   "Connection: close\r\n\r\n",
		"chunks undone": "Transfer-Encoding: chunked\r\n\r\n1000000\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := rawOrigin(t, func(c *rawClient) {
				c.head(t)
				c.send(t, "HTTP/1.1 200 OK\r\n%s", head)
				io.CopyN(c.TCPConn, neverEnding('x'), 16<<20)
			})
			g := start(t, allowLoopback, nil, func(o *Options) { o.IdleTimeout = 200 * time.Millisecond })
			c := g.dial(t)
			require.NoError(t, c.SetReadBuffer(64<<10))
			c.send(t, "GET http://%s/ HTTP/1.0\r\nHost: x\r\n\r\n", server)
			assert.Contains(t, g.lines(t, 1)[0], `"error":"client_aborted"`)
			_, err := io.Copy(io.Discard, c.r)
			assert.ErrorIs(t, err, syscall.ECONNRESET)
		})
	}
}

// Nor that of a server which resets the connection while it is sent the request's body:
// the kernel tells of it once, be it who sends or who reads.
func TestResetWhileUploading(t *testing.T) {
	for range 20 {
		seen := make(chan struct{})
		server := rawOrigin(t, func(c *rawClient) {
			c.head(t)
			c.send(t, "HTTP/1.1 200 OK\r\n\r\nabc")
			<-seen
			c.SetLinger(0)
		})
		g := start(t, allowLoopback, nil, nil)
		c := g.dial(t)
		c.send(t, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", server)
		c.send(t, "%s", strings.Repeat("x", 16<<10))
		c.head(t)
		c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		io.CopyN(c.TCPConn, neverEnding('x'), 100_000_000) // as much as is taken
		close(seen)
		_, err := io.ReadAll(c.r)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

// Resets travel through a tunnel that ends in TLS, both ways.
func TestResetTravelsThroughTLS(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	reset, ended := make(chan bool), make(chan error)
	server := rawOrigin(t, func(c *rawClient) {
		s := tls.Server(c.TCPConn, &tls.Config{Certificates: web.TLS.Certificates})
		(&rawClient{TCPConn: c.TCPConn, r: bufio.NewReader(s)}).head(t)
		io.WriteString(s, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc")
		if <-reset {
			c.SetLinger(0)
			return
		}
		_, err := io.ReadAll(onlyReader{c.TCPConn})
		ended <- err
	})
	g := start(t, allowLoopback, nil, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} })
	upgraded := func() *rawClient {
		c := g.dial(t)
		c.send(t, "GET https://%s/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", server)
		assert.Contains(t, c.head(t), "HTTP/1.1 101 ")
		return c
	}
	c := upgraded()
	reset <- true
	_, err := io.ReadAll(c.r)
	assert.ErrorIs(t, err, syscall.ECONNRESET, "the server's")
	c = upgraded()
	reset <- false
	c.SetLinger(0)
	c.Close()
	assert.ErrorIs(t, <-ended, syscall.ECONNRESET, "the client's")
}

// A server that answers nothing usable is to blame, not the client whose body was on its
// way: that has been stopped, and was not too slow.
func TestBadAnswerWhileUploading(t *testing.T) {
	for _, framing := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
		server := rawOrigin(t, func(c *rawClient) {
			c.head(t)
			c.send(t, "SSH-2.0-OpenSSH_9.2\r\n\r\n")
			c.r.ReadByte()
		})
		g := start(t, allowLoopback, nil, nil)
		c := g.dial(t)
		c.send(t, "POST http://%s/ HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", server, framing)
		res, _ := c.response(t, "POST")
		assert.Equal(t, 502, res.StatusCode, framing)
		assert.Contains(t, res.Header.Get("Proxy-Status"), "error=http_protocol_error;", framing)
	}
}

// An answer over TLS that only its end delimits is whole when the server says so, not when
// the connection ends: anybody on the way could have cut it.
func TestTruncatedTLSAnswerDoesNotLookWhole(t *testing.T) {
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	for name, announced := range map[string]bool{"announced": true, "cut": false} {
		t.Run(name, func(t *testing.T) {
			server := rawOrigin(t, func(c *rawClient) {
				s := tls.Server(c.TCPConn, &tls.Config{Certificates: web.TLS.Certificates})
				(&rawClient{TCPConn: c.TCPConn, r: bufio.NewReader(s)}).head(t)
				io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\nabc")
				if announced {
					s.CloseWrite()
				}
				c.CloseWrite()
				io.Copy(io.Discard, c.r)
			})
			g := start(t, allowLoopback, names{"example.com": {loopback}}, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} })
			c := g.dial(t)
			c.send(t, "GET https://example.com:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", portOf(server))
			c.head(t)
			b, err := io.ReadAll(c.r)
			if announced {
				require.NoError(t, err)
				assert.Equal(t, "abc", string(b))
				return
			}
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			assert.Contains(t, g.lines(t, 1)[0], `"status":502`)
		})
	}
}
