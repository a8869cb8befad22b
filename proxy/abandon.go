package proxy

import (
	"errors"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
)

// errInternal says that a part of an exchange has panicked.
var errInternal = errors.New("a fault of the proxy")

// Abandon ends a connection on the loop whose service has panicked, unless somebody has ended
// that life of it since. Nothing of it is used again, and each step is contained, since the
// next may depend on what is broken.
func (c *conn) Abandon(of door.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.Stop(of, door.Cut) || c.over || c.hadGoroutine && !c.onLoop { // nothing is left to do, or the goroutine does it
		return
	}
	x := c.x
	c.over, c.onLoop, c.hadGoroutine, c.x, c.pending = true, false, true, nil, false
	if x != nil {
		c.srv.panicked.Do(func() { x.abandon() })
	}
	if c.loop != nil {
		c.loop.DropHandler(c.registered, c)
	}
	c.close()
}

// abandon does so for the goroutine that serves the connection.
func (c goConn) abandon() {
	if up := c.upstream.Load(); up != nil {
		up.Close()
	}
	if c.tunnel.Load() == nil {
		c.deregister()
		c.close()
	}
}

// close resets and releases a connection that is abandoned.
func (c *conn) close() {
	c.srv.panicked.Do(c.dropBound)
	c.tcp.ResetOnClose() // or the client would take what it has for the whole
	c.tcp.Close()
	c.srv.door.Leave(c)
}

// abandon closes what the exchange holds, and books it.
func (x *exchange) abandon() {
	if x.up != nil {
		x.up.Close()
	}
	x.flow.Release()
	x.did.class, x.did.status = answer.ClassInternal, 502
	x.book()
	x.ticket.Hold.Release()
}

// Abandon is for the loop, as conn.Abandon.
func (s *serverSide) Abandon(of uint64) { (*conn)(s).Abandon(of) }

// Look is for the loop, as conn.Look.
func (s *serverSide) Look() uint64 { return (*conn)(s).Look() }
