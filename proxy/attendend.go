package proxy

import (
	"os"

	"github.com/sluiceproxy/sluice/proxy/answer"
)

// expire ends an attended connection whose time limit has passed. Whoever has had
// nothing of an answer yet is told.
func (c *conn) expire() {
	switch x := c.x; {
	case x == nil && c.lingers && c.lingerExpired():
	case x == nil:
		c.finish()
	case x.stage == stageAnswer || x.stage == stageBody && c.blocked:
		x.flow.Release()
		c.endAnswer(nil, nil, os.ErrDeadlineExceeded)
	case x.stage == stageBody:
		x.flow.Release()
		c.endAnswer(nil, os.ErrDeadlineExceeded, nil)
	default:
		c.goAway(x)
	}
}

// clientGone ends an attended exchange whose client has reset the connection.
func (c *conn) clientGone() {
	x := c.x
	x.rec.Error = answer.ClassClientGone
	x.flow.Release()
	c.endExchange()
	c.finish()
}

// endExchange books the exchange that is attended, and lets it go.
func (c *conn) endExchange() {
	c.x.end()
	c.x, c.pending, c.blocked = nil, false, false
	c.served++
	c.r = c.w
	c.releaseBuffer()
}

// finish closes an attended connection.
func (c *conn) finish() {
	c.away, c.over = true, true
	if fd, _ := c.tcp.Bare(); c.loop != nil {
		c.loop.Forget(fd)
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
// comes too late finds c.away, or events of the other client, which are hints to try; the
// sweeper can't cut that one, since it has marked c.deadline before, or fails to.
func (c *conn) reuse() {
	if c.wasAway {
		return
	}
	c.r = c.w
	c.releaseBuffer()
	c.forget()
	c.srv.free.Put(c)
}
