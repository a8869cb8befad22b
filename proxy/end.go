package proxy

import (
	"errors"
	"os"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

// endAnswer ends the exchange: its answer was sent, or broke off.
func (c *conn) endAnswer(l *poll.Loop, readErr, writeErr error) {
	x := c.x
	if x.stage == stageBody {
		x.did.sent += x.flow.Moved()
	}
	c.afterExchange(l, x.answered(x.body.whole, readErr, writeErr))
}

// endRefusal ends the exchange: the proxy's own answer was sent, or broke off.
func (c *conn) endRefusal(l *poll.Loop, err error) {
	keep := c.x.keep && err == nil
	if !keep && err == nil {
		c.lastAnswer()
	}
	c.afterExchange(l, keep)
}

// afterExchange goes on with the client's connection.
func (c *conn) afterExchange(l *poll.Loop, keep bool) {
	c.endExchange()
	switch {
	case !keep && c.lingers:
		c.linger(l)
	case !keep || c.setLimit(c.srv.KeepAliveTimeout) != nil:
		c.finish()
	case c.more:
		c.receiveRequest(l)
	default:
		c.awaitRequest(l)
	}
}

// endExchange books the exchange that is on the loop, and lets it go.
func (c *conn) endExchange() {
	c.x.end()
	c.x, c.pending, c.blocked = nil, false, false
	c.served++
	c.r = c.w
	c.releaseBuffer()
}

// expire ends a connection on the loop whose time limit has passed. Whoever has had
// nothing of an answer yet is told.
func (c *conn) expire() {
	switch x := c.x; {
	case x == nil && c.lingers && c.lingerExpired():
	case x == nil:
		c.finish()
	case x.stage == stageAnswer || x.stage == stageBody && c.blocked:
		x.flow.Release()
		c.endAnswer(nil, nil, os.ErrDeadlineExceeded)
	case x.stage == stageRefusing:
		c.endRefusal(nil, os.ErrDeadlineExceeded)
	case x.stage == stageBody:
		x.flow.Release()
		c.endAnswer(nil, os.ErrDeadlineExceeded, nil)
	default:
		c.toGoroutine(x)
	}
}

// clientGone ends an exchange on the loop whose client has reset the connection.
func (c *conn) clientGone() {
	x := c.x
	x.did.class = answer.ClassClientGone
	x.flow.Release()
	c.endExchange()
	c.finish()
}

// finish closes a connection that is on the loop.
func (c *conn) finish() {
	c.onLoop, c.over = false, true
	if c.loop != nil {
		c.loop.DropHandler(c.registered, c)
		c.loop = nil
	}
	c.dropBound()
	c.tcp.Close()
	c.srv.door.Leave(c)
	c.deadline.Store(0)
	if c.Again() {
		c.reuse()
	}
}

// reuse lets another client have the place of c, which is closed or a tunnel now, unless
// a goroutine has ever served it. c.mu may be held, and nothing is done with c after. What
// comes too late finds c on no loop, or events of the other client, which are hints to try;
// the sweeper can't cut that one, since it has marked c.deadline before, or fails to.
func (c *conn) reuse() {
	if c.hadGoroutine {
		return
	}
	c.r = c.w
	c.releaseBuffer()
	c.forget()
	c.srv.free.Put(c)
}

// answered ends an exchange whose answer was sent, or broke off; whole says that the
// request's body was sent.
func (x *exchange) answered(whole bool, readErr, writeErr error) (keep bool) {
	c := x.c
	if (readErr != nil || writeErr != nil) && (x.resp.Framing == http1.UntilClose || x.dechunk) {
		c.tcp.ResetOnClose() // or the client would take what it has for the whole
	}
	switch {
	case c.Why() == door.Slow:
		x.did.class = answer.ClassClientSlow
		c.tcp.ResetOnClose() // or the kernel would hold what it has not taken for long
		return false
	case writeErr != nil || c.gone.Load():
		x.did.class = answer.ClassClientGone
		return false
	case readErr != nil:
		x.brokenOff(readErr)
		return false
	}
	if whole && x.resp.KeepAlive && x.ir == x.iw {
		c.upstream.Store(nil)
		if x.up.Bound = x.authenticates(); x.up.Bound {
			c.bind(x.up)
		} else {
			c.srv.Gate.Pool.Put(x.up, c.srv.door.Time())
		}
		x.up = nil
	}
	if keep = x.keep && whole; !keep {
		c.lastAnswer()
	}
	return keep
}

// brokenOff books an answer of which the server sent the beginning only, or one that
// cannot be framed from here on. The log does not call it a success, whatever the status
// that the client was sent.
func (x *exchange) brokenOff(err error) {
	var bad *http1.Error
	x.did.status, x.did.class = 502, answer.ClassTerminated
	if err == errShowsBehind {
		x.did.details = err.Error()
	}
	if errors.As(err, &bad) || err == errShowsBehind {
		x.did.class = answer.ClassProtocol
		x.c.tcp.ResetOnClose() // it must not look like the whole
	}
}

// end ends the body's way too, and books the exchange.
func (x goExchange) end() {
	if x.body != nil {
		x.body.stop(x)
	}
	x.exchange.end()
}
