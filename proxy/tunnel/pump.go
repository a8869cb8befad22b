// Package tunnel moves bytes between two TCP connections: both ways until both
// sides have closed (Start), or a body of known length one way (Copy).
//
// Tunnels are served by the loops of package poll. One in which no byte moves holds two
// descriptors and a few hundred bytes: no goroutine, no buffer, no pipe.
//
// A side that closes its sending half has just that half closed on the other
// side (half-close); a side that resets has the other side reset. A direction
// that waits for bytes holds neither buffer nor pipe. One that moves much
// changes from a buffer to splice(2), so that bulk does not pass through user
// space.
package tunnel

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// bufferSize is what one read takes before splice pays.
const bufferSize = 64 << 10

// bulkSteps steps in a row must each move bulkStep or more before a direction
// changes to splice, and one that moves less ends it: a pipe costs two system calls
// to fill and drain, and an answer of a few kilobytes never gains from it.
const (
	bulkStep  = 16 << 10
	bulkSteps = 2
)

// bulkBody is the length of a body for which splice is tried at once.
const bulkBody = 128 << 10

// Pump holds what tunnels share: buffers and pipes. Use one for the whole
// process. Its methods may be called concurrently.
type Pump struct {
	buffers sync.Pool
	cargoes sync.Pool
	// openings is how many bytes are held that are not judged yet.
	openings atomic.Int64
	pipes    pipes
	loops    *poll.Loops
}

// New returns a Pump whose tunnels are served by loops, and whose pipes count against
// budget; without room in it, bytes move through buffers. Close it when no direction is
// left, and the loops after it.
func New(budget *fdbudget.Budget, loops *poll.Loops) *Pump {
	return &Pump{
		loops:   loops,
		buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }},
		cargoes: sync.Pool{New: func() any { return new(cargo) }},
		pipes:   pipes{budget: budget},
	}
}

// Close frees what the pump holds ready. No tunnel may be left.
func (p *Pump) Close() { p.pipes.close() }

// Copy moves n bytes from src to dst and returns how many it moved. readErr is
// io.ErrUnexpectedEOF when src ended before; of the two errors at most one is
// set. With n < 0 it moves all that comes until src ends, which is no error. It
// closes neither connection.
func (p *Pump) Copy(dst, src sock.Blocking, n int64, touch func()) (moved int64, readErr, writeErr error) {
	d := direction{pump: p, touch: touch, left: n, bulk: n >= bulkBody}
	readErr, writeErr = d.run(src, dst)
	if readErr == nil && writeErr == nil && n >= 0 && d.moved < n {
		readErr = io.ErrUnexpectedEOF
	}
	return d.moved, readErr, writeErr
}
