package proxy

import (
	"errors"
	"os"
	"time"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/http1"
)

// serve answers one request after the other until one side wants no more, or until the
// connection can be attended: then it is left to that. x, if not nil, is an exchange to
// go on with first.
func (c goConn) serve(x *exchange) (left bool) {
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
			return c.lingerAttended()
		}
		if !keep {
			break
		}
		if c.comeBack() {
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
		c.r += http1.SkipEmptyLines(c.buffered())
		if b := c.buffered(); len(b) > 0 && string(b) != "\r" {
			return true
		}
		c.releaseBuffer()
		if first && c.arm(limit) != nil {
			return false
		}
		// In this order: Shutdown sets draining first and then looks who is idle.
		c.waiting.Store(state)
		err := error(os.ErrDeadlineExceeded)
		switch draining := c.srv.door.Draining(); {
		case draining && state == waitFirst:
			c.arm(firstGrace)
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
	c.n, c.err = 0, nil
	if err := c.tcp.Control(func(fd uintptr) { c.fillStep(fd) }); err != nil {
		return err
	}
	if c.err == nil && c.n == 0 {
		return os.ErrDeadlineExceeded
	}
	c.tcp.SetReadDeadline(time.Time{})
	return c.err
}

// readHead reads the request head that has begun to come.
func (x goExchange) readHead() error {
	c := x.c
	if err := c.arm(c.srv.HeadTimeout); err != nil {
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
		x.rec.Silent = true
		return false
	case errors.As(err, &bad):
		x.fillRecord()
		return x.refuseMessage(bad)
	case errors.Is(err, os.ErrDeadlineExceeded), err == errExpired:
		return x.answer(answer.SlowHead(x.c.srv.HeadTimeout))
	}
	x.rec.Silent = true // the client went away; there is nothing to tell
	return false
}

// serve answers the request whose head begins to come, and reports whether the
// connection can carry another.
func (x goExchange) serve() (keep bool) {
	err := x.readHead()
	if err == nil {
		x.target, err = x.req.ParseTarget()
	}
	if err != nil {
		return x.endBadHead(err)
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
