package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// A pooled connection serves the next request, and each request is judged by the
// rules in force.
func TestPooling(t *testing.T) {
	var conns atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		conns.Add(1)
		for {
			if _, err := c.r.Peek(1); err != nil {
				return
			}
			c.head(t)
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	get := func(want int) {
		t.Helper()
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		res, _ := c.response(t, "GET")
		require.Equal(t, want, res.StatusCode)
	}
	for range 5 {
		get(200)
	}
	assert.EqualValues(t, 1, conns.Load())
	g.rules(t, "!127.0.0.1\n*")
	get(403)
	g.rules(t, allowLoopback)
	get(200)
	assert.EqualValues(t, 1, conns.Load())
}

// A server that closes an idle connection costs no request: those that may be
// repeated are, those that may not never use an old connection.
func TestStalePool(t *testing.T) {
	var conns atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		conns.Add(1)
		for range 2 { // the second request on each connection is cut off
			if _, err := c.r.Peek(1); err != nil {
				return
			}
			c.head(t)
			if conns.Load()%2 == 1 {
				c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				c.r.Peek(1)
				return
			}
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	for range 4 {
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		res, _ := c.response(t, "GET")
		assert.Equal(t, 200, res.StatusCode)
	}
	before := conns.Load()
	c.send(t, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", server)
	res, _ := c.response(t, "POST")
	assert.Equal(t, 200, res.StatusCode)
	assert.Equal(t, before+1, conns.Load(), "a POST goes over a connection of its own")
}

// What a server sends unasked is nobody's answer.
func TestPoolDropsTalkers(t *testing.T) {
	talk := make(chan struct{})
	var conns atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		n := conns.Add(1)
		c.head(t)
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		if n == 1 {
			<-talk
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			talk <- struct{}{}
		}
		c.r.Peek(1)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	ask := func() string {
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		_, body := c.response(t, "GET")
		return body
	}
	assert.Equal(t, "1", ask())
	require.Equal(t, 1, g.Gate.Pool.Len())
	talk <- struct{}{}
	<-talk // it is in the socket: loopback delivers before the write returns
	assert.Equal(t, "2", ask())
}

// Nor what comes right behind an answer, however that was read.
func TestMoreThanTheAnswer(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
	const (
		atOnce     = iota // the body is sent behind the head
		whole             // so that the proxy reads when all is there
		behindHead        // when the client has the head
	)
	for name, tt := range map[string]struct {
		size int
		when int
	}{
		"read at once":            {1, whole},
		"all that one read takes": {inRoom - len(fmt.Sprintf(head, 65432)), whole},
		"the rest moved":          {100 << 10, atOnce},
		"the rest moved by pipes": {1 << 20, atOnce},
		"all of it moved":         {1000, behindHead},
	} {
		t.Run(name, func(t *testing.T) {
			asked, answer, arrived := make(chan struct{}), make(chan struct{}), make(chan struct{})
			var conns atomic.Int32
			server := rawOrigin(t, func(c *rawClient) {
				if conns.Add(1) > 1 {
					c.head(t)
					c.send(t, head+"good", 4)
					return
				}
				for range 4 { // so that the kernel takes a lot of the next
					c.head(t)
					c.send(t, head+"%s", 4<<20, strings.Repeat("x", 4<<20))
				}
				c.head(t)
				close(asked)
				<-answer
				first := fmt.Sprintf(head, tt.size)
				if tt.when == behindHead {
					c.send(t, "%s", first)
					<-answer
					first = ""
				}
				c.send(t, "%s%s"+head+"poison", first, strings.Repeat("x", tt.size), 6)
				assert.True(t, nettest.Within(10*time.Second, func() bool { return hasAll(t, c) }), "the other end has all")
				close(arrived)
				c.r.Peek(1)
			})
			g := start(t, allowLoopback, nil, nil)
			c := dialEachLoop(t, g)
			ask := func() { c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server) }
			for range 4 {
				ask()
				_, body := c.response(t, "GET")
				require.Len(t, body, 4<<20)
			}
			ask()
			<-asked
			switch tt.when {
			case whole:
				release := hold(t, g)
				close(answer)
				<-arrived
				release()
			case behindHead:
				answer <- struct{}{}
				c.r.Peek(1)
				fallthrough
			default:
				close(answer)
			}
			_, body := c.response(t, "GET")
			require.Len(t, body, tt.size)
			<-arrived
			ask()
			_, body = c.response(t, "GET")
			assert.Equal(t, "good", body)
		})
	}
}

// A server that closes its half right behind an answer is not sent another request.
func TestAnswerAndEnd(t *testing.T) {
	asked, answer, ended := make(chan struct{}), make(chan struct{}), make(chan string)
	var conns atomic.Int32
	server := rawOrigin(t, func(c *rawClient) {
		n := conns.Add(1)
		c.head(t)
		if n == 1 {
			close(asked)
			<-answer
		}
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		if n == 1 {
			c.CloseWrite()
			answer <- struct{}{}
			rest, _ := io.ReadAll(c.r)
			ended <- string(rest)
		}
	})
	g := start(t, allowLoopback, nil, nil)
	c := dialEachLoop(t, g)
	ask := func() { c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server) }
	ask()
	<-asked
	release := hold(t, g)
	answer <- struct{}{}
	<-answer
	release()
	_, body := c.response(t, "GET")
	require.Equal(t, "1", body)
	ask()
	_, body = c.response(t, "GET")
	assert.Equal(t, "2", body)
	assert.Empty(t, <-ended, "nothing came after the answer")
}

// hasAll reports whether the other end's socket has all that c has sent, or is closed.
func hasAll(t testing.TB, c *rawClient) (all bool) {
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	raw.Control(func(fd uintptr) {
		info, infoErr := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
		require.NoError(t, infoErr)
		left, leftErr := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
		require.NoError(t, leftErr)
		all = left == 0 || info.State == unix.BPF_TCP_CLOSE
	})
	return all
}

func TestConcurrentClients(t *testing.T) {
	s := origin(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	g := start(t, allowLoopback, nil, nil)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			client := g.client(t)
			for j := range 20 {
				path := fmt.Sprintf("/%d/%d", i, j)
				res, err := client.Get(s.URL + path)
				if !assert.NoError(t, err) {
					return
				}
				b, _ := io.ReadAll(res.Body)
				res.Body.Close()
				assert.Equal(t, path, string(b))
			}
		})
	}
	wg.Wait()
	g.lines(t, 400)
}

func TestHTTPSInAbsoluteForm(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.Host, len(b))
	}))
	s.StartTLS()
	t.Cleanup(s.Close)
	port := portOf(s.Listener.Addr().String())
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate()) // for example.com
	known := names{"example.com": {loopback}, "wrong.test": {loopback}}
	g := start(t, allowLoopback, known, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} })
	c := g.dial(t)
	for range 3 { // the second over a pooled connection
		c.send(t, "POST https://example.com:%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", port)
		res, body := c.response(t, "POST")
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, "example.com:"+port+" 3", body)
		c.send(t, "GET https://example.com:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", port)
		_, body = c.response(t, "GET")
		assert.Equal(t, "example.com:"+port+" 0", body)
	}
	c.send(t, "POST https://example.com:%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n", port)
	io.CopyN(c.TCPConn, neverEnding('x'), 200000)
	_, body := c.response(t, "POST")
	assert.Equal(t, "example.com:"+port+" 200000", body)
	c.send(t, "GET https://wrong.test:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", port)
	res, _ := c.response(t, "GET")
	assert.Equal(t, 502, res.StatusCode)
	assert.Contains(t, res.Header.Get("Proxy-Status"), "error=tls_certificate_error")
	c = g.dial(t)
	c.send(t, "GET https://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n")
	res, _ = c.response(t, "GET")
	assert.Contains(t, res.Header.Get("Proxy-Status"), "error=connection_refused")
}
