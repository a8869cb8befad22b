package proxy

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

// What a client does while it is served without being read from: it may reset the connection,
// which ends the exchange at once, whoever waits for the server; or end its half, which
// clients do that still want the answer, as well as those that have gone. Those are told
// apart by what is sent to them. So from then on a server has HalfCloseTimeout for each byte.

// halfCloseLimit is how long the server of a half-closed client may take for a byte.
func (s *Server) halfCloseLimit() time.Duration {
	switch idle, half := s.IdleTimeout, s.HalfCloseTimeout; {
	case half == 0:
		return idle
	case idle == 0:
		return half
	default:
		return min(idle, half)
	}
}

// halfClosed is called when the client has ended its half during an exchange.
func (c *conn) halfClosed() {
	limit := c.srv.halfCloseLimit()
	if limit == 0 || c.half.Swap(true) {
		return
	}
	end := max(1, int64(c.srv.door.Now()+limit))
	for {
		old := c.deadline.Load()
		if old > 0 && old <= end || c.deadline.CompareAndSwap(old, end) {
			return
		}
	}
}

// markGone is called when the client has reset a connection that a goroutine serves, or gives
// way.
func (c *conn) markGone() {
	if !c.gone.Swap(true) {
		c.EndNow(door.Gone)
		c.interrupt()
		if stop := c.stop.Load(); stop != nil {
			(*stop)()
		}
	}
}

// whileThere is the context of what a goroutine waits for before there is a connection to
// a server: it ends when the client is gone. done is called when the wait is over.
func (c goConn) whileThere() (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancel(c.srv.ctx)
	c.stop.Store(&cancel)
	if c.gone.Load() {
		cancel()
	}
	return ctx, func() {
		c.stop.Store(nil)
		cancel()
	}
}

// clientEvent is Ready while a goroutine serves the connection. Events are hints: one may be
// of the descriptor's former connection.
func (c *conn) clientEvent(events uint32) {
	if c.over || events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	switch half, all := c.tcp.PeerEnd(); {
	case all:
		c.markGone()
	case half:
		c.halfClosed()
	}
}

// registerEnd has no more told of the client than its end, as long as a goroutine serves it.
func (c *conn) registerEnd(l *poll.Loop) {
	fd, ok := c.tcp.Bare()
	if !ok {
		return
	}
	if c.registered = fd; c.loop != nil {
		c.loop.Rearm(fd, 0)
		return
	}
	l, err := c.srv.orNext(l)
	if err == nil && l.Register(fd, c, 0) == nil {
		c.loop = l
	} // else the idle limit will do
}

// deregister ends that: the goroutine is about to end its service, or has made a tunnel of
// the connection, whose descriptor may become another.
func (c *conn) deregister() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loop != nil {
		c.loop.Deregister(c.registered, c)
		c.loop = nil
	}
	c.half.Store(false)
}
