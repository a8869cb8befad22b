package outbound

import (
	"io"

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
	c.records.looking = true
	_, err = c.TLS.Read(unasked[:])
	c.records.looking = false
	return err == errNothing && c.records.whole()
}

// Truncated reports whether the end of a TLS connection, once it was read, is one that the
// server has not announced (RFC 8446 section 6.1): anybody on the way may have cut it there,
// so that what only the end delimits is not known to be whole (RFC 9112 section 9.8).
func (c *Conn) Truncated() bool { return c.TLS != nil && c.records.ended }

// records is the transport beneath a TLS connection. It knows whether what was read from
// it ends with a record (RFC 8446 section 5.1), which crypto/tls does not tell.
type records struct {
	sock.Blocking
	looking bool // reads give nothing, so that TLS gives what it has
	ended   bool // the stream has

	header [5]byte
	have   int // of header
	left   int // of the record behind it
}

// Read reads what is there, or waits for it.
func (r *records) Read(b []byte) (int, error) {
	if r.looking {
		return 0, errNothing
	}
	n, err := r.Blocking.Read(b)
	r.follow(b[:n])
	r.ended = r.ended || err == io.EOF
	return n, err
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

// whole reports whether the last record was read to its end.
func (r *records) whole() bool { return r.have == 0 && r.left == 0 }

// nothing is the error of a look that finds nothing. It is a net.Error that passes:
// otherwise crypto/tls would take the connection for broken.
type nothing struct{}

var errNothing error = nothing{}

func (nothing) Error() string   { return "nothing has come" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
