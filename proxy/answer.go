package proxy

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// receiveAnswer reads what has come, and makes the answer ready to be sent.
func (c *conn) receiveAnswer(l *poll.Loop, fd int) {
	x := c.x
	x.getIn()
	n, err := sock.TryRead(fd, x.in[x.iw:])
	if err == unix.EAGAIN {
		x.dropIn()
		return
	}
	c.touch()
	x.iw += max(n, 0)
	if n <= 0 || !x.readAnswer() {
		c.toGoroutine(x)
		return
	}
	x.composeAnswer(x.body.whole)
	x.tail, x.tailData, x.left = nil, 0, 0
	switch x.resp.Framing {
	case http1.Length:
		x.tail = x.in[x.ir:x.iw]
		if int64(len(x.tail)) > x.resp.Length {
			x.tail = x.tail[:x.resp.Length]
		}
		x.tailData = int64(len(x.tail))
		x.left = x.resp.Length - x.tailData
		x.ir += len(x.tail)
	case http1.ChunkedEnc:
		chunks := http1.Chunked{Lenient: true}
		n, data, _ := x.appendChunks(&chunks, x.dechunk) // readAnswer has seen them
		x.ir += n
		x.tailData = data
	}
	if len(x.tail) <= copyMost {
		x.out = append(x.out, x.tail...)
		x.tail = nil
	}
	x.to(stageAnswer)
	c.push(l)
}

// readAnswer reports whether what has come is the head of the final answer, with a body
// that can be sent without looking at more of it. Only then the head is used up.
func (x *exchange) readAnswer() bool {
	n, err := x.resp.Parse(x.in[:x.iw], string(x.req.Method) == "HEAD", x.c.srv.AnswerHead)
	if err != nil || x.resp.Status < 200 || x.put != nil { // what has got a credential is looked at by a goroutine
		return false
	}
	switch x.resp.Framing {
	case http1.NoBody, http1.Length:
	case http1.ChunkedEnc:
		chunks := http1.Chunked{Lenient: true}
		if _, _, err := scan(&chunks, x.in[n:x.iw]); err != nil || !chunks.Done() {
			return false
		}
	default:
		return false
	}
	x.ir = n
	return true
}

// sendAnswer sends what is ready of the answer.
func (c *conn) sendAnswer(l *poll.Loop) {
	x := c.x
	switch sent, err := c.sendOut(l); {
	case err != nil:
		c.endAnswer(l, nil, err)
		return
	case !sent:
		return
	}
	if x.left == 0 {
		c.endAnswer(l, nil, nil)
		return
	}
	c.touch()
	x.releaseIn()
	x.to(stageBody)
	c.srv.pump.NewFlow(&x.flow, x.left, x.touchFn)
	c.moveBody(l)
}

// sendOut sends what is in x.out and x.tail, and books it. It reports false while the client
// takes no more.
func (c *conn) sendOut(l *poll.Loop) (sent bool, err error) {
	x := c.x
	fd, _ := c.tcp.Bare()
	for len(x.out)+len(x.tail) > 0 { // to the end, or the kernel would not tell when there is room
		n, err := sock.TryWriteTwo(fd, x.out, x.tail)
		if err == unix.EAGAIN {
			c.block(l)
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if n == len(x.out)+len(x.tail) {
			x.out, x.tail = x.out[:0], nil
			break
		}
		k := min(n, len(x.out))
		x.out, x.tail = x.out[k:], x.tail[n-k:]
	}
	x.bookSent()
	return true, nil
}

// afterSend goes on when send has brought the head of the final answer, or err.
func (x goExchange) afterSend(err error) bool {
	switch {
	case err != nil:
		return x.endUnsent(err)
	case x.resp.Status == 101:
		return x.upgrade()
	}
	return x.forwardResponse()
}

// endUnsent ends an exchange that has no answer from the server.
func (x goExchange) endUnsent(err error) bool {
	var body *bodyError
	if err == errClientGone || x.c.gone.Load() {
		x.did.class = answer.ClassClientGone
		return false
	}
	if why := x.revoked(); why != nil {
		return x.refuse(&revokedError{why})
	}
	if !errors.As(err, &body) {
		err = failedBy(err)
		if err == errClosedEarly && x.up != nil { // of a stream that may be all that has come
			if wants := outbound.WantsCertificate(x.up.Failed()); wants != nil {
				err = wants
			}
		}
		if err == errTooSlow && x.c.Why() == door.Slow { // the server waits for the client, as we do
			return x.answer(answer.SlowBody())
		}
		return x.refuse(err)
	}
	var bad *http1.Error
	if errors.As(body.error, &bad) {
		return x.refuseMessage(bad)
	}
	if errors.Is(body.error, os.ErrDeadlineExceeded) {
		return x.answer(answer.SlowBody())
	}
	if out, ok := errors.AsType[*outbound.Error](body.error); ok { // the body is too large
		return x.refuse(out)
	}
	x.did.class = answer.ClassClientGone
	return false
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
		if x.shows(x.in[x.ir-n : x.ir]) {
			return errShows
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
			_, err := x.c.write(x.out)
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
// *http1.Error, or that it is gone.
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
	if readErr != nil && x.did.firstByte == 0 { // its first chunk was wrong: nothing was sent
		return x.refuse(failedBy(readErr))
	}
	whole := x.body.stop(x)
	x.c.setUpstream(nil) // nobody has it any more who might cut it when it is another's
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
	x.chunk = x.resp.Framing == http1.UntilClose && x.c.inside != nil && x.c.inside.h2
	x.keep = x.req.KeepAlive && x.resp.Framing != http1.UntilClose && !x.dechunk && !x.c.srv.door.Draining()
	x.keep = x.keep && whole
	head := answer.Forwarded{Resp: &x.resp, Name: x.c.srv.Name, Minor: x.req.Minor, Keep: x.keep, Dechunk: x.dechunk, Chunk: x.chunk, Stream: x.up.Stream()}
	x.out = head.AppendHead(x.out[:0])
	x.keepHeads() // the body overwrites what the answer's head was in
	x.did.status = x.resp.Status
}
