package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

// recordBuffer is a connection whose writes stay here while it is holding.
type recordBuffer struct {
	*net.TCPConn
	holding bool
	b       bytes.Buffer
}

func (r *recordBuffer) Write(b []byte) (int, error) {
	if r.holding {
		return r.b.Write(b)
	}
	return r.TCPConn.Write(b)
}

// take returns what was written.
func (r *recordBuffer) take() []byte {
	defer r.b.Reset()
	return bytes.Clone(r.b.Bytes())
}

// Nothing that a TLS server sends behind its answer reaches another client, whether the
// proxy has read it, decrypted it, or has a part of its record.
func TestTLSMoreThanTheAnswer(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"
	const stray = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate()) // for example.com
	// What is sent with the answer, and what when the proxy has been asked again.
	for name, tt := range map[string]func(c *tls.Conn, records *recordBuffer) (now, later []byte){
		"in the answer's record": func(c *tls.Conn, records *recordBuffer) (now, later []byte) {
			fmt.Fprint(c, answer+stray)
			return records.take(), nil
		},
		"in the next record": func(c *tls.Conn, records *recordBuffer) (now, later []byte) {
			fmt.Fprint(c, answer)
			fmt.Fprint(c, stray)
			return records.take(), nil
		},
		"in a segment of its own": func(c *tls.Conn, records *recordBuffer) (now, later []byte) {
			fmt.Fprint(c, answer)
			records.TCPConn.Write(records.take())
			fmt.Fprint(c, stray)
			return records.take(), nil
		},
		"the first part of a record": func(c *tls.Conn, records *recordBuffer) (now, later []byte) {
			fmt.Fprint(c, answer)
			fmt.Fprint(c, stray)
			b := records.take()
			return b[:len(b)-10], b[len(b)-10:]
		},
		"the first part of a record's header": func(c *tls.Conn, records *recordBuffer) (now, later []byte) {
			fmt.Fprint(c, answer)
			n := len(records.b.Bytes()) + 3
			fmt.Fprint(c, stray)
			b := records.take()
			return b[:n], b[n:]
		},
		"an end": func(c *tls.Conn, records *recordBuffer) (now, later []byte) {
			fmt.Fprint(c, answer)
			c.CloseWrite()
			records.SetWriteDeadline(time.Time{}) // CloseWrite has set it
			return records.take(), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int32
			sent, asked := make(chan struct{}), make(chan struct{})
			server := rawOrigin(t, func(raw *rawClient) {
				records := &recordBuffer{TCPConn: raw.TCPConn}
				c := tls.Server(records, &tls.Config{Certificates: certified.TLS.Certificates})
				in := &rawClient{TCPConn: raw.TCPConn, r: bufio.NewReader(c)}
				in.head(t)
				if conns.Add(1) > 1 {
					fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
					return
				}
				records.holding = true
				now, later := tt(c, records)
				_, err := raw.Write(now)
				assert.NoError(t, err)
				assert.True(t, nettest.Within(10*time.Second, func() bool { return hasAll(t, raw) }), "the other end has all")
				close(sent)
				select {
				case <-asked:
				case <-t.Context().Done():
				}
				raw.Write(later)
				raw.Read(make([]byte, 1)) // another request, or the end
			})
			known := names{"example.com": {loopback}}
			g := start(t, allowLoopback, known, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} })
			c := g.dial(t)
			ask := func() { c.send(t, "GET https://example.com:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", portOf(server)) }
			ask()
			_, body := c.response(t, "GET")
			require.Equal(t, "1", body)
			<-sent
			ask()
			close(asked)
			_, body = c.response(t, "GET")
			assert.Equal(t, "good", body)
		})
	}
}

// A TLS connection on which nothing stands unread serves the next request.
func TestTLSPooling(t *testing.T) {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	var conns atomic.Int32
	server := rawOrigin(t, func(raw *rawClient) {
		conns.Add(1)
		c := tls.Server(raw.TCPConn, &tls.Config{Certificates: certified.TLS.Certificates})
		in := &rawClient{TCPConn: raw.TCPConn, r: bufio.NewReader(c)}
		for range 5 {
			in.head(t)
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
		}
	})
	g := start(t, allowLoopback, names{"example.com": {loopback}}, func(o *Options) { o.TLS = &tls.Config{RootCAs: roots} })
	c := g.dial(t)
	for range 5 {
		c.send(t, "GET https://example.com:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", portOf(server))
		_, body := c.response(t, "GET")
		require.Equal(t, "good", body)
	}
	assert.EqualValues(t, 1, conns.Load())
}

// between has a loop wait, between telling events and doing what was put off, until out is
// closed.
type between struct{ in, out chan struct{} }

func (b between) Ready(l *poll.Loop, _ int, _ uint32) { l.Later(b) }

func (b between) Do(*poll.Loop) {
	close(b.in)
	<-b.out
}

// What a server has sent by the time when a pooled connection is used is found, also if it
// came after the loop had looked at its events for this round.
func TestStrayBeforeTheSend(t *testing.T) {
	var conns atomic.Int32
	talk, talked := make(chan struct{}), make(chan struct{})
	server := rawOrigin(t, func(c *rawClient) {
		n := conns.Add(1)
		c.head(t)
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		if n == 1 {
			<-talk
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
			assert.True(t, nettest.Within(10*time.Second, func() bool { return hasAll(t, c) }), "the other end has all")
			close(talked)
		}
		c.r.Peek(1)
	})
	g := start(t, allowLoopback, nil, nil)
	c := dialEachLoop(t, g)
	ask := func() { c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server) }
	ask()
	_, body := c.response(t, "GET")
	require.Equal(t, "1", body)

	release := hold(t, g)
	out := make(chan struct{})
	var ins []chan struct{}
	for _, l := range eachLoop(t, g) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		b := between{make(chan struct{}), out}
		require.NoError(t, l.Register(fds[0], b, poll.Readable))
		_, err = unix.Write(fds[1], []byte("x"))
		require.NoError(t, err)
		ins = append(ins, b.in)
	}
	ask()
	nettest.Eventually(t, "the other end has all", func() bool { return hasAll(t, c) })
	release()
	for _, in := range ins {
		soon(t, in)
	}
	close(talk)
	<-talked
	close(out)
	_, body = c.response(t, "GET")
	assert.Equal(t, "2", body)
}
