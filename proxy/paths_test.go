package proxy

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// What happens to the connection when all was said.
const (
	stays  = ""
	closed = "closed"
	broken = "reset"
)

// script is an exchange, byte by byte. @ stands for the server's HOST:PORT.
type script struct {
	name    string
	request string // all that the client sends
	reply   string // all that the server sends, when it has heard
	hears   string // this, somewhere at the end of what it has read; "": a head
	server  string // what the server does then: stays, closed, broken
	client  string // what becomes of the client's connection
	records int    // 0: one
	loop    bool   // without a goroutine, when nothing is cut
}

const simple = "GET http://@/ HTTP/1.1\r\nHost: x\r\n\r\n"

var scripts = []script{
	{name: "length", request: simple, reply: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", loop: true},
	{name: "empty", request: simple, reply: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", loop: true},
	{name: "chunked", request: simple, reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n", loop: true},
	{name: "chunked to HTTP/1.0", request: "GET http://@/ HTTP/1.0\r\n\r\n", reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", client: closed},
	{name: "until close", request: simple, reply: "HTTP/1.1 200 OK\r\n\r\nhello", server: closed, client: closed},
	{name: "until reset", request: simple, reply: "HTTP/1.1 200 OK\r\n\r\nhello", server: broken, client: broken},
	{name: "server closes", request: simple, reply: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", server: closed, loop: true},
	{name: "client closes", request: "GET http://@/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", client: closed},
	{name: "HTTP/1.0 kept", request: "GET http://@/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", loop: true},
	{name: "HEAD", request: "HEAD http://@/ HTTP/1.1\r\nHost: x\r\n\r\n", reply: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", loop: true},
	{name: "HEAD chunked", request: "HEAD http://@/ HTTP/1.1\r\nHost: x\r\n\r\n", reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", loop: true},
	{name: "204", request: simple, reply: "HTTP/1.1 204 No Content\r\n\r\n", loop: true},
	{name: "304", request: simple, reply: "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", loop: true},
	{name: "interim", request: simple, reply: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "interim to HTTP/1.0", request: "GET http://@/ HTTP/1.0\r\n\r\n", reply: "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", client: closed},
	{name: "POST", request: "POST http://@/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", hears: "abc", reply: "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", loop: true},
	{name: "PUT", request: "PUT http://@/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", hears: "abc", reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", loop: true},
	{name: "POST chunked", request: "POST http://@/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", hears: "0\r\nX-T: 1\r\n\r\n", reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "POST long", request: "POST http://@/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabcdefghi", hears: "ghi", reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", loop: true},
	{name: "pipeline", request: simple + simple, reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", records: 2},
	{name: "pipeline with a denied one", request: simple + "GET http://denied.test/ HTTP/1.1\r\nHost: x\r\n\r\n" + simple, reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", records: 3},
	{name: "denied", request: "GET http://denied.test/ HTTP/1.1\r\nHost: x\r\n\r\n", loop: true},
	{name: "denied POST", request: "POST http://denied.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", loop: true},
	{name: "denied CONNECT", request: "CONNECT denied.test:443 HTTP/1.1\r\n\r\n", loop: true},
	{name: "no such name", request: "GET http://nowhere.test/ HTTP/1.1\r\nHost: x\r\n\r\n", loop: true},
	{name: "CONNECT to no such name", request: "CONNECT nowhere.test:443 HTTP/1.1\r\n\r\n", loop: true},
	{name: "loop", request: "GET http://@/ HTTP/1.1\r\nHost: x\r\nVia: 1.1 sluice-test\r\n\r\n", loop: true},
	{name: "bad target", request: "GET http://a@b:1/ HTTP/1.1\r\nHost: x\r\n\r\n"},
	{name: "origin form", request: "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
	{name: "OPTIONS", request: "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"},
	{name: "bad head", request: "GET http://@/ HTTP/1.1\r\nHost: x\r\nBad : y\r\n\r\n", client: closed},
	{name: "closed early", request: simple, server: closed},
	{name: "closed in the head", request: simple, reply: "HTTP/1.1 200 OK\r\nContent-Le", server: closed},
	{name: "closed in the body", request: simple, reply: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", server: closed, client: closed},
	{name: "closed in a chunk", request: simple, reply: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", server: closed, client: closed},
	{name: "reset in the body", request: simple, reply: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", server: broken, client: closed},
	{name: "garbage", request: simple, reply: "SSH-2.0-OpenSSH_9.2\r\n\r\n"},
	{name: "two lengths", request: simple, reply: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
	{name: "unasked", request: simple, reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{name: "upgrade", request: "GET http://@/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", reply: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello", server: closed, client: closed},
	{name: "upgrade refused", request: "GET http://@/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", reply: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{name: "CONNECT", request: "CONNECT @ HTTP/1.1\r\n\r\nearly", hears: "early", reply: "hello", server: closed, client: closed},
	{name: "CONNECT reset", request: "CONNECT @ HTTP/1.1\r\n\r\nearly", hears: "early", reply: "hello", server: broken, client: broken},
	{name: "CONNECT, the server speaks first", request: "CONNECT @ HTTP/1.1\r\n\r\n", hears: "-", reply: "hello", server: closed, client: closed},
}

// cut is where a script is cut: the bytes of either side are sent in two pieces.
type cut struct {
	goroutine      bool // serves it
	client, server int  // 0: not cut
}

// outcome is all that can be seen of an exchange.
type outcome struct {
	Client, Ends string
	Server       string
	Records      []string
	Metrics      map[string]float64
}

// prefix has a goroutine serve what stands behind it, since it comes in the same piece.
const prefix = "GET http://denied.test/prefix HTTP/1.1\r\nHost: x\r\n\r\n"

// theatre is a gateway with a server, on which scripts are played.
type theatre struct {
	*gateway
	t      *testing.T
	l      net.Listener
	script *script
	cut    cut

	mu      sync.Mutex
	records []string
	heard   []string // by the server's connections
	ended   int      // of those
}

// Everything that is served by the loops comes out the same on a goroutine, and the other
// way round, wherever the client's bytes or the server's are cut.
func TestBothPaths(t *testing.T) {
	for i := range scripts {
		s := &scripts[i]
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			st := newTheatre(t, s)
			want := st.play(cut{})
			assert.Equal(t, s.client, want.Ends)
			request, reply := st.fill(s.request), s.reply
			cuts := []cut{{goroutine: true}}
			for i := 1; i < len(request); i++ {
				cuts = append(cuts, cut{client: i})
				if i%7 == 0 {
					cuts = append(cuts, cut{client: i, goroutine: true})
				}
			}
			for i := 1; i < len(reply); i++ {
				cuts = append(cuts, cut{server: i}, cut{server: i, goroutine: true})
			}
			for _, c := range cuts {
				if !assert.Equal(t, want, st.play(c), "%+v", c) {
					return
				}
			}
		})
	}
}

func newTheatre(t *testing.T, s *script) *theatre {
	st := &theatre{t: t, script: s}
	st.gateway = start(t, "!denied.test\n127.0.0.0/8\nnowhere.test\n", nil, func(o *Options) {
		lines := linelog.New(io.Discard, linelog.Options{})
		t.Cleanup(func() { lines.Close(time.Minute) })
		o.Access = accesslog.New(lines, func(b []byte, r *accesslog.Request) []byte {
			st.mu.Lock()
			defer st.mu.Unlock()
			st.records = append(st.records, string(accesslog.JSON(nil, r)))
			return b
		})
	})
	var err error
	st.l, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := st.l.Accept()
			if err != nil {
				return
			}
			st.mu.Lock()
			i := len(st.heard)
			st.heard = append(st.heard, "")
			st.mu.Unlock()
			wg.Go(func() {
				heard := st.serve(c.(*net.TCPConn))
				st.mu.Lock()
				defer st.mu.Unlock()
				st.heard[i] = heard
				st.ended++
			})
		}
	})
	t.Cleanup(func() {
		st.l.Close()
		st.Gate.Pool.Evict(100)
		wg.Wait()
	})
	return st
}

func (st *theatre) fill(s string) string { return strings.ReplaceAll(s, "@", st.l.Addr().String()) }

// serve plays the server's part on one connection, and returns what it has heard.
func (st *theatre) serve(c *net.TCPConn) string {
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	s := st.script
	hears := s.hears
	if hears == "" {
		hears = "\r\n\r\n"
	}
	var heard []byte
	b := make([]byte, 4096)
	for from := 0; ; {
		for hears != "-" && !strings.HasSuffix(string(heard[from:]), hears) {
			n, err := c.Read(b)
			heard = append(heard, b[:n]...)
			if err != nil {
				return string(heard)
			}
		}
		from = len(heard)
		st.mu.Lock()
		at := st.cut.server
		st.mu.Unlock()
		inTwo(c, s.reply, at)
		switch s.server {
		case closed:
			c.CloseWrite()
		case broken:
			c.SetLinger(0)
			return string(heard)
		}
		if s.hears == "-" {
			hears = "never"
		}
	}
}

// inTwo sends s in two pieces, the second when the first was taken.
func inTwo(c *net.TCPConn, s string, at int) {
	if at > 0 {
		io.WriteString(c, s[:at])
		taken(c)
	}
	io.WriteString(c, s[at:])
}

// taken waits until the other end of c, which is in this process, has read what was sent, if
// it reads on at all.
func taken(c *net.TCPConn) {
	us, them := c.LocalAddr().String(), c.RemoteAddr().String()
	nettest.Within(20*time.Millisecond, func() bool {
		found, gap := false, 0
		for fd := 3; gap < 100 && !found; fd++ {
			peer, err := unix.Getpeername(fd)
			if gap++; err != unix.EBADF {
				gap = 0
			}
			if err != nil || addrOf(peer) != us {
				continue
			}
			own, err := unix.Getsockname(fd)
			if found = err == nil && addrOf(own) == them; found {
				if n, err := sock.Unread(fd); err != nil || n == 0 {
					return true
				}
			}
		}
		return false
	})
}

func addrOf(a unix.Sockaddr) string {
	in, ok := a.(*unix.SockaddrInet4)
	if !ok {
		return ""
	}
	return net.JoinHostPort(net.IP(in.Addr[:]).String(), strconv.Itoa(in.Port))
}

// play plays the script once, and returns what came of it.
func (st *theatre) play(at cut) (o outcome) {
	t, s := st.t, st.script
	st.mu.Lock()
	st.cut, st.records, st.heard, st.ended = at, nil, nil, 0
	st.mu.Unlock()
	before := st.counted()
	c, err := net.Dial("tcp", st.Addr)
	require.NoError(t, err)
	client := c.(*net.TCPConn)
	defer client.Close()
	client.SetDeadline(time.Now().Add(20 * time.Second))
	request, n := st.fill(s.request), max(s.records, 1)
	if at.goroutine {
		request, n = prefix+request, n+1
		if at.client > 0 {
			at.client += len(prefix)
		}
	}
	inTwo(client, request, at.client)
	var got []byte
	if s.client != stays {
		got, err = io.ReadAll(client)
		switch {
		case err == nil:
			o.Ends = closed
		case assert.ErrorIs(t, err, syscall.ECONNRESET):
			o.Ends = broken
		}
		client.Close()
	}
	nettest.Eventually(t, fmt.Sprintf("%+v: there are %d records", at, n), func() bool { return len(st.logged()) >= n })
	if s.client == stays {
		got = atHand(t, client)
		if s.loop && at == (cut{}) {
			st.door.Each(func(m door.Member) {
				if c, ok := m.(*conn); ok {
					c.mu.Lock()
					assert.False(t, c.hadGoroutine, "a goroutine has served it")
					c.mu.Unlock()
				}
			})
		}
		client.Close()
	}
	o.Metrics = st.counted()
	for k, v := range before {
		if o.Metrics[k] -= v; o.Metrics[k] == 0 {
			delete(o.Metrics, k)
		}
	}
	o.Client, o.Records = normal(string(got)), st.logged()
	if at.goroutine {
		st.withoutPrefix(&o)
	}
	o.Server = st.whatWasHeard()
	return o
}
