package proxy

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// fillIn reads more of what the server sends, behind what is there already. While
// nothing is there it holds no buffer: a server may take its time.
func (x goExchange) fillIn() error {
	if x.in != nil && x.iw == len(x.in) && x.ir > 0 {
		x.iw = copy(x.in[:], x.in[x.ir:x.iw])
		x.ir = 0
	}
	if x.up.TLS != nil {
		x.takeIn()
		n, err := x.up.Blocking().Read(x.in[x.iw:])
		if x.iw += n; n > 0 {
			err = nil
		}
		x.inErr = err
	} else {
		err := x.up.TCP.Blocking().ReadStep(x.inFn)
		if err == nil && x.inErr == errUnsent {
			if _, err = x.up.TCP.Blocking().Write(x.unsent); err != nil {
				x.outErr = err
			}
			x.unsent = nil
			err = x.up.TCP.Blocking().ReadStep(x.inFn)
		}
		if err != nil {
			return err
		}
	}
	x.c.touch()
	return x.inErr
}

// inStep is a step of ReadStep: see conn.fillStep.
func (x *exchange) inStep(fd uintptr) bool {
	if x.unsent != nil && !x.sendStep(int(fd)) {
		return x.inErr != nil
	}
	x.takeIn()
	n, err := sock.TryRead(int(fd), x.in[x.iw:])
	switch {
	case err == unix.EAGAIN:
		if x.iw == 0 {
			x.dropIn()
		}
		return false
	case err != nil:
		x.inErr = err
	case n == 0:
		x.inErr = io.EOF
	default:
		x.iw += n
		x.inErr = nil
	}
	return true
}

// errStale says that a connection from the pool was closed by the server, or that
// the server spoke on it unasked, which may be meant for whoever comes next: nothing
// was sent on it.
var errStale = errors.New("the pooled connection is stale")

// sendStep sends a request at the very moment when the wait for its answer begins.
// The answer's arrival can't be missed then, so that no read has to find out that it
// is not there yet; and the look at whether a pooled connection is still quiet is
// the read that comes before. It reports whether there is something to read.
func (x *exchange) sendStep(fd int) (read bool) {
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

// errUnsent says that the server did not take the request at once.
var errUnsent = errors.New("part of the request is not sent")

func (x *exchange) takeIn() {
	if x.in == nil {
		x.in = inBuffers.Get().(*[inRoom]byte)[:]
	}
}

// dropIn lets go of the buffer. One that has grown is not used again, and so what x.resp
// still says of a head in it goes too.
func (x *exchange) dropIn() {
	if len(x.in) == inRoom {
		inBuffers.Put((*[inRoom]byte)(x.in))
	} else {
		x.resp.Forget()
	}
	x.in = nil
}

// growIn makes room for more of a head that fills the buffer; http1 bounds it.
func (x *exchange) growIn() {
	if x.ir > 0 || x.iw < len(x.in) {
		return
	}
	b := make([]byte, len(x.in)+inRoom)
	copy(b, x.in)
	x.dropIn()
	x.in = b
}

// shrinkIn lets go of a buffer that has grown for a head, when that was used. It grew by
// inRoom each time, so that what stands behind the head fits into one that has not.
func (x *exchange) shrinkIn() {
	rest := x.unreadIn()
	if len(x.in) <= inRoom || len(rest) > inRoom {
		return
	}
	x.dropIn()
	x.takeIn()
	x.ir, x.iw = 0, copy(x.in, rest)
}

// unreadIn is what the server sent and was not used.
func (x *exchange) unreadIn() []byte {
	if x.in == nil {
		return nil
	}
	return x.in[x.ir:x.iw]
}

func (x *exchange) releaseIn() {
	if x.in != nil {
		x.fillRecord()
		x.dropIn()
		x.ir, x.iw = 0, 0
	}
}

// readResponse reads the head of the final answer, or of a 101, into x.resp, and
// passes on the interim ones before it. Those are bounded, all together, as one head is:
// a server that sends them for ever is never idle.
func (x goExchange) readResponse() error {
	head := string(x.req.Method) == "HEAD"
	interim, reusable := 0, true
	for {
		x.resp.Reset()
		n, err := x.readResponseHead(head)
		if err != nil {
			if !x.body.stop(x) && x.body.clientErr != nil {
				return &bodyError{x.body.clientErr}
			}
			return err
		}
		reusable = reusable && x.resp.KeepAlive
		if s := x.resp.Status; s >= 200 || s == 101 {
			x.resp.KeepAlive = reusable
			return nil
		}
		if interim += n; interim > x.c.srv.AnswerHead.MaxHead {
			return errInterim
		}
		if x.req.Minor == 1 { // HTTP/1.0 knows no interim answers
			x.out = answer.AppendInterim(x.out[:0], &x.resp)
			x.c.sending.Store(true)
			_, err := x.c.tcp.Write(x.out)
			x.c.sending.Store(false)
			if err != nil {
				return errClientGone
			}
			if x.resp.Status == 100 {
				x.body.expect(x.c.conn)
			}
		}
		x.shrinkIn()
	}
}

// bodyError is what the client did wrong while its body was passed on: an
// *http1.Error, or it went away.
type bodyError struct{ error }

// readResponseHead reads one head into x.resp, and returns its length.
func (x goExchange) readResponseHead(toHead bool) (int, error) {
	for {
		if x.iw > x.ir {
			n, err := x.resp.Parse(x.in[x.ir:x.iw], toHead, x.c.srv.AnswerHead)
			if err == nil {
				x.ir += n
				return n, nil
			}
			if !errors.Is(err, http1.ErrIncomplete) {
				return 0, err
			}
			x.growIn()
		}
		if err := x.fillIn(); err != nil {
			return 0, err
		}
	}
}

// forwardResponse sends the answer to the client and reports whether its
// connection can carry another request. That to the server goes back to the pool
// if it can.
func (x goExchange) forwardResponse() bool {
	x.composeAnswer(x.body.nearlyDone())
	x.shrinkIn()
	x.c.touch()
	x.c.sending.Store(true)
	readErr, writeErr := x.sendBody(x.dechunk)
	x.c.sending.Store(false)
	if readErr != nil && x.rec.FirstByte == 0 { // its first chunk was wrong: nothing was sent
		return x.refuse(failedBy(readErr))
	}
	whole := x.body.stop(x)
	if readErr == nil && x.resp.Framing == http1.UntilClose && x.body.serverReset() {
		readErr = unix.ECONNRESET // which the kernel tells once
	}
	return x.answered(whole, readErr, writeErr)
}

// composeAnswer puts the answer's head into x.out, and decides whether the connection
// can carry another.
//
// whole says that the request's body was sent.
func (x *exchange) composeAnswer(whole bool) {
	x.dechunk = x.resp.Framing == http1.ChunkedEnc && x.req.Minor == 0
	x.keep = x.req.KeepAlive && x.resp.Framing != http1.UntilClose && !x.dechunk && !x.c.srv.door.Draining()
	x.keep = x.keep && whole
	head := answer.Forwarded{Resp: &x.resp, Name: x.c.srv.Name, Minor: x.req.Minor, Keep: x.keep, Dechunk: x.dechunk}
	x.out = head.AppendHead(x.out[:0])
	x.fillRecord() // the body overwrites what the answer's head was in
	x.rec.Status = x.resp.Status
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
		x.rec.Error = answer.ClassClientSlow
		c.tcp.ResetOnClose() // or the kernel would hold what it has not taken for long
		return false
	case writeErr != nil || c.gone.Load():
		x.rec.Error = answer.ClassClientGone
		return false
	case readErr != nil:
		x.brokenOff(readErr)
		return false
	}
	if whole && x.resp.KeepAlive && x.ir == x.iw {
		c.setUpstream(nil)
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
	x.rec.Status, x.rec.Error = 502, answer.ClassTerminated
	if errors.As(err, &bad) {
		x.rec.Error = answer.ClassProtocol
		x.c.tcp.ResetOnClose() // it must not look like the whole
	}
}
