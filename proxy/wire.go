package proxy

import (
	"crypto/tls"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// What a goroutine that serves a client reads and writes is what the client has sent and gets: in
// an opened tunnel that is what is inside its TLS.

// read reads what comes next. The end of an opened tunnel that TLS has not announced is
// io.ErrUnexpectedEOF: anybody on the way may have cut it there.
func (c goConn) read(b []byte) (int, error) {
	if t := c.sealed; t != nil {
		return t.Read(b)
	}
	return c.tcp.Read(b)
}

// write writes all of b.
func (c goConn) write(b []byte) (int, error) { return c.writeTwo(b, nil) }

// writeTwo writes all of a and b as if b stood behind a.
func (c goConn) writeTwo(a, b []byte) (int, error) {
	if t := c.sealed; t != nil {
		return t.writeTwo(a, b)
	}
	return c.tcp.WriteTwo(a, b)
}

// sealed is the TLS of an opened tunnel that ends here. One goroutine may read, and one write.
type sealed struct {
	*tls.Conn
	wire           wire
	received, sent atomic.Int64 // bytes, decrypted
}

// Read reads what comes next.
func (t *sealed) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.received.Add(int64(n))
	if err == io.EOF && t.wire.ended { // at the end of a record crypto/tls takes that for close_notify
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Write writes all of b.
func (t *sealed) Write(b []byte) (int, error) { return t.writeTwo(b, nil) }

// recordMost is what a record of TLS holds at most (RFC 8446 section 5.1).
const recordMost = 16 << 10

func (t *sealed) writeTwo(a, b []byte) (n int, err error) {
	if len(a)+len(b) > recordMost {
		t.wire.hold()
		defer func() {
			if failed := t.wire.flush(); err == nil {
				err = failed
			}
		}()
	}
	n, err = t.Conn.Write(a)
	if err == nil && len(b) > 0 {
		more := 0
		more, err = t.Conn.Write(b)
		n += more
	}
	t.sent.Add(int64(n))
	return n, err
}

// fillSealed is fill for an opened tunnel. While it waits it holds no buffer but a little on the
// stack, which most requests fit into.
func (c goConn) fillSealed() error {
	if c.buf != nil {
		n, err := c.read(c.buf[c.w:])
		if c.w += n; n > 0 {
			err = nil
		}
		return err
	}
	var little [1 << 10]byte
	n, err := c.read(little[:])
	if n > 0 {
		c.buf = headBuffers.Get().(*[headRoom]byte)[:]
		c.w = copy(c.buf, little[:n])
		err = nil
	}
	return err
}

// lastFillSealed is lastFill for an opened tunnel.
func (c goConn) lastFillSealed() error {
	unread := 0
	if err := c.tcp.Control(func(fd uintptr) { unread, _ = sock.Unread(int(fd)) }); err != nil {
		return err
	}
	if unread == 0 {
		return os.ErrDeadlineExceeded
	}
	if err := c.setLimit(firstGrace); err != nil {
		return err
	}
	c.tcp.SetReadDeadline(time.Time{})
	return c.fillSealed()
}

// clientEnd is the client as one of two between whom bytes are carried.
type clientEnd struct{ goConn }

func (c clientEnd) Read(b []byte) (int, error)  { return c.read(b) }
func (c clientEnd) Write(b []byte) (int, error) { return c.write(b) }

// CloseWrite says that no more will be written.
func (c clientEnd) CloseWrite() error {
	if t := c.sealed; t != nil {
		if err := t.CloseWrite(); err != nil {
			return err
		}
	}
	return c.tcp.CloseWrite()
}

// serverEnd is the server as the other.
type serverEnd struct{ outbound.Blocking }

// CloseWrite says that no more will be written.
func (s serverEnd) CloseWrite() error {
	if s.TLS != nil {
		return s.TLS.CloseWrite()
	}
	return s.TCP.CloseWrite()
}

// wire is a client's connection beneath the TLS of an opened tunnel. crypto/tls calls it by who reads
// and by who writes, and writes by who reads, too: an alert, say.
type wire struct {
	sock.Blocking
	early []byte // what was read already
	any   bool   // something has come
	ended bool   // the client has closed, or its half

	mu   sync.Mutex // guards held, and is there while something is written
	held []byte     // records that wait for those behind them; nil: none does
}

// heldRoom is for what is read of an answer at once, in records.
const heldRoom = inRoom + (inRoom/recordMost+2)*64

var heldBuffers = sync.Pool{New: func() any { return new([heldRoom]byte) }}

// Read gives out what was read already, first.
func (w *wire) Read(b []byte) (int, error) {
	if len(w.early) > 0 {
		n := copy(b, w.early)
		w.early, w.any = w.early[n:], true
		return n, nil
	}
	n, err := w.Blocking.Read(b)
	w.any = w.any || n > 0
	w.ended = w.ended || err == io.EOF
	return n, err
}

// Write writes b, or holds it back.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.held == nil:
		return w.Blocking.Write(b)
	case len(w.held)+len(b) <= cap(w.held):
		w.held = append(w.held, b...)
		return len(b), nil
	}
	_, err := w.Blocking.WriteTwo(w.held, b)
	w.held = w.held[:0]
	return len(b), err
}

// hold has what is written wait for flush: crypto/tls would take a system call for each record.
func (w *wire) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = heldBuffers.Get().(*[heldRoom]byte)[:0]
}

// flush writes what was held back.
func (w *wire) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.held
	w.held = nil
	defer heldBuffers.Put((*[heldRoom]byte)(b[:heldRoom]))
	_, err := w.Blocking.Write(b)
	return err
}
