package tunnel

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Hooks are what a tunnel tells its owner. They are called by the goroutine that
// serves many tunnels, and must not block.
type Hooks interface {
	// Touch is called whenever bytes have moved.
	Touch()
	// Moved tells how many bytes have moved since it told last: when there are any at a Tell,
	// and before Ended. It must leave the Tunnel alone, which is locked meanwhile.
	Moved(up, down int64)
	// Ended is called once, when both connections are closed; possibly within
	// Start or Cut. From then on the Tunnel may be started anew.
	Ended(Result)
}

// Result is how a tunnel ended.
type Result struct {
	Up, Down int64 // bytes from client to upstream, and back
	Err      error // nil when both sides closed; ErrReset, os.ErrDeadlineExceeded …
}

// ErrAbandoned says that a fault of the program ended the tunnel.
var ErrAbandoned = errors.New("internal error")

// ErrReset says that one side reset the connection, and so the other was reset.
var ErrReset = errors.New("connection reset")

// The sides of a tunnel. Direction i reads from side i and writes to the other.
const (
	clientSide = iota
	upstreamSide
)

// Tunnel is two connections between which bytes move. While none do, it is this
// struct and two descriptors. Its methods may be called concurrently. The zero value is
// ready for Start, and so is a tunnel that has ended.
type Tunnel struct {
	mu    sync.Mutex
	lives atomic.Uint64 // counts them
	life
}

// life is what a Tunnel is from Start to its end.
type life struct {
	pump    *Pump
	hooks   Hooks
	loops   [2]*poll.Loop
	fds     [2]int32
	ways    [2]way
	running bool     // from Start to the end
	reset   bool     // both sides are to be reset, not closed
	waiting bool     // for its turn
	kept    bool     // KeepAlive was called
	touched bool     // bytes have moved
	told    [2]int64 // bytes that hooks.Moved knows of, by way
	opening *opening // of the client, until it was judged; nil: nothing is, or was
	err     error
}

// Side is one of the connections that a tunnel is made of.
type Side struct {
	*sock.Conn
	Loop *poll.Loop // with which it is registered already, or nil
}

// Start makes t a tunnel, which its owner may be part of: it moves bytes between two
// connections, which are the tunnel's from now on, until both sides have closed or one
// has reset. It returns at once; hooks.Ended is told the end.
func (p *Pump) Start(t *Tunnel, client, upstream Side, hooks Hooks) {
	p.start(t, client, upstream, hooks, nil, nil).finish()
}

// StartJudged is Start of a tunnel through which nothing goes to upstream until j says so. What
// upstream sends goes to the client at once. first is what has been read from the client
// already; the tunnel keeps it.
func (p *Pump) StartJudged(t *Tunnel, client, upstream Side, hooks Hooks, j Judge, first []byte) {
	p.start(t, client, upstream, hooks, j, first).finish()
}

func (p *Pump) start(t *Tunnel, client, upstream Side, hooks Hooks, j Judge, first []byte) (end ending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lives.Add(1)
	t.life = life{pump: p, hooks: hooks, fds: [2]int32{-1, -1}, ways: [2]way{{open: true}, {open: true}}, running: true}
	if j != nil {
		t.opening = &opening{judge: j}
	}
	var errs [2]error
	for side, s := range [...]Side{client, upstream} {
		fd := -1
		fd, errs[side] = s.Detach()
		t.fds[side], t.loops[side] = int32(fd), s.Loop
	}
	err := errors.Join(errs[0], errs[1])
	if err == nil {
		err = t.register()
	}
	if err == nil && len(first) > 0 {
		t.ways[clientSide].moved = int64(len(first))
		t.hold(first)
		t.hear(first, MayCome)
		return t.goOn()
	}
	if err == nil {
		return ending{}
	}
	t.fail(err)
	return t.end()
}

// register has t told what both sides are ready for.
func (t *Tunnel) register() (err error) {
	l := cmp.Or(t.loops[clientSide], t.loops[upstreamSide])
	if l == nil {
		if l, err = t.pump.loops.Next(); err != nil {
			return err
		}
	}
	for side, own := range t.loops {
		fd := int(t.fds[side])
		if own != nil {
			err = own.Adopt(fd, t)
		} else {
			t.loops[side] = l
			err = l.Register(fd, t, poll.Readable)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Ready is for the loop. Like Do it may come late, for what the tunnel was before: then
// it finds nothing to do.
func (t *Tunnel) Ready(l *poll.Loop, fd int, events uint32) {
	t.ready(l, fd, events).finish()
}

func (t *Tunnel) ready(l *poll.Loop, fd int, events uint32) ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	side := clientSide
	if fd == int(t.fds[upstreamSide]) {
		side = upstreamSide
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		t.ways[1-side].blocked = false
	}
	if events&^unix.EPOLLOUT != 0 {
		w := &t.ways[side]
		if w.readable && w.blocked && !w.muted && t.running {
			t.mute(side)
		}
		w.readable = true
		w.ending = w.ending || events&^(unix.EPOLLIN|unix.EPOLLOUT) != 0
	}
	if !t.running || t.waiting {
		return ending{}
	}
	return t.serve(l, side)
}

// Do is for the loop: it is the tunnel's turn again, after the others had theirs.
func (t *Tunnel) Do(l *poll.Loop) { t.turn(l).finish() }

func (t *Tunnel) turn(l *poll.Loop) ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = false
	if !t.running {
		return ending{}
	}
	return t.serve(l, clientSide)
}

// serve moves what can be moved, from side first. t.mu is held.
func (t *Tunnel) serve(l *poll.Loop, side int) ending {
	t.touched = false
	more := t.move(l, side)
	more = t.move(l, 1-side) || more
	if t.touched {
		t.hooks.Touch()
	}
	if !t.ways[0].open && !t.ways[1].open {
		return t.end()
	}
	if t.waiting = more; more {
		l.Later(t)
	}
	return ending{}
}

// readFailed ends the tunnel: a side is gone.
func (t *Tunnel) readFailed(err error) {
	err = ended(err)
	t.fail(err)
	t.reset = t.reset || err == ErrReset
	t.ways[0].open, t.ways[1].open = false, false
}

// writeFailed ends the direction that writes to side. The other one finds what
// that side had still sent, then its end, and ends the tunnel: the kernel reports
// a reset only once, so leave word.
func (t *Tunnel) writeFailed(side int, err error) {
	t.fail(ended(err))
	t.ways[1-side].open = false
	w := &t.ways[side]
	w.broken, w.readable, w.ending = true, true, true
}

// fail keeps the error that says most.
func (t *Tunnel) fail(err error) {
	if t.err == nil || errors.Is(t.err, ErrReset) && err != nil {
		t.err = err
	}
}

// Tell is the owner's regular look at tunnels, which most never live to see. It tells
// hooks.Moved what has moved, and from the first on the kernel finds out when one of the
// peers is gone.
func (t *Tunnel) Tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running {
		return
	}
	t.tell()
	if t.kept {
		return
	}
	t.kept = true
	for _, fd := range t.fds {
		sock.KeepAlive(int(fd))
	}
}

// While calls f with the bytes that have moved by now, from the client and to it, if t has
// not ended; it can't while f runs. It reports whether it did.
func (t *Tunnel) While(f func(up, down int64)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running {
		f(t.ways[clientSide].moved, t.ways[upstreamSide].moved)
	}
	return t.running
}

// tell tells the owner what has moved. t.mu is held.
func (t *Tunnel) tell() {
	moved := [2]int64{t.ways[clientSide].moved, t.ways[upstreamSide].moved}
	if moved != t.told {
		t.hooks.Moved(moved[clientSide]-t.told[clientSide], moved[upstreamSide]-t.told[upstreamSide])
		t.told = moved
	}
}
