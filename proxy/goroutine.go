package proxy

import (
	"errors"
	"os"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// What a loop calls never waits, and what waits can't be called by a loop: it has another
// receiver. A conn and an exchange are what both share; goConn and goExchange are the same as
// the goroutine has them that serves the connection, from conn.run on. They alone read and
// write by waiting for the peer.

// goConn is a conn that a goroutine serves.
type goConn struct {
	*conn
	tcp sock.Blocking
}

// goExchange is an exchange that a goroutine goes on with.
type goExchange struct {
	*exchange
	c goConn
}

func (c *conn) onGoroutine() goConn { return goConn{c, c.tcp.Blocking()} }

func (x *exchange) onGoroutine() goExchange { return goExchange{x, x.c.onGoroutine()} }

// run serves a client to the end, or until the connection is back on the loop, or until a
// tunnel has taken its place, whose end releases what is left.
func (c *conn) run(x *exchange) {
	defer c.srv.wg.Done()
	own := c.onGoroutine()
	defer c.srv.panicked.Recover(own.abandon)
	if own.serve(x) {
		return
	}
	c.dropBound()
	if c.tunnel.Load() == nil {
		c.deregister()
		c.tcp.Close()
		c.srv.door.Leave(c)
	}
}

// serve answers one request after the other until one side wants no more, or until the
// connection can return to the loop: then it is left to that. x, if not nil, is an exchange
// to go on with first.
func (c goConn) serve(x *exchange) (left bool) {
	if c.announced && !c.meet() {
		return c.lingers && c.lingerOnLoop()
	}
	for x != nil || c.waitForRequest() {
		keep := false
		if x != nil {
			keep = x.onGoroutine().carryOn()
		} else {
			x = exchanges.Get().(*exchange)
			x.begin(c.conn)
			keep = x.onGoroutine().serve()
		}
		x.onGoroutine().end()
		c.does(doing{})
		x = nil
		c.served++
		if !keep && c.lingers {
			return c.lingerOnLoop()
		}
		if !keep {
			break
		}
		if c.toLoop() {
			return true
		}
	}
	c.r = c.w
	c.releaseBuffer()
	return false
}

// waitForRequest returns true when the first byte of a request is buffered. While
// it waits for it the connection is idle, and holds no buffer.
func (c goConn) waitForRequest() bool {
	limit, state := c.srv.KeepAliveTimeout, waitNext
	if c.served == 0 {
		limit, state = c.srv.HeadTimeout, waitFirst
	}
	for first := true; ; first = false {
		if !c.socks.speaks {
			c.r += http1.SkipEmptyLines(c.buffered())
		}
		if b := c.buffered(); len(b) > 0 && (c.socks.speaks || string(b) != "\r") {
			return true
		}
		c.releaseBuffer()
		if first && c.setLimit(limit) != nil {
			return false
		}
		// In this order: Shutdown sets draining first and then looks who is idle.
		c.waiting.Store(state)
		err := error(os.ErrDeadlineExceeded)
		switch draining := c.srv.door.Draining(); {
		case draining && state == waitFirst:
			c.setLimit(firstGrace)
			fallthrough
		case !draining:
			err = c.fill()
		}
		c.waiting.Store(notWaiting)
		if errors.Is(err, os.ErrDeadlineExceeded) && c.srv.door.Draining() {
			err = c.lastFill()
		}
		if err != nil {
			return false
		}
	}
}

// lastFill takes what has come by now, when the connection is about to be closed
// because the server drains: a request that was on its way is still answered.
func (c goConn) lastFill() error {
	if c.sealed != nil {
		return c.lastFillSealed()
	}
	c.n, c.err = 0, nil
	if err := c.tcp.Control(func(fd uintptr) { c.tryFill(fd) }); err != nil {
		return err
	}
	if c.err == nil && c.n == 0 {
		return os.ErrDeadlineExceeded
	}
	c.tcp.SetReadDeadline(time.Time{})
	return c.err
}

// serve answers the request whose head begins to come, and reports whether the
// connection can carry another.
func (x goExchange) serve() (keep bool) {
	if x.c.socks.speaks {
		return x.serveSocks()
	}
	err := x.readHead()
	if err == nil {
		x.target, err = x.req.ParseTarget()
	}
	if err != nil {
		return x.endBadHead(err)
	}
	if x.c.inside != nil {
		return x.serveInside()
	}
	switch x.target.Form {
	case http1.AuthorityForm:
		return x.connect()
	case http1.AbsoluteForm:
		return x.forward()
	case http1.AsteriskForm:
		return x.answer(answer.Options())
	}
	return x.refuseOriginForm()
}

// carryOn goes on, on a goroutine, with an exchange that was on the loop.
func (x goExchange) carryOn() (keep bool) {
	c := x.c
	if c.Why() != 0 {
		c.wake()
	}
	switch x.stage {
	case stageConnecting:
		x.did.connect = time.Since(x.begun)
		err := x.up.TooSlow()
		x.dropUpstream()
		return x.refuse(err)
	case stageDial:
		if x.did.mode != metrics.Forward {
			return x.dialTunnel()
		}
	case stageConnected:
		return x.switchTo(x.tail)
	}
	return x.afterSend(x.send(""))
}

// readHead reads the request head that has begun to come.
func (x goExchange) readHead() error {
	c := x.c
	if err := c.setLimit(c.srv.HeadTimeout); err != nil {
		return err
	}
	held := 0
	defer func() { c.srv.headBytes.Add(int64(-held)) }()
	for {
		n, err := x.req.Parse(c.buffered(), c.srv.Head)
		if err == nil {
			c.r += n
			return nil
		}
		if !errors.Is(err, http1.ErrIncomplete) {
			return err
		}
		c.waiting.Store(waitHead)
		err = c.fill()
		c.waiting.Store(notWaiting)
		if err != nil {
			return err
		}
		held = c.holdHead(held)
	}
}

// endBadHead ends an exchange whose head cannot be used.
func (x goExchange) endBadHead(err error) (keep bool) {
	var bad *http1.Error
	switch {
	case x.c.gone.Load(): // or it had to give way
		x.did.silent = true
		return false
	case errors.As(err, &bad):
		x.keepHeads()
		if unaskedHeader(x.c.buffered()) {
			bad = errNotBalancer
			if x.c.srv.announces(x.c.tcp.Remote().Addr()) {
				bad = errTwoHeaders
			}
		}
		return x.refuseMessage(bad)
	case errors.Is(err, os.ErrDeadlineExceeded), err == errExpired:
		return x.answer(answer.SlowHead(x.c.srv.HeadTimeout))
	}
	x.did.silent = true // the client is gone; there is nothing to tell
	return false
}

// toLoop is called by the goroutine that serves the connection, between two requests. It
// reports whether a loop serves it from then on; then the goroutine has nothing to do with it
// any more.
func (c goConn) toLoop() bool {
	if len(c.buffered()) > 0 {
		return false
	}
	c.releaseBuffer()
	c.deregister()
	c.mu.Lock()
	defer c.mu.Unlock()
	// When the limit could be armed anew, nobody is about to set a deadline.
	if c.setLimit(c.srv.KeepAliveTimeout) != nil || c.tcp.Reclaim() != nil || !c.register(nil) {
		return false
	}
	if c.srv.door.Draining() {
		c.registerEnd(nil)
		return false
	}
	c.onLoop, c.more, c.ending, c.doing = true, false, false, doing{}
	return true
}
