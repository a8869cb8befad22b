package tunnel

import (
	"io"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Flow is a Copy that does not wait, for whoever has an event loop. Make it with NewFlow.
type Flow struct {
	d    direction
	held []byte // in d.buf, read and not yet taken
}

// Progress is how far a Flow has come.
type Progress int

// What Move returns.
const (
	Done   Progress = iota // all was moved, or there was an error
	Reads                  // it waits for bytes from the source
	Writes                 // it waits until the destination takes bytes
	More                   // its turn is over
)

// NewFlow makes f one of n bytes. touch is called when bytes have moved.
func (p *Pump) NewFlow(f *Flow, n int64, touch func()) {
	*f = Flow{d: direction{pump: p, touch: touch, left: n, bulk: n >= bulkBody}}
}

// Moved is how many bytes were taken from the source.
func (f *Flow) Moved() int64 { return f.d.moved }

// Move moves what can be moved between two non-blocking sockets. When it is Done, of the
// two errors at most one is set; readErr is io.ErrUnexpectedEOF when the source has ended
// before.
func (f *Flow) Move(src, dst int) (p Progress, readErr, writeErr error) {
	for turn := turnBytes; ; turn -= f.d.n {
		taken, err := f.deliver(dst)
		switch {
		case err != nil:
			f.Release()
			return Done, nil, err
		case !taken:
			return Writes, nil, nil
		case f.d.left == 0:
			f.Release()
			return Done, nil, nil
		case turn <= 0:
			return More, nil, nil
		}
		switch p, err = f.take(src); p {
		case Done:
			f.Release()
			return Done, err, nil
		case Reads:
			return Reads, nil, nil
		}
	}
}

// take reads once.
func (f *Flow) take(src int) (Progress, error) {
	d := &f.d
	try := d.read
	if d.bulk {
		try = d.spliceIn
	}
	d.n = 0
	if !try(uintptr(src)) {
		return Reads, nil
	}
	switch {
	case d.err != nil:
		return Done, d.err
	case d.n == 0 && d.bulk && d.pipe == nil:
		d.bulk = false // no descriptors for a pipe
		return More, nil
	case d.n == 0:
		return Done, io.ErrUnexpectedEOF
	}
	if d.pipe == nil {
		f.held = d.buf[:d.n]
	}
	d.grade()
	return More, nil
}

// deliver sends what was read, and reports whether all of it was taken.
func (f *Flow) deliver(dst int) (taken bool, err error) {
	d := &f.d
	switch {
	case len(f.held) > 0:
		for len(f.held) > 0 { // to the end, or the kernel would not tell when there is room
			n, err := sock.TryWrite(dst, f.held)
			if err == unix.EAGAIN {
				return false, nil
			}
			if err != nil {
				return false, sysErr("write", err)
			}
			f.held = f.held[n:]
		}
		d.releaseBuffer()
	case d.pipe != nil && d.n > 0:
		if !d.spliceOut(uintptr(dst)) {
			return false, nil
		}
		if d.err != nil {
			return false, d.err
		}
	default:
		return true, nil
	}
	if !d.bulk {
		d.releasePipe()
	}
	d.touch()
	return true, nil
}

// Release gives back what f holds. Move does so when it is Done.
func (f *Flow) Release() {
	f.d.release()
	f.held = nil
}
