package proxy

import (
	"io"

	"golang.org/x/sys/unix"

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
		x.getIn()
		n, err := x.up.Blocking().Read(x.in[x.iw:])
		if x.iw += n; n > 0 {
			err = nil
		}
		x.inErr = err
	} else {
		err := x.up.TCP.Blocking().ReadWhenReady(x.inFn)
		if err == nil && x.inErr == errUnsent {
			if _, err = x.up.TCP.Blocking().Write(x.unsent); err != nil {
				x.outErr = err
			}
			x.unsent = nil
			err = x.up.TCP.Blocking().ReadWhenReady(x.inFn)
		}
		if err != nil {
			return err
		}
	}
	x.c.touch()
	return x.inErr
}

// tryFillIn is a try of ReadWhenReady: see conn.tryFill.
func (x *exchange) tryFillIn(fd uintptr) bool {
	if x.unsent != nil && !x.trySend(int(fd)) {
		return x.inErr != nil
	}
	x.getIn()
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

func (x *exchange) getIn() {
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
	x.getIn()
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
		x.keepHeads()
		x.dropIn()
		x.ir, x.iw = 0, 0
	}
}
