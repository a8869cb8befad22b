package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// clients makes connections through g, each with bytes of its own, and knows what the log
// is to say of each.
type clients struct {
	t            *testing.T
	g            *gateway
	echo, server string

	mu   sync.Mutex
	made int
	want map[string]int // how many lines of each kind, with the client's address
}

func (cs *clients) dial() *net.TCPConn {
	c, err := net.Dial("tcp", cs.g.Addr)
	if !assert.NoError(cs.t, err) {
		return nil
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

func (cs *clients) logs(c net.Conn, format string, args ...any) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.made++
	cs.want[c.LocalAddr().String()+" "+fmt.Sprintf(format, args...)]++
}

// tunnel sends n bytes to the echo and reads them, and leaves the tunnel open.
func (cs *clients) tunnel(n int) (c *net.TCPConn, ok bool) {
	if c = cs.dial(); c == nil {
		return nil, false
	}
	payload := bytes.Repeat([]byte{byte(n)}, n)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\n\r\n", cs.echo)
	got := make([]byte, len(established)+n)
	_, err := io.ReadFull(c, got[:len(established)])
	if !assert.NoError(cs.t, err) {
		return c, false
	}
	go c.Write(payload)
	_, err = io.ReadFull(c, got[len(established):])
	return c, assert.NoError(cs.t, err) && assert.Equal(cs.t, string(established)+string(payload), string(got))
}

func (cs *clients) one() bool {
	n := 1 + rand.IntN(3000)
	switch rand.IntN(3) {
	case 0:
		c, ok := cs.tunnel(n)
		if !ok {
			return false
		}
		cs.logs(c, "CONNECT %d %d ", n, n)
		return assert.NoError(cs.t, c.Close())
	case 1:
		c, ok := cs.tunnel(n)
		if !ok {
			return false
		}
		cs.logs(c, "CONNECT %d %d connection_terminated", n, n)
		c.SetLinger(0)
		return assert.NoError(cs.t, c.Close())
	}
	c := cs.dial()
	if c == nil {
		return false
	}
	defer c.Close()
	cs.logs(c, "GET 0 %d ", n)
	fmt.Fprintf(c, "GET http://%s/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", cs.server, n)
	all, err := io.ReadAll(c)
	return assert.NoError(cs.t, err) && assert.True(cs.t, strings.HasSuffix(string(all), "\r\n\r\n"+strings.Repeat("x", n)))
}

// What the state of a client's connection is used for again knows nothing of that one:
// while the sweeper cuts those that are idle, and others come, go and reset, each gets its
// own bytes and its own line in the log.
func TestReuseKeepsClientsApart(t *testing.T) {
	echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
	server := origin(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		w.Header().Set("Content-Length", strconv.Itoa(n))
		io.WriteString(w, strings.Repeat("x", n))
	})
	g := start(t, allowLoopback, nil, func(o *Options) { o.IdleTimeout = 1500 * time.Millisecond })
	cs := &clients{t: t, g: g, echo: echo, server: server.Listener.Addr().String(), want: make(map[string]int)}
	stop := make(chan struct{})
	var idle, busy sync.WaitGroup
	for range 4 {
		idle.Go(func() {
			for range 2 {
				c, ok := cs.tunnel(7)
				if !ok {
					return
				}
				cs.logs(c, "CONNECT 7 7 connection_read_timeout")
				_, err := c.Read(make([]byte, 1))
				assert.Equal(t, io.EOF, err)
				c.Close()
			}
		})
		busy.Go(func() {
			for cs.one() {
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	idle.Wait()
	close(stop)
	busy.Wait()
	nettest.Eventually(t, "all lines are there", func() bool { return strings.Count(g.log.String(), "\n") >= cs.made })
	for line := range strings.Lines(g.log.String()) {
		var l struct {
			Client, Method, Error string
			Received, Sent        int
		}
		require.NoError(t, json.Unmarshal([]byte(line), &l))
		kind := fmt.Sprintf("%s %s %d %d %s", l.Client, l.Method, l.Received, l.Sent, l.Error)
		require.NotZero(t, cs.want[kind], "%s", line)
		cs.want[kind]--
	}
}

// The sweeper may look at a tunnel that was, when that has become another.
func TestSweepOfAFormerTunnel(t *testing.T) {
	g := start(t, allowLoopback, nil, func(o *Options) { o.IdleTimeout = time.Hour })
	o := g.tunnels.Get().(*openTunnel)
	o.last.Store(1)
	before := o.Look()
	o.rec.Silent = true
	require.Zero(t, g.door.Enter(o, door.Limits{}))
	g.Metrics.Tunnels.Inc()
	g.door.Sweep(time.Now().Add(30 * time.Minute)) // it is not late yet
	require.Zero(t, o.Why())
	o.Ended(tunnel.Result{})
	assert.NotEqual(t, before, o.Look())
	assert.EqualValues(t, math.MaxInt64, o.last.Load())
	g.door.Sweep(time.Now().Add(2 * time.Hour))
	o.Sweep()
	assert.Zero(t, o.Why(), "it is not late now")
	assert.False(t, o.End(before, door.Late), "and whoever saw it so before can't cut it")
}

// Nothing of what a connection was is left when its place is used again, whatever fields it
// comes to have: what stays is named here, with the reason.
func TestReuseForgets(t *testing.T) {
	g := start(t, "", nil, nil)
	var dirty poll.Handler = held{}
	t.Run("conn", func(t *testing.T) {
		c := new(conn)
		nettest.Dirty(t, c, dirty)
		c.srv, c.tcp, c.onLoop, c.hadGoroutine = g.Server, &c.socket, false, false
		c.reuse()
		fresh := g.free.New().(*conn)
		fresh.tcp = c.tcp
		for _, name := range nettest.Left(c, fresh) {
			if !strings.HasPrefix(name, "socket.") && // begins anew by Init
				name != "fillFn" && // bound to c
				!strings.HasPrefix(name, "Entry.") && // counts lives, and is the door's
				name != "deadline.v" { // whoever ends the connection sets it
				t.Errorf("%s is left", name)
			}
		}
	})
	t.Run("exchange", func(t *testing.T) {
		x := exchanges.New().(*exchange)
		nettest.Dirty(t, x, dirty)
		x.forget()
		assert.Empty(t, nettest.Left(x, exchanges.New()))
	})
	t.Run("openTunnel", func(t *testing.T) {
		o := g.tunnels.Get().(*openTunnel)
		nettest.Dirty(t, &o.openTunnelLife, dirty)
		o.rec.Silent = true
		require.Zero(t, g.door.Enter(o, door.Limits{}))
		g.Metrics.Tunnels.Inc()
		o.Ended(tunnel.Result{})
		for _, name := range nettest.Left(o, g.tunnels.New()) {
			if !strings.HasPrefix(name, "tun.") && // begins anew by Start
				!strings.HasPrefix(name, "Entry.") && // counts lives, and is the door's
				name != "last.v" { // see TestSweepOfAFormerTunnel
				t.Errorf("%s is left", name)
			}
		}
	})
}

// The sweeper's first look has the kernel find out when a client is gone.
func TestSweepKeepsAlive(t *testing.T) {
	g := start(t, "", nil, nil)
	g.dial(t)
	kept := func() (n int) {
		g.door.Each(func(m door.Member) {
			m.(*conn).tcp.Control(func(fd uintptr) {
				on, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
				n += on
			})
		})
		return n
	}
	nettest.Eventually(t, "the sweeper has seen one", func() bool {
		g.door.Each(door.Member.Sweep)
		return kept() == 1
	})
}
