// Package tunnel moves bytes between two TCP connections: both ways until both
// sides have closed (Start, Relay), or a body of known length one way (Copy).
//
// A tunnel that is quiet for long can be parked: then it holds two descriptors
// and a few hundred bytes, no goroutine, and its first byte wakes it.
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
	lot     lot
}

// New returns a Pump whose pipes count against budget; without room in it, bytes
// move through buffers. Close it when no direction is left.
func New(budget *fdbudget.Budget) *Pump {
	return &Pump{
		buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }},
		pipes:   pipes{budget: budget},
	}
}

// Close frees what the pump holds ready. No tunnel may be left.
func (p *Pump) Close() {
	p.pipes.close()
	p.lot.close()
}

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
// goroutines at once. It is Start for those who wait for the end.
func (p *Pump) Relay(client, upstream *net.TCPConn, touch func()) Result {
	done := make(chan Result, 1)
	p.Start(client, upstream, &waiting{touch, done})
	return <-done
}

// waiting are the Hooks of Relay.
type waiting struct {
	touch func()
	done  chan<- Result
}

func (w *waiting) Touch()           { w.touch() }
func (w *waiting) Ended(res Result) { w.done <- res }

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
