package proxy

import (
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// A connection is not closed right behind its last answer: what the client has sent and
// nobody has read, or still sends, would make the kernel reset it, and the client may lose
// the answer (RFC 9112 section 9.6). So it lingers: its sending half is closed, and what
// comes is thrown away until the client has closed too. That takes no goroutine.

// Bounds of a lingering close. A client that is silent has lingerTime, and again for as
// long as there is something of the answer that it has not taken; lingerMost is for all.
const (
	lingerTime = 2 * time.Second
	lingerMost = 30 * time.Second
)

// lingerBytes bounds what is read of a client that was refused a place.
const lingerBytes = 1 << 20

// lastAnswer says, after an answer that was sent, that the connection is to end with it.
func (c *conn) lastAnswer() { c.lingers = true }

// linger ends a connection on the loop whose last answer was sent.
func (c *conn) linger(l *poll.Loop) {
	if c.discard() { // as a client does that closes first
		c.finish()
		return
	}
	fd, _ := c.tcp.Bare()
	sock.ShutdownWrite(fd)
	c.lingerEnd = int64(c.srv.door.Now() + lingerMost)
	if c.setLimit(lingerTime) != nil || !c.register(l) {
		c.finish()
	}
}

// lingerReady is Ready of a connection that lingers.
func (c *conn) lingerReady() {
	if c.discard() || c.setLimit(lingerTime) != nil || int64(c.srv.door.Now()) >= c.lingerEnd {
		c.finish()
	}
}

// discard throws away what the client has sent, and reports whether it has ended.
func (c *conn) discard() (over bool) {
	fd, _ := c.tcp.Bare()
	for range 64 { // a turn; there is an event for what comes next, or the limit
		n, err := sock.TryDiscard(fd)
		if err == unix.EAGAIN {
			return false
		}
		if n <= 0 {
			return true
		}
	}
	return false
}

// lingerExpired is called when a lingering connection's time has passed. It reports whether
// the client gets more, since it has not taken the whole answer yet.
func (c *conn) lingerExpired() (more bool) {
	fd, ok := c.tcp.Bare()
	if !ok || c.srv.door.Cutting() || int64(c.srv.door.Now()) >= c.lingerEnd {
		return false
	}
	if n, err := sock.Unsent(fd); n == 0 || err != nil {
		return false
	}
	c.Revive(door.Late)
	return c.setLimit(lingerTime) == nil
}

// lingerOnLoop has a connection linger that a goroutine has served.
func (c goConn) lingerOnLoop() (left bool) {
	c.r = c.w
	c.releaseBuffer()
	c.deregister()
	c.dropBound()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() || c.Why() != 0 || c.tcp.Reclaim() != nil {
		return false
	}
	c.onLoop, c.more, c.ending = true, false, false
	c.linger(nil)
	return true
}

// lingerRefused does so, within narrower bounds, for a client that was refused a place.
func (c goConn) lingerRefused() {
	c.tcp.CloseWrite()
	io.CopyN(io.Discard, onlyReader{c.tcp}, lingerBytes)
}
