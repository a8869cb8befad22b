package proxy

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/http1"
)

// upload is the rest of a request body: what had not come with the head. Only
// for such a body is there a second goroutine.
type upload struct {
	whole  bool // nothing is left to send, or to read
	left   int64
	chunks http1.Chunked

	done chan struct{} // closed when the goroutine ends; nil: it was not started
	// For whoever has seen done closed:
	received  int64
	rest      []byte // read from the client beyond the body
	err       error  // the body was not sent whole
	clientErr error  // because of this, on the client's side
}

// noUpload is that of a request whose body is in x.out already, or that has none.
// Nothing writes to it.
var noUpload = upload{whole: true}

// appendBody appends to x.out what is buffered of the body.
func (x *exchange) appendBody() error {
	c := x.c
	x.body = &noUpload
	switch x.req.Framing {
	case http1.Length:
		n := min(x.req.Length, int64(len(c.buffered())))
		x.out = append(x.out, c.buffered()[:n]...)
		c.r += int(n)
		x.did.received = n
		if n < x.req.Length {
			x.body = &upload{left: x.req.Length - n}
		}
	case http1.ChunkedEnc:
		u := new(upload)
		x.body = u
		if x.ticket.Inspected != nil {
			u.chunks.Refuses = x.ticket.Refuses
		}
		n, data, err := scan(&u.chunks, c.buffered())
		if err != nil {
			return &bodyError{err}
		}
		x.out = append(x.out, c.buffered()[:n]...)
		c.r += n
		x.did.received = data
		if err := x.ticket.BodyTooLarge(data); err != nil {
			return err
		}
		u.whole = u.chunks.Done()
	}
	return nil
}

// scan goes through as many elements of a chunked body as b holds whole. It
// returns their length on the wire and how much of it is data.
func scan(c *http1.Chunked, b []byte) (n int, data int64, err error) {
	for !c.Done() {
		k, d, err := c.Next(b[n:])
		if errors.Is(err, http1.ErrIncomplete) {
			break
		}
		if err != nil {
			return n, data, err
		}
		n += k
		data += int64(len(d))
	}
	return n, data, nil
}

// start sends the rest of the body beside the reading of the answer: a server may
// answer before it has the whole, or want its 100 (Continue) seen first.
func (u *upload) start(x goExchange) {
	if u.whole {
		return
	}
	u.done = make(chan struct{})
	x.c.expecting.Store(!x.req.Expect) // who asks to be told when to send waits for that
	x.c.tcp.Share()
	x.up.TCP.Share()
	go func() {
		defer x.c.expecting.Store(false) // behind what expect does
		defer close(u.done)
		defer x.c.srv.panicked.Recover(func() {
			u.err = errInternal
			u.clientFailed(x, errInternal)
		})
		switch {
		case x.req.Framing == http1.ChunkedEnc:
			u.err = u.sendChunked(x)
		case !x.plain():
			u.err = u.sendBytes(x)
		default:
			var readErr, writeErr error
			u.received, readErr, writeErr = x.c.srv.pump.Copy(x.up.TCP.Blocking(), x.c.tcp, u.left, func() { u.touch(x.c.conn) })
			u.err = errors.Join(readErr, writeErr)
			if readErr != nil {
				u.clientFailed(x, readErr)
			}
		}
	}()
}

// expect says that the client was told to send its body.
func (u *upload) expect(c *conn) {
	if u.done == nil {
		return
	}
	c.expecting.Store(true)
	select {
	case <-u.done:
		c.expecting.Store(false)
	default:
	}
}

// touch says that bytes have come from the client, whether it was told to send them or not.
func (u *upload) touch(c *conn) {
	c.touch()
	if !c.expecting.Load() {
		c.expecting.Store(true)
	}
}

// stop ends the upload, if one runs, and waits for it: nobody reads from the
// client after it but the caller. It reports whether the body was sent whole.
func (u *upload) stop(x goExchange) bool {
	if u.done == nil {
		return u.whole
	}
	c := x.c
	select {
	case <-u.done:
	default:
		// The answer is there, so the server will take no more.
		c.tcp.SetReadDeadline(time.Unix(1, 0))
		if x.up != nil {
			x.up.TCP.SetWriteDeadline(time.Unix(1, 0))
		}
		<-u.done
		if errors.Is(u.clientErr, os.ErrDeadlineExceeded) && c.Why() == 0 {
			u.clientErr = nil // it was stopped here, not too slow
		}
		c.tcp.SetReadDeadline(time.Time{})
		if x.up != nil {
			x.up.TCP.SetWriteDeadline(time.Time{})
		}
		if c.Why() != 0 {
			c.wake()
		}
	}
	u.done = nil
	c.expecting.Store(false)
	u.whole = u.err == nil
	x.did.received += u.received
	x.rest = u.rest
	return u.whole
}

// serverReset reports whether the server has reset the connection while the body was sent.
func (u *upload) serverReset() bool {
	return u.clientErr == nil && (errors.Is(u.err, unix.ECONNRESET) || errors.Is(u.err, unix.EPIPE))
}

// nearlyDone reports whether the body has been sent. A server that answers when it
// has read the whole may be a moment faster than the goroutine that sent it; one
// that answers before does not want the rest.
func (u *upload) nearlyDone() bool {
	if u.done == nil {
		return u.whole
	}
	t := time.NewTimer(5 * time.Millisecond)
	defer t.Stop()
	select {
	case <-u.done:
		return u.err == nil
	case <-t.C:
		return false
	}
}

// clientFailed ends the wait for an answer to a request that will not be whole.
func (u *upload) clientFailed(x goExchange, err error) {
	u.clientErr = err
	x.up.TCP.SetReadDeadline(time.Unix(1, 0))
}

// sendChunked passes a chunked body on as it comes, having looked at every byte
// of its framing.
func (u *upload) sendChunked(x goExchange) error {
	c := x.c
	in := inBuffers.Get().(*[inRoom]byte)
	defer inBuffers.Put(in)
	have := copy(in[:], c.buffered())
	c.r = c.w
	for {
		n, data, err := scan(&u.chunks, in[:have])
		if err != nil {
			u.clientFailed(x, err)
			return err
		}
		if err := x.ticket.BodyTooLarge(x.did.received + u.received + data); err != nil {
			u.clientFailed(x, err)
			return err
		}
		if n > 0 {
			if _, err := x.up.Blocking().Write(in[:n]); err != nil {
				return err
			}
			u.received += data
			have = copy(in[:], in[n:have])
			u.touch(c.conn)
		}
		if u.chunks.Done() {
			u.rest = append([]byte(nil), in[:have]...)
			return nil
		}
		n, err = c.read(in[have:])
		if have += n; err != nil {
			u.clientFailed(x, err)
			return err
		}
	}
}

// sendBytes is for a body of known length whose bytes the gateway has to see.
func (u *upload) sendBytes(x goExchange) error {
	in := inBuffers.Get().(*[inRoom]byte)
	defer inBuffers.Put(in)
	for u.left > 0 {
		n, err := x.c.read(in[:min(u.left, inRoom)])
		if n > 0 {
			if _, err := x.up.Blocking().Write(in[:n]); err != nil {
				return err
			}
			u.left -= int64(n)
			u.received += int64(n)
			u.touch(x.c.conn)
		}
		if err != nil && u.left > 0 {
			u.clientFailed(x, err)
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}
