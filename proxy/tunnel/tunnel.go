// Package tunnel moves bytes between two TCP connections: both ways until both
// sides have closed (Relay), or a body of known length one way (Copy).
//
// A side that closes its sending half has just that half closed on the other
// side (half-close); a side that resets has the other side reset. A direction
// that waits for bytes holds neither buffer nor pipe. One that moves much
// changes from a buffer to splice(2), so that bulk does not pass through user
// space.
package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// bufferSize is what one read takes before splice pays.
const bufferSize = 16 << 10

// fullReads is how many reads in a row must fill the buffer before a direction
// changes to splice: a pipe costs two system calls to fill and drain, and an
// answer of a few kilobytes never gains from it.
const fullReads = 2

// Pump holds what directions share: buffers and pipes. Use one for the whole
// process. Its methods may be called concurrently.
type Pump struct {
	buffers sync.Pool
	pipes   pipes
}

// New returns a Pump whose pipes count against budget; without room in it, bytes
// move through buffers. Close it when no direction is left.
func New(budget *fdbudget.Budget) *Pump {
	return &Pump{
		buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }},
		pipes:   pipes{budget: budget},
	}
}

// Close closes the pipes that lie ready.
func (p *Pump) Close() { p.pipes.close() }

// Result is how a relay ended.
type Result struct {
	Up, Down int64 // bytes from client to upstream, and back
	Err      error // nil when both sides closed; ErrReset, os.ErrDeadlineExceeded …
}

// ErrReset says that one side reset the connection, and so the other was reset.
var ErrReset = errors.New("connection reset")

// Relay moves bytes both ways until both sides have closed, one has reset, or a
// deadline set on a connection from outside has passed. It closes both
// connections. touch is called whenever bytes have moved, possibly by two
// goroutines at once.
func (p *Pump) Relay(client, upstream *net.TCPConn, touch func()) Result {
	var broken [2]atomic.Bool // writing to that side failed: client, upstream
	up := direction{pump: p, touch: touch, left: -1}
	down := direction{pump: p, touch: touch, left: -1}
	var res Result
	done := make(chan error, 1)
	go func() { done <- up.relay(client, upstream, &broken[0], &broken[1]) }()
	errDown := down.relay(upstream, client, &broken[1], &broken[0])
	errUp := <-done
	res.Up, res.Down = up.moved, down.moved
	for _, err := range []error{errDown, errUp} {
		if res.Err == nil || errors.Is(res.Err, ErrReset) && err != nil {
			res.Err = err
		}
	}
	client.Close()
	upstream.Close()
	return res
}

// relay runs one direction to its end and tells the other side how it ended.
func (d *direction) relay(src, dst *net.TCPConn, srcBroken, dstBroken *atomic.Bool) error {
	readErr, writeErr := d.run(src, dst)
	switch {
	case writeErr != nil:
		// The reader of dst finds what dst had still sent, then its end, and ends
		// the relay; the kernel reports a reset only once, so leave word.
		dstBroken.Store(true)
		return ended(writeErr)
	case readErr == nil && !srcBroken.Load():
		dst.CloseWrite()
		return nil
	case readErr == nil:
		readErr = ErrReset
	}
	if readErr = ended(readErr); readErr == ErrReset {
		abort(src)
		abort(dst)
	}
	src.Close() // wakes the other direction
	dst.Close()
	return readErr
}

// ended names the ways in which a peer breaks a connection by one error.
func ended(err error) error {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) {
		return ErrReset
	}
	return err
}

// abort makes c end in a reset, not in an orderly close.
func abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// Copy moves n bytes from src to dst and returns how many it moved. readErr is
// io.ErrUnexpectedEOF when src ended before; of the two errors at most one is
// set. With n < 0 it moves all that comes until src ends, which is no error. It
// closes neither connection.
func (p *Pump) Copy(dst, src *net.TCPConn, n int64, touch func()) (moved int64, readErr, writeErr error) {
	d := direction{pump: p, touch: touch, left: n}
	readErr, writeErr = d.run(src, dst)
	if readErr == nil && writeErr == nil && n >= 0 && d.moved < n {
		readErr = io.ErrUnexpectedEOF
	}
	return d.moved, readErr, writeErr
}
