//go:build linux

package kube

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// relay is the network between sluice-kube and the API server.
type relay struct {
	addr string
	to   string

	mu    sync.Mutex
	moved *sync.Cond // of mu: state or ended has changed
	state relayState
	conns map[net.Conn]struct{} // both ends
	ended bool
}

type relayState int

const (
	passes relayState = iota
	frozen            // connections stay, and nothing comes through
	cut               // they end, and so does each new one
)

// relay starts a relay to the API server, which ends with the test.
func (c *cluster) relay(t testing.TB) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return c.relayOn(t, l)
}

// relayOn is relay for who comes to l, in whatever namespace.
func (c *cluster) relayOn(t testing.TB, l net.Listener) *relay {
	r := &relay{addr: l.Addr().String(), to: "127.0.0.1:" + c.port, conns: make(map[net.Conn]struct{})}
	r.moved = sync.NewCond(&r.mu)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		r.ended = true
		r.closeAll()
		r.mu.Unlock()
		all.Wait()
	})
	return r
}

func (r *relay) become(s relayState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = s
	if s == cut {
		r.closeAll()
	}
	r.moved.Broadcast()
}

// closeAll ends all connections; r.mu is held.
func (r *relay) closeAll() {
	for c := range r.conns {
		c.Close()
	}
	clear(r.conns)
	r.moved.Broadcast()
}

func (r *relay) serve(a net.Conn) {
	defer a.Close()
	b, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer b.Close()
	r.mu.Lock()
	if r.state == cut || r.ended {
		r.mu.Unlock()
		return
	}
	r.conns[a], r.conns[b] = struct{}{}, struct{}{}
	r.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { r.pass(a, b) })
	r.pass(b, a)
	back.Wait()
}

// pass copies, and ends both connections at the end of one.
func (r *relay) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		for r.state == frozen && !r.ended {
			r.moved.Wait()
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
