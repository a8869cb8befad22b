package proxy

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Most requests need no goroutine: the head comes in one piece, with all of the body, the
// addresses of the target are known, and there is one to connect to, or a connection in
// the pool; of the answer the head comes in one piece too, and its body has a length or
// is all there. Such an exchange is on the loop: whoever sees the event does what is to be
// done, and goes on to the next. What is read in one round of events is sent when the round is
// over, so that the other ends are woken once for many bytes.
//
// Whatever else happens, the connection goes to a goroutine, with the exchange as far as it
// has come; there conn.run, and what belongs to goConn and goExchange, do whatever may have to
// wait. It returns to the loop when it is between two requests.

var connectMethod = []byte("CONNECT ")

// start begins to serve a client that has just come: at once if there is one processor,
// and by one of the loops if there are others that can do it, or if none calls: what follows
// would not be put off to the end of a round, and one request after the other be begun within
// the one before. l is the loop that calls, or nil.
func (c *conn) start(l *poll.Loop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onLoop = true
	switch {
	case c.setLimit(c.srv.HeadTimeout) != nil: // everything is being cut
		c.finish()
	case c.announced:
		c.toGoroutine(nil)
	case c.srv.single && l != nil:
		c.receiveRequest(l)
	default:
		c.awaitRequest(nil)
	}
}

// Ready is for the loop: something has come from the client.
func (c *conn) Ready(l *poll.Loop, _ int, events uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.onLoop {
		c.clientEvent(events)
		return
	}
	if c.lingers && c.x == nil {
		c.lingerReady()
		return
	}
	c.ending = c.ending || events&^(unix.EPOLLIN|unix.EPOLLOUT) != 0
	c.more = c.more || events&^unix.EPOLLOUT != 0
	switch {
	case c.x != nil && events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 && c.hungUp():
		c.clientGone()
	case c.x == nil && c.more:
		c.receiveRequest(l)
	case c.blocked:
		c.blocked = false
		c.do(l)
	}
	if c.x != nil && events&unix.EPOLLRDHUP != 0 {
		if half, _ := c.tcp.PeerEnd(); half {
			c.halfClosed()
		}
	}
}

// hungUp reports whether the client has reset the connection: an event may be one of the
// descriptor's former connection.
func (c *conn) hungUp() bool {
	fd, _ := c.tcp.Bare()
	return sock.HungUp(fd)
}

// receiveRequest reads what has come, and begins an exchange if that is a request. c.mu is
// held, as in all that follows; l is the loop that calls, or nil.
func (c *conn) receiveRequest(l *poll.Loop) {
	fd, _ := c.tcp.Bare()
	c.buf = headBuffers.Get().(*[headRoom]byte)[:]
	n, err := sock.TryRead(fd, c.buf)
	c.r, c.w = 0, max(n, 0)
	c.more = c.ending || n == len(c.buf)
	switch {
	case err == unix.EAGAIN:
		c.releaseBuffer()
		c.awaitRequest(l)
	case n <= 0:
		c.releaseBuffer()
		c.finish()
	case c.socks.speaks:
		c.receiveSocks(l)
	case !c.beginExchange(l):
		c.r = 0
		c.toGoroutine(nil)
	}
}

// beginExchange begins one that can be served on the loop, or reports that this can't.
func (c *conn) beginExchange(l *poll.Loop) bool {
	x := exchanges.Get().(*exchange)
	x.begin(c)
	able := false
	switch {
	case c.inside != nil: // for a goroutine: its requests have another form, and their server TLS
	case c.socks.speaks:
		able = x.beginSocks(l)
	case bytes.HasPrefix(c.buffered(), connectMethod):
		able = x.beginConnect(l)
	default:
		able = x.prepare(l)
	}
	if !able {
		x.did.silent = true // it is begun anew elsewhere
		x.end()
		return false
	}
	c.x, c.spoken = x, false
	c.proceed(l)
	return true
}

// proceed goes on with an exchange whose stage was set by an attempt to get a connection.
func (c *conn) proceed(l *poll.Loop) {
	switch c.x.stage {
	case stageDial:
		c.toGoroutine(c.x)
	case stageFailed:
		c.refuseNow(l)
	case stageConnecting: // an event will tell
	default:
		c.touch()
		c.push(l)
	}
}

// orNext returns l, or another loop if it is nil.
func (s *Server) orNext(l *poll.Loop) (*poll.Loop, error) {
	if l != nil {
		return l, nil
	}
	return s.loops.Next()
}

// push does the next step of the exchange when the round of events is over.
func (c *conn) push(l *poll.Loop) {
	c.pending = true
	if l == nil {
		c.do(l)
		return
	}
	l.Later(c)
}

// Do is for the loop: the round is over.
func (c *conn) Do(l *poll.Loop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending {
		c.do(l)
	}
}

func (c *conn) do(l *poll.Loop) {
	c.pending = false
	switch c.x.stage {
	case stageAnswer:
		c.sendAnswer(l)
	case stageBody:
		c.moveBody(l)
	case stageConnected:
		c.makeTunnel()
	case stageRefusing:
		c.sendRefusal(l)
	default:
		c.sendRequest(l)
	}
}

// serverSide is a conn as the one whom the events of its server's connection are for.
type serverSide conn

// Ready is for the loop: something has come from the server.
func (s *serverSide) Ready(l *poll.Loop, fd int, events uint32) {
	c := (*conn)(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.x
	if !c.onLoop || x == nil || x.up == nil {
		return
	}
	if own, _ := x.up.TCP.Bare(); own != fd {
		return
	}
	switch x.stage {
	case stageSent:
		c.receiveAnswer(l, fd)
	case stageBody:
		if !c.blocked && !c.pending {
			c.push(l)
		}
	case stageConnecting:
		c.spoken = events&^unix.EPOLLOUT != 0 // it will not be told again
		c.endConnect(l)
	}
}

// awaitRequest waits for the client's next request.
func (c *conn) awaitRequest(l *poll.Loop) {
	if !c.register(l) || c.srv.door.Draining() { // Shutdown sets draining first, and then looks who is quiet
		c.toGoroutine(nil)
	}
}

// register has the client's events told, by l if not yet by another loop.
func (c *conn) register(l *poll.Loop) bool {
	if c.loop != nil {
		return true
	}
	l, err := c.srv.orNext(l)
	if err != nil {
		return false
	}
	fd, ok := c.tcp.Bare()
	if !ok || l.Register(fd, c, poll.Readable) != nil {
		return false
	}
	c.loop, c.registered, c.writeInterest = l, fd, false
	return true
}

// toGoroutine has a goroutine serve the connection, and go on with x, if there is one.
func (c *conn) toGoroutine(x *exchange) {
	c.onLoop, c.hadGoroutine, c.pending, c.x = false, true, false, nil
	if x != nil {
		c.doing = x.doing()
	}
	c.registerEnd(nil)
	if x != nil && x.up != nil {
		if x.up.Deregister(); x.stage == stageRequest {
			x.dropUpstream()
		}
	}
	c.srv.wg.Add(1)
	go c.run(x)
}
