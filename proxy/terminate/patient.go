package terminate

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// While one side does not take what is written to it, nobody reads the other; its end must be
// seen all the same.
const (
	lookEvery = time.Second
	takeTime  = 30 * time.Second // of a client, for what is still on its way to it
)

// patient is a connection as who writes to it has it: it waits for as long as the other side
// of the relay is there.
type patient struct {
	sock.Blocking
	other *patient
	grace time.Duration // for what is still on its way when the other has ended
	read  []byte        // what was read already
	ended bool          // the peer has closed, or its half
}

// Read gives out what was read already, first.
func (p *patient) Read(b []byte) (int, error) {
	if len(p.read) > 0 {
		n := copy(b, p.read)
		p.read = p.read[n:]
		return n, nil
	}
	n, err := p.Blocking.Read(b)
	p.ended = p.ended || err == io.EOF
	return n, err
}

// Write writes all of b, or fails when nothing was taken for a while and the other side has
// ended meanwhile, or when a deadline that its user has set has passed.
func (p *patient) Write(b []byte) (n int, err error) {
	n, full := p.tryWrite(b)
	if !full {
		return n, nil
	}
	for waited := time.Duration(0); ; {
		p.SetWriteDeadline(time.Now().Add(lookEvery))
		more, err := p.Blocking.Write(b[n:])
		n += more
		switch {
		case err == nil:
			return n, p.SetWriteDeadline(time.Time{})
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case more > 0:
			waited = 0
		}
		if _, gone := p.other.PeerEnd(); gone {
			if waited += lookEvery; waited >= p.grace {
				return n, err // nobody will take it any more
			}
		}
	}
}

// tryWrite writes what is taken at once. full says that there is more.
func (p *patient) tryWrite(b []byte) (n int, full bool) {
	for n < len(b) {
		more := 0
		var err error
		if p.Control(func(fd uintptr) { more, err = sock.TryWrite(int(fd), b[n:]) }) != nil || err != nil {
			return n, true // Write will say what
		}
		n += more
	}
	return n, false
}
