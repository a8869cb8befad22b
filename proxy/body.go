package proxy

import (
	"errors"
	"io"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// moveBody moves as much of the body as has come and is taken.
func (c *conn) moveBody(l *poll.Loop) {
	x := c.x
	from, _ := x.up.TCP.Bare()
	to, _ := c.tcp.Bare()
	switch progress, readErr, writeErr := x.flow.Move(from, to); progress {
	case tunnel.Reads: // an event will tell
	case tunnel.Writes:
		c.block(l)
	case tunnel.More:
		c.push(l)
	default:
		c.endAnswer(l, readErr, writeErr)
	}
}

// block waits until the client takes more of the answer.
func (c *conn) block(l *poll.Loop) {
	c.blocked = true
	if c.writeInterest {
		return
	}
	if !c.register(l) {
		c.expire()
		return
	}
	fd, _ := c.tcp.Bare()
	if c.writeInterest = true; c.loop.Rearm(fd, poll.Readable|poll.Writable) != nil {
		c.expire()
	}
}

// sendBody writes x.out and the body behind it. The head goes out at once, with
// what is there of the body, so that a stream of events is not held up.
func (x goExchange) sendBody(dechunk bool) (readErr, writeErr error) {
	switch x.resp.Framing {
	case http1.Length:
		return x.sendBytes(x.resp.Length)
	case http1.UntilClose:
		if x.chunk {
			return x.sendInChunks()
		}
		return x.sendBytes(-1)
	case http1.ChunkedEnc:
		return x.sendChunks(dechunk)
	}
	return nil, x.flush(0)
}

// flush writes x.out, which holds n bytes of body, to the client.
func (x goExchange) flush(n int64) error { return x.flushTwo(n, nil) }

// flushTwo does so with more bytes of body behind it.
func (x goExchange) flushTwo(n int64, more []byte) error {
	_, err := x.c.writeTwo(x.out, more)
	x.tailData = n + int64(len(more))
	x.bookSent()
	if x.out = x.out[:0]; cap(x.out) > 2*inRoom {
		x.out = nil // it was for a large head
	}
	return err
}

// bookSent books what was sent to the client, x.tailData bytes of it of the body.
func (x *exchange) bookSent() {
	if x.did.firstByte == 0 {
		x.did.firstByte = time.Since(x.did.start)
	}
	x.did.sent += x.tailData
}

// copyMost is how much of a body is copied behind its head: for more, writev costs
// less than the copy.
const copyMost = 4 << 10

// sendBytes sends a body of n bytes, or, with n < 0, all until the server closes.
func (x goExchange) sendBytes(n int64) (readErr, writeErr error) {
	b := x.unreadIn()
	if n >= 0 && int64(len(b)) > n {
		b = b[:n]
	}
	x.ir += len(b)
	var err error
	if len(b) <= copyMost {
		x.out = append(x.out, b...)
		err = x.flush(int64(len(b)))
	} else {
		err = x.flushTwo(0, b)
	}
	if err != nil {
		return nil, err
	}
	if n >= 0 {
		if n -= int64(len(b)); n == 0 {
			return nil, nil
		}
	}
	if x.plain() {
		x.releaseIn()
		moved, readErr, writeErr := x.c.srv.pump.Copy(x.c.tcp, x.up.TCP.Blocking(), n, x.touchFn)
		x.did.sent += moved
		return readErr, writeErr
	}
	return x.copyBytes(n)
}

// plain reports whether both sides have the same bytes on the wire, so that the kernel may move them.
func (x goExchange) plain() bool { return x.up.TLS == nil && x.c.sealed == nil }

// copyBytes is the rest of sendBytes where the gateway has to see the bytes.
func (x goExchange) copyBytes(n int64) (readErr, writeErr error) {
	x.getIn()
	for n != 0 {
		room := x.in[:]
		if n > 0 && n < inRoom {
			room = room[:n]
		}
		k, err := x.readMuch(room)
		if k > 0 {
			if _, err := x.c.write(room[:k]); err != nil {
				return nil, err
			}
			x.did.sent += int64(k)
			x.c.touch()
			if n > 0 {
				n -= int64(k)
			}
		}
		if err == io.EOF && n < 0 && x.up.Truncated() {
			return io.ErrUnexpectedEOF, nil
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

// readMuch reads what comes next of the server, and what has come with it.
func (x goExchange) readMuch(b []byte) (n int, err error) {
	n, err = x.up.Blocking().Read(b)
	for more := n; err == nil && more > 0 && n < len(b); n += more {
		more, err = x.up.Blocking().ReadHere(b[n:])
	}
	return n, err
}

// sendChunks sends a chunked body, as it is or, to an HTTP/1.0 client, without
// its framing. Nothing is sent before what is there was found to be right.
func (x goExchange) sendChunks(dechunk bool) (readErr, writeErr error) {
	chunks := http1.Chunked{Lenient: true}
	for {
		n, data, err := x.appendChunks(&chunks, dechunk)
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
		if left := chunks.Left(); left > inRoom && x.iw == 0 && x.plain() {
			moved, readErr, writeErr := x.c.srv.pump.Copy(x.c.tcp, x.up.TCP.Blocking(), left, x.touchFn)
			x.did.sent += moved
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

// sendInChunks sends a body that only an end delimits to what speaks HTTP/2 with the client: the
// kernel tells a reset once, maybe to who sends the request's body at the time, and what reads the
// answer must not take that for its end.
func (x goExchange) sendInChunks() (readErr, writeErr error) {
	for {
		b := x.unreadIn()
		if len(b) > 0 {
			x.out = append(strconv.AppendInt(x.out, int64(len(b)), 16), "\r\n"...)
			x.out = append(append(x.out, b...), "\r\n"...)
			x.ir, x.iw = 0, 0
		}
		if len(x.out) > 0 {
			if err := x.flush(int64(len(b))); err != nil {
				return nil, err
			}
			x.c.touch()
		}
		err := x.fillIn()
		if err == io.EOF && x.up.Truncated() {
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			if x.body.stop(x); x.body.serverReset() {
				return unix.ECONNRESET, nil
			}
			x.out = append(x.out, "0\r\n\r\n"...)
			return nil, x.flush(0)
		}
		if err != nil {
			return err, nil
		}
	}
}

// appendChunks appends to x.out what is buffered of a chunked body, without what c passed
// over in it. Trailer sections and extensions of chunks, each of which is seen whole, must not show a
// credential.
func (x *exchange) appendChunks(c *http1.Chunked, dechunk bool) (n int, data int64, err error) {
	b := x.unreadIn()
	neat := 0 // b[neat:n] goes on as it is
	for !c.Done() {
		k, d, err := c.Next(b[n:])
		if errors.Is(err, http1.ErrIncomplete) {
			break
		}
		if err != nil {
			return n, data, err
		}
		switch {
		case dechunk:
			x.out = append(x.out, d...)
		case len(d) == 0 && x.shows(b[n:n+k]):
			return n, data, errShowsBehind
		case !c.Neat():
			x.out = c.AppendNeat(append(x.out, b[neat:n]...), b[n:n+k])
			neat = n + k
		}
		n += k
		data += int64(len(d))
	}
	if !dechunk {
		x.out = append(x.out, b[neat:n]...)
	}
	return n, data, nil
}
