package proxy

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

// settles waits until there are no more goroutines than that.
func settles(t testing.TB, most int) {
	t.Helper()
	if !nettest.Within(10*time.Second, func() bool { return runtime.NumGoroutine() <= most }) {
		stacks := make([]byte, 1<<20)
		t.Fatalf("%d goroutines, not %d:\n%s", runtime.NumGoroutine(), most, stacks[:runtime.Stack(stacks, true)])
	}
}

// Who waits takes no goroutine: for a request, for a handshake, for an answer.
func TestWhoWaitsTakesNoGoroutine(t *testing.T) {
	asked, answer := make(chan struct{}, 100), make(chan struct{})
	server := rawOrigin(t, func(c *rawClient) {
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				return
			}
			c.head(t)
			if strings.Contains(line, "/slow") {
				asked <- struct{}{}
				<-answer
			}
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	dead, _ := nettest.FullQueue(t)
	g := start(t, allowLoopback, nil, nil)
	var loops []*rawClient // so that all loops are there
	for range 2 * runtime.GOMAXPROCS(0) {
		c := g.dial(t)
		c.send(t, "CONNECT denied.test:1 HTTP/1.1\r\n\r\n")
		c.response(t, "GET")
		loops = append(loops, c)
	}
	const n = 10
	var quiet, waiting []*rawClient
	for range n {
		c := g.dial(t)
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		c.response(t, "GET")
		quiet = append(quiet, c)
	}
	base := runtime.NumGoroutine()
	for range n {
		g.dial(t).send(t, "CONNECT %s HTTP/1.1\r\n\r\n", dead)
		g.dial(t).send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", dead)
		c := g.dial(t)
		c.send(t, "GET http://%s/slow HTTP/1.1\r\nHost: x\r\n\r\n", server)
		waiting = append(waiting, c)
		<-asked
		g.dial(t) // says nothing
	}
	settles(t, base+n) // the origin's, of which one serves each that waits
	close(answer)
	for _, c := range waiting {
		_, body := c.response(t, "GET")
		assert.Equal(t, "ok", body)
	}
	for _, c := range append(quiet, loops...) {
		c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
		_, body := c.response(t, "GET")
		assert.Equal(t, "ok", body)
	}
}

// A handshake that does not end is told as such, whatever asked for it.
func TestHandshakeTooSlow(t *testing.T) {
	dead, _ := nettest.FullQueue(t)
	g := start(t, allowLoopback, nil, func(o *Options) { o.ConnectTimeout = 100 * time.Millisecond })
	for _, request := range []string{"CONNECT %s HTTP/1.1\r\n\r\n", "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
		c := g.dial(t)
		for range 2 { // the connection can be used again
			c.send(t, request, dead)
			res, body := c.response(t, "GET")
			assert.Equal(t, 504, res.StatusCode)
			assert.Contains(t, res.Header.Get("Proxy-Status"), "error=connection_timeout;")
			assert.Contains(t, body, "connect to "+dead.String())
		}
	}
}

// A handshake that takes its time ends in a tunnel all the same, and in an answer.
func TestHandshakeLate(t *testing.T) {
	dead, accept := nettest.FullQueue(t)
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", dead)
	quiet := g.dial(t)
	quiet.send(t, "CONNECT denied.test:1 HTTP/1.1\r\n\r\n") // answered when the other has begun
	quiet.response(t, "GET")
	accept()
	assert.Contains(t, c.head(t), "HTTP/1.1 200 ")
}

// What takes a goroutine does so for no longer than it must.
func TestReturnsToLoop(t *testing.T) {
	s := origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunks" { // not in one piece
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
		}
		io.ReadAll(r.Body)
		io.WriteString(w, "ok")
	})
	g := start(t, allowLoopback, nil, nil)
	var all []*rawClient
	base := 0
	for i := range 4 * runtime.GOMAXPROCS(0) {
		c := g.dial(t)
		for range 3 {
			for _, path := range []string{"/chunks", "/"} {
				c.send(t, "GET %s%s HTTP/1.1\r\nHost: x\r\n\r\n", s.URL, path)
				_, body := c.response(t, "GET")
				assert.Equal(t, "ok", body)
			}
			c.send(t, "PUT %s/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", s.URL)
			assert.Contains(t, c.head(t), "HTTP/1.1 100 ")
			c.send(t, "in") // for which a goroutine had to wait
			_, body := c.response(t, "PUT")
			assert.Equal(t, "ok", body)
		}
		all = append(all, c)
		if s.CloseClientConnections(); i == runtime.GOMAXPROCS(0) {
			base = runtime.NumGoroutine()
		}
	}
	settles(t, base)
	for _, c := range all {
		c.send(t, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", s.URL)
		_, body := c.response(t, "GET")
		assert.Equal(t, "ok", body)
	}
}

// A long answer whose client takes no more, or whose server sends no more, ends with the
// idle limit, and the log says who it was.
func TestLongAnswerStalls(t *testing.T) {
	const size = 64 << 20
	release := make(chan struct{})
	s := origin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		if r.URL.Path == "/stall" {
			io.CopyN(w, neverEnding('x'), size/2)
			w.(http.Flusher).Flush()
			<-release
			return
		}
		io.CopyN(w, neverEnding('x'), size)
	})
	defer close(release)
	g := start(t, allowLoopback, nil, func(o *Options) { o.IdleTimeout = 300 * time.Millisecond })
	c := g.dial(t)
	c.send(t, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", s.URL)
	assert.Contains(t, g.lines(t, 1)[0], `"error":"client_aborted"`)
	c = g.dial(t)
	c.send(t, "GET %s/stall HTTP/1.1\r\nHost: x\r\n\r\n", s.URL)
	c.head(t)
	n, err := io.Copy(io.Discard, c.r)
	assert.NoError(t, err)
	assert.EqualValues(t, size/2, n)
	assert.Contains(t, g.lines(t, 2)[1], `"error":"connection_terminated"`)
	g.door.Wait(t.Context())
	assert.Zero(t, g.Gate.Pool.Len())
}

// Many clients at once, each with answers and tunnels of its own, of all kinds: nobody
// gets what is another's.
func TestNoMixUp(t *testing.T) {
	s := origin(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		body := strings.Repeat(r.URL.Path, n/len(r.URL.Path)+1)
		switch r.URL.Query().Get("as") {
		case "length":
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		case "close":
			w.Header().Set("Connection", "close")
		}
		in, _ := io.ReadAll(r.Body)
		w.Header().Set("In", string(in))
		io.WriteString(w, body)
	})
	g := start(t, allowLoopback+"a.test", names{"a.test": {netip.MustParseAddr("127.0.0.1")}}, nil)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			var c *rawClient
			for j := range 40 {
				if c == nil || rnd.IntN(8) == 0 {
					c = g.dial(t)
					if rnd.IntN(3) == 0 {
						c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", s.Listener.Addr())
						c.head(t)
					}
				}
				path := fmt.Sprintf("/%d/%d/", i, j)
				n := []int{0, 1000, 5000, 70_000, 300_000}[rnd.IntN(5)]
				as := []string{"length", "chunks", "close"}[rnd.IntN(3)]
				host := []string{s.Listener.Addr().String(), "a.test:" + portOf(s.Listener.Addr().String())}[rnd.IntN(2)]
				request := fmt.Sprintf("PUT http://%s%s?n=%d&as=%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", host, path, n, as, host, len(path), path)
				cut := len(request)
				if rnd.IntN(4) == 0 {
					cut = rnd.IntN(len(request))
				}
				c.send(t, "%s", request[:cut])
				if cut < len(request) {
					runtime.Gosched()
					c.send(t, "%s", request[cut:])
				}
				res, body := c.response(t, "PUT")
				assert.Equal(t, 200, res.StatusCode)
				assert.Equal(t, path, res.Header.Get("In"))
				assert.Equal(t, strings.Repeat(path, n/len(path)+1), body)
				if res.Close {
					c = nil
				}
			}
		})
	}
	wg.Wait()
}

// held is a handler that holds its loop until it is released.
type held struct{ in, out chan struct{} }

func (h held) Ready(*poll.Loop, int, uint32) {
	close(h.in)
	<-h.out
}

// dialEachLoop has clients in all loops, so that those are there, and returns one.
func dialEachLoop(t testing.TB, g *gateway) (c *rawClient) {
	for range 2 * runtime.GOMAXPROCS(0) {
		c = g.dial(t)
		c.send(t, "CONNECT denied.test:1 HTTP/1.1\r\n\r\n")
		c.response(t, "GET")
	}
	return c
}

// eachLoop returns all loops. Whoever takes a turn meanwhile (a goroutine that leaves its
// client to a loop again) leaves one out of a round.
func eachLoop(t testing.TB, g *gateway) []*poll.Loop {
	var all []*poll.Loop
	for len(all) < runtime.GOMAXPROCS(0) {
		l, err := g.loops.Next()
		require.NoError(t, err)
		if !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all
}

// hold has all loops do nothing until release is called.
func hold(t testing.TB, g *gateway) (release func()) {
	out := make(chan struct{})
	for _, l := range eachLoop(t, g) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() {
			unix.Close(fds[0])
			unix.Close(fds[1])
		})
		h := held{make(chan struct{}), out}
		require.NoError(t, l.Register(fds[0], h, poll.Readable))
		_, err = unix.Write(fds[1], []byte("x"))
		require.NoError(t, err)
		soon(t, h.in)
	}
	return func() { close(out) }
}

// A server that speaks as soon as the handshake is over, before the request was sent, is heard:
// the kernel tells both at once, and only once.
func TestServerSpeaksFirst(t *testing.T) {
	dead, accept := nettest.FullQueue(t)
	g := start(t, allowLoopback, nil, nil)
	dialEachLoop(t, g)
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", dead)
	nettest.Eventually(t, "it is being connected", func() bool { return connecting(g) })
	release := hold(t, g)
	accept()
	conn := accept()
	_, err := unix.Write(conn, []byte("HTTP/1.1 400 Too early\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
	require.NoError(t, err)
	release()
	res, _ := c.response(t, "GET")
	assert.Equal(t, 400, res.StatusCode)
}

// connecting reports whether an exchange on the loop waits for a handshake.
func connecting(g *gateway) (yes bool) {
	g.door.Each(func(m door.Member) {
		if c, ok := m.(*conn); ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			yes = yes || c.x != nil && c.x.stage == stageConnecting
		}
	})
	return yes
}

// A client that resets its connection while its server thinks is not waited for.
func TestClientResets(t *testing.T) {
	asked, gone := make(chan struct{}), make(chan struct{})
	server := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		close(asked)
		c.r.ReadByte() // until the proxy closes
		close(gone)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
	<-asked
	c.SetLinger(0)
	c.Close()
	<-gone
	assert.Contains(t, g.lines(t, 1)[0], `"error":"client_aborted"`)
}

// A server that speaks on an idle connection when a request is on its way already is not
// taken for who answers it, also when so much else happens that what it says is told later.
func TestServerSpeaksUnasked(t *testing.T) {
	for name, others := range map[string]int{"told at once": 0, "told later": 300 * runtime.GOMAXPROCS(0)} {
		t.Run(name, func(t *testing.T) { serverSpeaksUnasked(t, others) })
	}
}

func serverSpeaksUnasked(t *testing.T, others int) {
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
	g := start(t, allowLoopback, nil, func(o *Options) { o.Budget = fdbudget.New(int64(2*others + 1000)) })
	c := dialEachLoop(t, g)
	crowd := make([]*rawClient, others)
	for i := range crowd {
		crowd[i] = g.dial(t)
		crowd[i].send(t, "CONNECT denied.test:1 HTTP/1.1\r\n\r\n")
		crowd[i].response(t, "GET")
	}
	ask := func() { c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server) }
	ask()
	_, body := c.response(t, "GET")
	require.Equal(t, "1", body)
	nettest.Eventually(t, "the connection is pooled", func() bool { return g.Gate.Pool.Len() == 1 })
	release := hold(t, g)
	ask() // is told before what the server says
	for _, o := range crowd {
		o.send(t, "\r\n") // nothing yet, which is told too
	}
	talk <- struct{}{}
	<-talk
	release()
	_, body = c.response(t, "GET")
	assert.Equal(t, "2", body)
}

// An event may be one of the connection that had the descriptor before: what it says is
// looked at before an exchange is ended for it.
func TestEventOfAFormerConnection(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	server := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		close(asked)
		<-answer
		c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
	<-asked
	l, err := g.loops.Next()
	require.NoError(t, err)
	g.door.Each(func(m door.Member) {
		own := m.(*conn)
		fd, ok := own.tcp.Bare()
		require.True(t, ok)
		own.Ready(l, fd, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR)
	})
	close(answer)
	_, body := c.response(t, "GET")
	require.Equal(t, "ok", body)
}
