package outbound

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Quiet reports whether the server has said nothing that was not read, and has not ended
// the connection: only then another request may go over it, since nobody knows what that is
// meant for. It does not wait. What Quiet finds it may have taken, so that a connection that
// is not quiet is of no use any more.
//
// Of a TLS connection everything counts that was not read as data: what stands in the
// socket, encrypted, even if it were no data; a part of a record; and what was decrypted.
func (c *Conn) Quiet() bool {
	quiet := false
	err := c.TCP.Control(func(fd uintptr) { quiet = sock.Quiet(int(fd)) })
	if err != nil || !quiet || c.TLS == nil {
		return err == nil && quiet
	}
	var unasked [1]byte
	_, err = c.readHere(unasked[:])
	return err == errNothing && c.records.whole()
}

// readHere reads what is here already, decrypted, or nothing: errNothing.
func (c *Conn) readHere(b []byte) (int, error) {
	c.records.looking = true
	defer func() { c.records.looking = false }()
	return c.TLS.Read(b)
}

// Truncated reports whether the end of a TLS connection, once it was read, is one that the
// server has not announced (RFC 8446 section 6.1): anybody on the way may have cut it there,
// so that what only the end delimits is not known to be whole (RFC 9112 section 9.8).
func (c *Conn) Truncated() bool { return c.TLS != nil && c.records.ended }

// records is the transport beneath a TLS connection. It knows whether what was read from
// it ends with a record (RFC 8446 section 5.1), which crypto/tls does not tell.
type records struct {
	sock.Blocking
	looking bool // reads give what is here
	ended   bool // the stream has

	ahead []byte                // was read beyond what crypto/tls has asked for
	room  *[aheadRoom]byte      // what that is in; nil: there is none
	into  []byte                // what tryRead reads into first
	err   error                 // of tryRead
	n     int                   // what it has read
	try   func(fd uintptr) bool // tryRead, bound once

	header [5]byte
	have   int // of header, as far as crypto/tls has it
	left   int // of the record behind it
}

// Whoever wants to read aheadFrom bytes wants the rest of a large record, behind which there will
// be others: crypto/tls takes two system calls for each, of which reading ahead leaves few.
const (
	aheadFrom = 4 << 10
	aheadRoom = 64 << 10
)

var aheadRooms = sync.Pool{New: func() any { return new([aheadRoom]byte) }}

// Read reads what is there, or waits for it.
func (r *records) Read(b []byte) (n int, err error) {
	switch {
	case len(r.ahead) > 0:
		n = copy(b, r.ahead)
		if r.ahead = r.ahead[n:]; len(r.ahead) == 0 {
			r.dropRoom()
		}
	case r.looking:
		return 0, errNothing
	case len(b) < aheadFrom:
		n, err = r.Blocking.Read(b)
	default:
		n, err = r.readAhead(b)
	}
	r.follow(b[:n])
	r.ended = r.ended || err == io.EOF
	return n, err
}

// readAhead reads into b, and what has come beyond that into r.ahead.
func (r *records) readAhead(b []byte) (int, error) {
	if r.try == nil {
		r.try = r.tryRead
	}
	r.into, r.n, r.err = b, 0, nil
	err := r.ReadWhenReady(r.try)
	r.into = nil
	switch {
	case err != nil:
		return 0, err
	case r.err != nil:
		return 0, r.err
	case r.n == 0:
		return 0, io.EOF
	case r.n > len(b):
		r.ahead = r.room[:r.n-len(b)]
		return len(b), nil
	}
	r.dropRoom()
	return r.n, nil
}

// tryRead is a try of ReadWhenReady. While nothing comes it holds no room.
func (r *records) tryRead(fd uintptr) bool {
	r.room = aheadRooms.Get().(*[aheadRoom]byte)
	r.n, r.err = sock.TryReadTwo(int(fd), r.into, r.room[:])
	if r.err != nil || r.n == 0 {
		r.n = 0
		r.dropRoom()
	}
	return r.err != unix.EAGAIN
}

func (r *records) dropRoom() {
	aheadRooms.Put(r.room)
	r.room, r.ahead = nil, nil
}

// follow goes through what was read.
func (r *records) follow(b []byte) {
	for len(b) > 0 {
		if r.left > 0 {
			n := min(r.left, len(b))
			r.left -= n
			b = b[n:]
			continue
		}
		n := copy(r.header[r.have:], b)
		b = b[n:]
		if r.have += n; r.have == len(r.header) {
			r.have, r.left = 0, int(r.header[3])<<8|int(r.header[4])
		}
	}
}

// whole reports whether the last record was read to its end, and nothing behind it.
func (r *records) whole() bool { return r.have == 0 && r.left == 0 && len(r.ahead) == 0 }

// nothing is the error of a look that finds nothing. It is a net.Error that passes:
// otherwise crypto/tls would take the connection for broken.
type nothing struct{}

var errNothing error = nothing{}

func (nothing) Error() string   { return "nothing has come" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
