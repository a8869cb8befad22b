package terminate

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

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
	other *patient      // nil: there is none, and who writes knows for how long
	grace time.Duration // for what is still on its way when the other has ended
	since time.Time     // when that was seen
	read  []byte        // what was read already
	ended bool          // the peer has closed, or its half
	any   atomic.Bool   // something has come
	late  *atomic.Int64 // since when the other has ended and this has not taken all, in ns; nil: nobody asks

	mu    sync.Mutex // held by tryWrite and tryRead
	reset bool       // the peer has reset the connection
}

// Read gives out what was read already, first.
func (p *patient) Read(b []byte) (int, error) {
	if len(p.read) > 0 {
		n := copy(b, p.read)
		p.read = p.read[n:]
		return n, nil
	}
	n, err := p.Blocking.Read(b)
	if n > 0 && !p.any.Load() {
		p.any.Store(true)
	}
	p.ended = p.ended || err == io.EOF
	return n, err
}

// Write writes all of b, or fails when that takes a while after the other side has ended.
func (p *patient) Write(b []byte) (n int, err error) {
	if p.other == nil {
		return p.Blocking.Write(b)
	}
	var failed error
	try := func(fd uintptr) bool {
		more := 0
		more, failed = p.tryWrite(int(fd), b[n:])
		n += more
		return failed != unix.EAGAIN
	}
	for {
		p.SetWriteDeadline(time.Now().Add(lookEvery))
		err = p.WriteWhenReady(try)
		switch {
		case err == nil:
			return n, failed
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		}
		if _, gone := p.other.PeerEnd(); gone && (p.tooLate() || p.other.WasReset()) {
			return n, err // nobody will take it any more, or shall
		}
	}
}

// tooLate reports whether the other side has ended for as long as what is still on its way may
// take, however slowly that is taken.
func (p *patient) tooLate() bool {
	now := time.Now()
	if p.since.IsZero() {
		p.since = now
		if p.late != nil {
			p.late.Store(now.UnixNano())
		}
	}
	return now.Sub(p.since) >= p.grace
}

// tryWrite writes what is taken at once; with EAGAIN that is not all.
func (p *patient) tryWrite(fd int, b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(b) && err == nil {
		more := 0
		more, err = sock.TryWrite(fd, b[n:])
		n += max(more, 0)
	}
	p.reset = p.reset || err == unix.ECONNRESET
	return n, err
}

// tryRead reads what has come. A reset is not taken for an end, although the kernel says it once
// only, and has said it to tryWrite maybe.
func (p *patient) tryRead(fd int, b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err = sock.TryRead(fd, b)
	if n == 0 && p.reset {
		return 0, unix.ECONNRESET
	}
	return n, err
}
