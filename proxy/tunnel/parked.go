package tunnel

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Hooks are what a tunnel tells its owner.
type Hooks interface {
	// Touch is called whenever bytes have moved, possibly by two goroutines at once.
	Touch()
	// Ended is called once, when both connections are closed.
	Ended(Result)
}

// The sides of a tunnel. Direction i reads from side i and writes to the other.
const (
	clientSide = iota
	upstreamSide
)

type state uint8

const (
	running state = iota
	pausing       // Park was called; directions stop when they have nothing to move
	parked
	over
)

// Tunnel is two connections between which bytes move. Its methods may be called
// concurrently.
type Tunnel struct {
	pump  *Pump
	hooks Hooks

	mu     sync.Mutex
	state  state
	conns  [2]*net.TCPConn // nil while parked
	fds    [2]int32        // while parked
	open   [2]bool         // the direction has not seen the end of its side
	going  [2]bool         // a goroutine runs the direction
	broken [2]bool         // writing to that side failed
	paused bool            // Park was called, ever: a passed deadline means that
	cut    bool            // Cut was called
	moved  [2]int64
	err    error
}

// Start moves bytes between two connections, which are the tunnel's from now on,
// until both sides have closed or one has reset. It returns at once; hooks.Ended
// is told the end.
func (p *Pump) Start(client, upstream *net.TCPConn, hooks Hooks) *Tunnel {
	t := &Tunnel{pump: p, hooks: hooks, conns: [2]*net.TCPConn{client, upstream}, open: [2]bool{true, true}}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resume()
	return t
}

// resume starts the directions that have not ended. t.mu is held.
func (t *Tunnel) resume() {
	t.state = running
	for side := range t.open {
		if t.open[side] && !t.going[side] {
			t.going[side] = true
			go t.direct(side)
		}
	}
}

// direct runs one direction for as long as bytes may come.
func (t *Tunnel) direct(side int) {
	d := direction{pump: t.pump, touch: t.hooks.Touch, left: -1}
	t.mu.Lock()
	src, dst := t.conns[side], t.conns[1-side]
	t.mu.Unlock()
	readErr, writeErr := d.run(src, dst)
	t.mu.Lock()
	t.moved[side] += d.moved
	t.going[side] = false
	t.stopped(side, readErr, writeErr)
	if t.state == running && t.open[side] {
		t.resume() // it had stopped for an attempt to park that was given up meanwhile
	}
	finished := !t.going[0] && !t.going[1] && t.settle()
	t.mu.Unlock()
	if finished {
		t.end()
	}
}

// stopped books why a direction stopped, and tells the other side. t.mu is held.
func (t *Tunnel) stopped(side int, readErr, writeErr error) {
	src, dst := t.conns[side], t.conns[1-side]
	switch {
	case writeErr != nil && !t.cut:
		// The reader of dst finds what dst had still sent, then its end, and ends
		// the tunnel; the kernel reports a reset only once, so leave word.
		t.open[side] = false
		t.broken[1-side] = true
		t.fail(ended(writeErr))
		return
	case writeErr == nil && readErr == nil && !t.broken[side]:
		t.open[side] = false
		dst.CloseWrite()
		return
	case errors.Is(readErr, os.ErrDeadlineExceeded) && t.paused && !t.cut:
		return // still open
	case readErr == nil:
		readErr = ErrReset
	}
	t.open = [2]bool{}
	readErr = ended(readErr)
	if t.cut {
		readErr = os.ErrDeadlineExceeded
	}
	t.fail(readErr)
	if readErr == ErrReset {
		src.SetLinger(0)
		dst.SetLinger(0)
	}
	src.Close() // wakes the other direction
	dst.Close()
}

// fail keeps the error that says most.
func (t *Tunnel) fail(err error) {
	if t.err == nil || errors.Is(t.err, ErrReset) && err != nil {
		t.err = err
	}
}

// settle decides what comes when no direction runs: it parks the tunnel, lets it
// run on, or reports that it is over. t.mu is held.
func (t *Tunnel) settle() (finished bool) {
	if !t.open[0] && !t.open[1] {
		t.state = over
		return true
	}
	if t.state != pausing || !t.park() {
		t.unpause()
	}
	return false
}

// Park asks a tunnel that is quiet to give up all but its descriptors; its owner
// must then set no deadlines of its own, but call Cut. When it is
// called again before that has come about, it gives up the attempt: a direction
// that cannot deliver what it has must not keep the other from moving.
// It reports whether the attempt has begun.
func (t *Tunnel) Park() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.state {
	case running:
		t.state, t.paused = pausing, true
		for _, c := range t.conns {
			c.SetReadDeadline(time.Unix(1, 0))
		}
		return true
	case pausing:
		t.unpause()
	}
	return false
}

// unpause lets a tunnel run on. t.mu is held.
func (t *Tunnel) unpause() {
	for _, c := range t.conns {
		c.SetReadDeadline(time.Time{})
	}
	t.resume()
}

// park puts the connections into the lot. It reports false, and leaves the tunnel
// as it was, when the kernel has no descriptors. t.mu is held, and no direction
// runs.
func (t *Tunnel) park() bool {
	for side, c := range t.conns {
		fd, err := duplicate(c)
		if err != nil {
			if side == upstreamSide {
				unix.Close(int(t.fds[clientSide]))
			}
			return false
		}
		t.fds[side] = int32(fd)
	}
	if !t.pump.lot.add(t) {
		unix.Close(int(t.fds[clientSide]))
		unix.Close(int(t.fds[upstreamSide]))
		return false
	}
	t.state = parked
	for side, c := range t.conns {
		c.Close() // the duplicate keeps the connection
		t.conns[side] = nil
	}
	return true
}

// wake takes the tunnel out of the lot. A connection that the runtime does not
// take back ends the tunnel.
func (t *Tunnel) wake() {
	t.mu.Lock()
	if t.state != parked {
		t.mu.Unlock()
		return
	}
	t.pump.lot.remove(t)
	var errs [2]error
	for side, fd := range t.fds {
		t.conns[side], errs[side] = adopt(int(fd))
	}
	if err := errors.Join(errs[0], errs[1]); err != nil {
		for _, c := range t.conns {
			if c != nil {
				c.Close()
			}
		}
		t.state, t.open = over, [2]bool{}
		t.fail(err)
		t.mu.Unlock()
		t.end()
		return
	}
	t.resume()
	t.mu.Unlock()
}

// Cut ends the tunnel now, as one whose time has passed.
func (t *Tunnel) Cut() {
	t.mu.Lock()
	t.cut = true
	if t.state == over {
		t.mu.Unlock()
		return
	}
	if t.state == parked {
		t.pump.lot.remove(t)
		for _, fd := range t.fds {
			unix.Close(int(fd))
		}
		t.state, t.open = over, [2]bool{}
		t.fail(os.ErrDeadlineExceeded)
		t.mu.Unlock()
		t.end()
		return
	}
	for _, c := range t.conns {
		c.SetDeadline(time.Unix(1, 0))
	}
	t.mu.Unlock()
}

// end closes what is open and tells the owner. It is called once, by whoever made
// the tunnel over, without t.mu.
func (t *Tunnel) end() {
	for _, c := range t.conns {
		if c != nil {
			c.Close()
		}
	}
	t.hooks.Ended(Result{Up: t.moved[clientSide], Down: t.moved[upstreamSide], Err: t.err})
}

// duplicate returns a descriptor of the runtime's connection that the runtime does
// not know.
func duplicate(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := raw.Control(func(own uintptr) {
		fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0)
	}); e != nil {
		return 0, e
	}
	return fd, err
}

// adopt hands a descriptor back to the runtime. It closes fd.
func adopt(fd int) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "tunnel")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// ended names the ways in which a peer breaks a connection by one error.
func ended(err error) error {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, net.ErrClosed) {
		return ErrReset
	}
	return err
}
