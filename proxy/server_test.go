package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func TestHeadTimeout(t *testing.T) {
	g := start(t, "*", nil, func(o *Options) { o.HeadTimeout = 100 * time.Millisecond })
	c := g.dial(t)
	c.send(t, "GET http://127.0.0.1/ HTTP/1.1\r\nHost:")
	res, _ := c.response(t, "GET")
	assert.Equal(t, "408 Request Timeout: no whole request head within 100ms", res.Status)
	silent := g.dial(t)
	silent.closed(t) // one that has sent nothing is told nothing
}

func TestKeepAliveTimeout(t *testing.T) {
	g := start(t, "", nil, func(o *Options) { o.KeepAliveTimeout = 100 * time.Millisecond })
	c := g.dial(t)
	c.send(t, "CONNECT a.test:1 HTTP/1.1\r\n\r\n")
	res, _ := c.response(t, "GET")
	assert.Equal(t, 403, res.StatusCode)
	c.closed(t)
	g.lines(t, 1)
}

func TestSlowServer(t *testing.T) {
	release := make(chan struct{})
	server := rawOrigin(t, func(c *rawClient) {
		c.head(t)
		<-release
	})
	defer close(release)
	g := start(t, allowLoopback, nil, func(o *Options) { o.IdleTimeout = 100 * time.Millisecond })
	c := g.dial(t)
	c.send(t, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", server)
	res, _ := c.response(t, "GET")
	assert.Equal(t, "504 Gateway Timeout: the server did not answer in time", res.Status)
	assert.Contains(t, res.Header.Get("Proxy-Status"), "error=http_response_timeout")
}

// Clients that never finish a head keep nobody else from being served.
func TestSlowHeadsDoNotSlowOthers(t *testing.T) {
	g := start(t, "", nil, nil)
	for range 200 {
		c := g.dial(t)
		c.send(t, "GET http://a.test/ HTTP/1.1\r\nX: ")
	}
	c := g.dial(t)
	for range 50 {
		c.send(t, "CONNECT a.test:1 HTTP/1.1\r\n\r\n")
		res, _ := c.response(t, "GET")
		require.Equal(t, 403, res.StatusCode)
	}
}

func TestConnectionLimits(t *testing.T) {
	tests := []struct {
		name   string
		limits policy.Limits
		change func(*Options)
		want   string
		error  string
	}{
		{"in all", policy.Limits{}, func(o *Options) { o.MaxConns = 2 }, "503 Service Unavailable: the proxy is at its limit of client connections", "connection_limit_reached"},
		{"for each client", policy.Limits{ConnsPerClient: 2}, nil, "429 Too Many Requests: too many connections from this client", "http_request_error"},
		{"descriptors", policy.Limits{}, func(o *Options) {
			o.Budget = fdbudget.New(4)
			o.Gate.Pool = outbound.NewPool(o.Budget, time.Minute)
		}, "503 Service Unavailable: the proxy is at its limit of client connections", "connection_limit_reached"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			echo := rawOrigin(t, func(c *rawClient) { io.Copy(c.TCPConn, c.TCPConn) })
			g := start(t, allowLoopback, nil, tt.change)
			g.tenant.Limits = tt.limits
			g.rules(t, allowLoopback)
			serve := func() *rawClient { // a tunnel gives way to nobody
				c := g.dial(t)
				c.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", echo)
				require.Contains(t, c.head(t), " 200 ")
				return c
			}
			a, _ := serve(), serve()
			c := g.dial(t)
			c.send(t, "CONNECT 192.0.2.1:1 HTTP/1.1\r\n\r\n")
			res, _ := c.response(t, "GET")
			assert.Equal(t, tt.want, res.Status)
			assert.Contains(t, res.Header.Get("Proxy-Status"), "error="+tt.error)
			assert.True(t, res.Close)
			a.Close()
			nettest.Eventually(t, "there is room again", func() bool {
				c := g.dial(t)
				defer c.Close()
				c.send(t, "CONNECT 192.0.2.1:1 HTTP/1.1\r\n\r\n")
				res, _ := c.response(t, "GET")
				return res.StatusCode == 403
			})
		})
	}
}

// Idle connections to servers make room for clients.
func TestPoolGivesWay(t *testing.T) {
	s := origin(t, func(w http.ResponseWriter, _ *http.Request) {})
	g := start(t, "!a.test\n"+allowLoopback, nil, func(o *Options) {
		o.Budget = fdbudget.New(4)
		o.Gate.Pool = outbound.NewPool(o.Budget, time.Minute)
	})
	var clients []*rawClient
	for range 2 {
		c := g.dial(t)
		c.send(t, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", s.URL)
		c.response(t, "GET")
		clients = append(clients, c)
	}
	clients[0].Close()
	clients[1].Close()
	nettest.Eventually(t, "only the pool holds descriptors", func() bool { return g.Budget.Left() == int64(4-g.Gate.Pool.Len()) })
	for range 2 {
		c := g.dial(t)
		c.send(t, "CONNECT a.test:1 HTTP/1.1\r\n\r\n")
		res, _ := c.response(t, "GET")
		assert.Equal(t, 403, res.StatusCode)
	}
}

// drain shuts the gateway down without a limit and returns when it is done.
func drain(g *gateway) (done chan struct{}, cut context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	done = make(chan struct{})
	go func() {
		defer close(done)
		g.Shutdown(ctx)
	}()
	return done, cancel
}

func TestDrain(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(release)
	server := rawOrigin(t, func(c *rawClient) {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "GET /slow") {
			c.head(t)
			close(asked)
			<-answer
			c.send(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			return
		}
		c.send(t, "%s", line)
		io.Copy(c, c.r)
	})
	g := start(t, allowLoopback, nil, nil)
	tunnel, idle, busy := g.dial(t), g.dial(t), g.dial(t)
	tunnel.send(t, "CONNECT %s HTTP/1.1\r\n\r\n", server)
	tunnel.head(t)
	tunnel.send(t, "a\n")
	tunnel.r.ReadString('\n')
	idle.send(t, "CONNECT denied.test:1 HTTP/1.1\r\n\r\n")
	idle.response(t, "GET")
	busy.send(t, "GET http://%s/slow HTTP/1.1\r\nHost: x\r\n\r\n", server)
	<-asked

	done, cut := drain(g)
	idle.closed(t)
	tunnel.send(t, "still here\n")
	line, err := tunnel.r.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "still here\n", line)
	release()
	res, body := busy.response(t, "GET")
	assert.Equal(t, "ok", body)
	assert.True(t, res.Close, "no further request on this connection")
	select {
	case <-done:
		t.Fatal("did not wait for the tunnel")
	default:
	}
	cut()
	tunnel.closed(t)
	<-done
}

// A request that has been sent when the drain begins is answered.
func TestDrainAnswersWhatCame(t *testing.T) {
	for range 20 {
		g := start(t, "", nil, nil)
		c := g.dial(t)
		c.send(t, "CONNECT a.test:1 HTTP/1.1\r\n\r\n")
		c.response(t, "GET")
		c.send(t, "CONNECT a.test:1 HTTP/1.1\r\n\r\n")
		fresh := g.dial(t) // perhaps not accepted yet
		fresh.send(t, "CONNECT a.test:1 HTTP/1.1\r\n\r\n")
		done, cut := drain(g)
		res, _ := c.response(t, "GET")
		assert.Equal(t, 403, res.StatusCode)
		c.Close()
		res, _ = fresh.response(t, "GET")
		assert.Equal(t, 403, res.StatusCode)
		fresh.Close()
		<-done
		cut()
	}
}

// A reader that is slow costs the proxy no memory, and the answer comes whole.
func TestSlowReader(t *testing.T) {
	const size = 100 << 20
	s := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		io.CopyN(w, neverEnding('x'), size)
	})
	g := start(t, allowLoopback, nil, nil)
	c := g.dial(t)
	c.send(t, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", s.URL)
	c.head(t)
	one := make([]byte, 1)
	for range 100 {
		_, err := io.ReadFull(c.r, one)
		require.NoError(t, err)
	}
	n, err := io.CopyN(io.Discard, c.r, size-100)
	assert.NoError(t, err)
	assert.EqualValues(t, size-100, n)
}

func TestRequestIDs(t *testing.T) {
	var s idSource
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				id := s.next()
				mu.Lock()
				assert.False(t, seen[id])
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
