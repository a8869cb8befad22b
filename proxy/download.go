package proxy

import (
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/sluiceproxy/sluice/proxy/http1"
)

// Error classes that RFC 9209 has no word for, or only for another side.
const (
	classClientGone = "client_aborted"
	classIdle       = "connection_read_timeout"
)

// maxReplyFields bounds the fields of an answer, as --max-fields does a request's.
const maxReplyFields = 256

// fillIn reads more of what the server sends.
func (x *exchange) fillIn() error {
	if x.in == nil {
		x.in = inBuffers.Get().(*[inRoom]byte)
	}
	if x.iw == len(x.in) && x.ir > 0 {
		x.iw = copy(x.in[:], x.in[x.ir:x.iw])
		x.ir = 0
	}
	n, err := x.up.Read(x.in[x.iw:])
	x.iw += n
	if n > 0 {
		x.c.touch()
		return nil
	}
	return err
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
		x.keepTarget()
		inBuffers.Put(x.in)
		x.in, x.ir, x.iw = nil, 0, 0
	}
}

// readResponse reads the head of the final answer, or of a 101, into x.resp, and
// passes on the interim ones before it.
func (x *exchange) readResponse() error {
	x.ir, x.iw = 0, 0
	head := string(x.req.Method) == "HEAD"
	for {
		x.resp.Reset()
		if err := x.readResponseHead(head); err != nil {
			if !x.body.stop(x) && x.body.clientErr != nil {
				return &bodyError{x.body.clientErr}
			}
			return err
		}
		if s := x.resp.Status; s >= 200 || s == 101 {
			return nil
		}
		if x.req.Minor == 0 {
			continue // HTTP/1.0 knows no interim answers
		}
		x.out = appendStatusLine(x.out[:0], &x.resp)
		x.out = append(x.resp.AppendFields(x.out, http1.ContentLength), "\r\n"...)
		if _, err := x.c.tcp.Write(x.out); err != nil {
			return err
		}
	}
}

// bodyError is what the client did wrong while its body was passed on: an
// *http1.Error, or it went away.
type bodyError struct{ error }

func (x *exchange) readResponseHead(toHead bool) error {
	limits := http1.Limits{MaxHead: inRoom, MaxFields: maxReplyFields}
	for {
		if x.iw > x.ir {
			n, err := x.resp.Parse(x.in[x.ir:x.iw], toHead, limits)
			if err == nil {
				x.ir += n
				return nil
			}
			if !errors.Is(err, http1.ErrIncomplete) {
				return err
			}
		}
		if err := x.fillIn(); err != nil {
			return err
		}
	}
}

func appendStatusLine(b []byte, r *http1.Response) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	return append(append(b, r.Reason...), "\r\n"...)
}

// forwardResponse sends the answer to the client and reports whether its
// connection can carry another request. That to the server goes back to the pool
// if it can.
func (x *exchange) forwardResponse() bool {
	c := x.c
	dechunk := x.resp.Framing == http1.ChunkedEnc && x.req.Minor == 0
	keep := x.req.KeepAlive && x.resp.Framing != http1.UntilClose && !dechunk && !c.srv.draining.Load()
	keep = keep && x.body.nearlyDone()
	x.composeResponse(keep, dechunk)
	x.rec.Status = x.resp.Status
	c.touch()
	readErr, writeErr := x.sendBody(dechunk)
	whole := x.body.stop(x)
	switch {
	case writeErr != nil:
		x.rec.Error = classClientGone
		return false
	case readErr != nil:
		x.rec.Error = classTerminated
		if x.resp.Framing == http1.UntilClose || dechunk {
			c.tcp.SetLinger(0) // or the client would take what it has for the whole
		}
		return false
	}
	if whole && x.resp.KeepAlive && x.ir == x.iw {
		c.setUpstream(nil)
		c.srv.Gate.Pool.Put(x.up, c.srv.start.Add(c.srv.now()))
		x.up = nil
	}
	if !whole {
		c.linger()
	}
	return keep && whole
}

// composeResponse puts the answer's head into x.out.
func (x *exchange) composeResponse(keep, dechunk bool) {
	b := appendStatusLine(x.out[:0], &x.resp)
	if x.resp.Status == 204 {
		b = x.resp.AppendFields(b, http1.ContentLength)
	} else {
		b = x.resp.AppendFields(b)
	}
	b = append(b, "Via: 1."...)
	b = append(b, '0'+byte(x.resp.Minor), ' ')
	b = append(b, x.c.srv.Name...)
	b = append(b, "\r\n"...)
	if x.resp.ChunkedField() && !dechunk && x.req.Minor == 1 {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case !keep:
		b = append(b, "Connection: close\r\n"...)
	case x.req.Minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	x.out = append(b, "\r\n"...)
}

// sendBody writes x.out and the body behind it. The head goes out at once, with
// what is there of the body, so that a stream of events is not held up.
func (x *exchange) sendBody(dechunk bool) (readErr, writeErr error) {
	switch x.resp.Framing {
	case http1.Length:
		return x.sendBytes(x.resp.Length)
	case http1.UntilClose:
		return x.sendBytes(-1)
	case http1.ChunkedEnc:
		return x.sendChunks(dechunk)
	}
	return nil, x.flush(0)
}

// flush writes x.out, which holds n bytes of body, to the client.
func (x *exchange) flush(n int64) error {
	_, err := x.c.tcp.Write(x.out)
	if x.rec.FirstByte == 0 {
		x.rec.FirstByte = time.Since(x.rec.Start)
	}
	x.rec.Sent += n
	x.out = x.out[:0]
	return err
}

// sendBytes sends a body of n bytes, or, with n < 0, all until the server closes.
func (x *exchange) sendBytes(n int64) (readErr, writeErr error) {
	b := x.unreadIn()
	if n >= 0 && int64(len(b)) > n {
		b = b[:n]
	}
	x.out = append(x.out, b...)
	x.ir += len(b)
	if err := x.flush(int64(len(b))); err != nil {
		return nil, err
	}
	if n >= 0 {
		if n -= int64(len(b)); n == 0 {
			return nil, nil
		}
	}
	if x.up.TLS == nil {
		x.releaseIn()
		moved, readErr, writeErr := x.c.srv.pump.Copy(x.c.tcp, x.up.TCP, n, x.c.touch)
		x.rec.Sent += moved
		return readErr, writeErr
	}
	return x.sendFromTLS(n)
}

func (x *exchange) sendFromTLS(n int64) (readErr, writeErr error) {
	for n != 0 {
		room := x.in[:]
		if n > 0 && n < inRoom {
			room = room[:n]
		}
		k, err := x.up.Read(room)
		if k > 0 {
			if _, err := x.c.tcp.Write(room[:k]); err != nil {
				return nil, err
			}
			x.rec.Sent += int64(k)
			x.c.touch()
			if n > 0 {
				n -= int64(k)
			}
		}
		if err == io.EOF && n < 0 {
			return nil, nil
		}
		if err != nil && n != 0 {
			return err, nil
		}
	}
	return nil, nil
}

// sendChunks sends a chunked body, as it is or, to an HTTP/1.0 client, without
// its framing.
func (x *exchange) sendChunks(dechunk bool) (readErr, writeErr error) {
	var chunks http1.Chunked
	for {
		n, data, err := x.takeChunks(&chunks, dechunk)
		if err != nil {
			return err, nil
		}
		if x.ir += n; x.ir == x.iw {
			x.ir, x.iw = 0, 0
		}
		if len(x.out) > 0 {
			if err := x.flush(data); err != nil {
				return nil, err
			}
			x.c.touch()
		}
		if chunks.Done() {
			return nil, nil
		}
		if left := chunks.Left(); left > inRoom && x.iw == 0 && x.up.TLS == nil {
			moved, readErr, writeErr := x.c.srv.pump.Copy(x.c.tcp, x.up.TCP, left, x.c.touch)
			x.rec.Sent += moved
			if readErr != nil || writeErr != nil {
				return readErr, writeErr
			}
			chunks.Skip(left)
			continue
		}
		if err := x.fillIn(); err != nil {
			return err, nil
		}
	}
}

// takeChunks appends to x.out what is buffered of a chunked body.
func (x *exchange) takeChunks(c *http1.Chunked, dechunk bool) (n int, data int64, err error) {
	b := x.unreadIn()
	if !dechunk {
		n, data, err = scan(c, b)
		x.out = append(x.out, b[:n]...)
		return n, data, err
	}
	for !c.Done() {
		k, d, err := c.Next(b[n:])
		if errors.Is(err, http1.ErrIncomplete) {
			break
		}
		if err != nil {
			return n, data, err
		}
		x.out = append(x.out, d...)
		n += k
		data += int64(len(d))
	}
	return n, data, nil
}

// upgrade makes a tunnel of the connection because the server agreed to switch
// protocols (RFC 9110 section 7.8).
func (x *exchange) upgrade() bool {
	if x.req.Upgrade == nil || x.resp.Upgrade == nil {
		return x.refuse(errSwitch)
	}
	if x.body.done != nil {
		<-x.body.done // the request comes before what the new protocol says
	}
	if !x.body.stop(x) {
		return x.refuse(errClosedEarly)
	}
	x.keepTarget()
	if x.rest != nil {
		x.c.unread(x.rest)
		x.rest = nil
	}
	head := appendStatusLine(nil, &x.resp)
	head = x.resp.AppendFields(head, http1.ContentLength)
	head = append(head, "Via: 1.1 "...)
	head = append(append(head, x.c.srv.Name...), "\r\n"...)
	head = appendConnection(head, x.resp.Upgrade, false)
	x.rec.Status = 101
	return x.switchTo(append(head, "\r\n"...))
}
