package proxy

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// readyToSend makes ready to send the request over x.up.
func (x *exchange) readyToSend(l *poll.Loop) {
	c := x.c
	l, err := c.srv.orNext(l)
	if err == nil {
		err = x.up.Register(l, (*serverSide)(c))
	}
	if err != nil {
		x.fail(err)
		return
	}
	x.to(stageRequest)
}

// sendRequest sends the request, unless the server has spoken since its last answer: nobody
// knows what that is meant for.
func (c *conn) sendRequest(l *poll.Loop) {
	x := c.x
	fd, _ := x.up.TCP.Bare()
	if x.pooled && !sock.Quiet(fd) {
		x.dropUpstream()
		c.toGoroutine(x)
		return
	}
	n, _ := sock.TryWrite(fd, x.out)
	x.to(stageSent)
	switch {
	case n != len(x.out):
		x.unsent = x.out[max(n, 0):]
		c.toGoroutine(x)
	case c.spoken:
		c.receiveAnswer(l, fd)
	default:
		c.register(l) // or nobody would see that the client goes meanwhile
	}
}

// send sends the request and reads the head of the final answer. A connection
// from the pool may have been closed by the server meanwhile: then a request that
// can be sent again is, once, over a new one. So is one that a server of HTTP/2 says it
// has not begun with.
func (x goExchange) send(server string) error {
	whole := x.body.whole // it is in x.out; later that would say that the rest was sent, once
	again, second := whole && idempotent(x.req.Method), false
	for sent := x.stage == stageSent; ; sent = false { // by the loop, the first time
		var err error
		if sent {
			err = x.awaited()
		} else {
			if err = x.connectServer(server, again); err != nil {
				return err
			}
			if x.up.Absolute() != x.absolute { // the head is for another
				return errOtherWay
			}
			if x.absolute {
				x.showLogin()
			}
			x.c.touch()
			err = x.request()
		}
		if err == errStale {
			x.dropUpstream()
			continue
		}
		if err == nil && x.absolute && x.resp.Status == 407 { // it asks the gateway, not the client
			err = x.up.RefusesLogin()
			x.blame(err)
			return err
		}
		if err == nil {
			return nil
		}
		if second || !(again && x.pooled || whole && x.untouched(err)) || x.iw > 0 || x.resp.Status != 0 || failedBy(err) != errClosedEarly {
			return err
		}
		again, second = false, true
		x.dropUpstream()
	}
}

// untouched reports whether err says that the server has not begun with the request: a stream
// that ends so, and not by a reset. See proxy/streams.
func (x goExchange) untouched(err error) bool {
	return x.up.Stream() && errors.Is(err, io.EOF)
}

// request sends the request over x.up and reads the head of the answer.
func (x goExchange) request() error {
	x.outErr, x.unsent = nil, nil
	x.ir, x.iw = 0, 0
	if x.body.whole && x.up.TLS == nil {
		x.unsent = x.out
	} else if _, x.outErr = x.up.Blocking().Write(x.out); x.outErr == nil {
		x.body.start(x)
	}
	return x.readAfterSend()
}

// awaited reads the head of the answer to a request that was sent, but for x.unsent.
func (x goExchange) awaited() error {
	x.outErr = nil
	if x.unsent != nil {
		_, x.outErr = x.up.Blocking().Write(x.unsent)
		x.unsent = nil
	}
	return x.readAfterSend()
}

// readAfterSend reads the head of the answer. The server may have answered and closed
// before it took the request whole: that answer counts.
func (x goExchange) readAfterSend() error {
	err := x.readResponse()
	x.unsent = nil
	if err != nil && x.outErr != nil && failedBy(err) == errClosedEarly {
		return x.outErr
	}
	return err
}

// trySend sends a request at the very moment when the wait for its answer begins.
// The answer's arrival can't be missed then, so that no read has to find out that it
// is not there yet; and the look at whether a pooled connection is still quiet is
// the read that comes before. It reports whether there is something to read.
func (x *exchange) trySend(fd int) (read bool) {
	x.inErr = nil
	if x.pooled {
		if !sock.Quiet(fd) {
			x.unsent, x.inErr = nil, errStale
			return false
		}
	}
	n, err := sock.TryWrite(fd, x.unsent)
	switch {
	case n == len(x.unsent):
		x.unsent = nil
		return false
	case err != nil && err != unix.EAGAIN:
		x.unsent, x.outErr = nil, err
		return true // an answer may have come before that
	}
	x.unsent, x.inErr = x.unsent[max(n, 0):], errUnsent
	return false
}

// errStale says that a connection from the pool was closed by the server, or that
// the server spoke on it unasked, which may be meant for whoever comes next: nothing
// was sent on it.
var errStale = errors.New("the pooled connection is stale")

// errUnsent says that the server did not take the request at once.
var errUnsent = errors.New("part of the request is not sent")

// idempotent reports whether a request may be sent again (RFC 9110 section
// 9.2.2). Others are never sent over a pooled connection: whether a server took
// them before it closed cannot be known.
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
