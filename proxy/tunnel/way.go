package tunnel

import (
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// turnBytes is how much one direction may move before others have their turn.
const turnBytes = 4 << 20

// roundStep is how much may wait for the end of the round to be sent.
const roundStep = 4 << 10

// way is one direction of a tunnel. While it waits for bytes it holds nothing;
// while the receiver does not take what was read, it holds that much.
type way struct {
	open          bool // the end of its side has not been seen
	readable      bool // there may be something to read
	ending        bool // and more than bytes, so that a short read is not the last
	blocked       bool // the receiver takes no more for now
	writeInterest bool // it is told when it does
	muted         bool // not to be told of more bytes, since there are some
	broken        bool // writing to the side that is read failed
	bulk          bool // so much comes that splice pays
	full          uint8
	moved         int64
	cargo         *cargo // nil while it holds nothing, which is most of the time
}

// cargo is what a direction holds while bytes are on their way.
type cargo struct {
	held   []byte            // read, and not yet taken
	buffer *[bufferSize]byte // beneath held
	pipe   *pipe             // while bytes are in it, or flow without pause
	inPipe int
	own    bool // held is nobody else's, and needs no buffer
}

func (w *way) takeCargo(p *Pump) *cargo {
	if w.cargo == nil {
		w.cargo = p.cargoes.Get().(*cargo)
	}
	return w.cargo
}

// loaded reports whether bytes were read that the receiver has not taken.
func (w *way) loaded() bool {
	return w.cargo != nil && (len(w.cargo.held) > 0 || w.cargo.inPipe > 0)
}

// move carries bytes away from side for as long as there are any and they are
// taken. It reports whether it stopped because its turn was over. t.mu is held.
func (t *Tunnel) move(l *poll.Loop, side int) (more bool) {
	w := &t.ways[side]
	for left := turnBytes; w.open && !w.blocked; {
		switch {
		case w.loaded():
			t.deliver(l, side)
		case !w.readable:
			return false
		case left <= 0:
			return true
		case w.bulk:
			left -= t.splice(l, side)
		default:
			left -= t.read(l, side)
			if w.loaded() && !w.blocked {
				return true // it is sent with what others send, when the round is over
			}
		}
	}
	if !w.open {
		w.release(t.pump)
	}
	return false
}

// read moves what one read gives, through the loop's own buffer.
func (t *Tunnel) read(l *poll.Loop, side int) int {
	if side == clientSide && t.opening != nil {
		return t.readOpening(l)
	}
	w := &t.ways[side]
	buf := l.Buf()
	n, err := sock.TryRead(int(t.fds[side]), buf)
	if n <= 0 {
		t.nothing(side, err)
		return 0
	}
	w.moved += int64(n)
	if n < len(buf) && !w.ending {
		t.drained(side) // an edge comes with the next byte
	}
	if n < bulkStep {
		w.full = 0
	} else if w.full++; w.full >= bulkSteps {
		w.bulk = true
	}
	if n <= roundStep && l.Keep(n) {
		w.takeCargo(t.pump).held = buf[:n]
		return n
	}
	t.write(l, side, buf[:n])
	return n
}

// nothing is called when a read gave no bytes: for now, or for ever.
func (t *Tunnel) nothing(side int, err error) {
	w := &t.ways[side]
	switch {
	case err == unix.EAGAIN:
		w.ending = false
		t.drained(side)
	case err != nil:
		t.readFailed(sysErr("read", err))
	case w.broken:
		t.readFailed(ErrReset)
	case side == clientSide && t.opening != nil:
		t.hear(t.opening.held, Ended) // then the end is read again
	default:
		w.open = false
		if t.ways[1-side].open { // else both are closed in a moment
			sock.ShutdownWrite(int(t.fds[1-side]))
		}
	}
}

// write sends b; what is not taken at once is held.
func (t *Tunnel) write(l *poll.Loop, side int, b []byte) {
	w := &t.ways[side]
	n, err := sock.TryWrite(int(t.fds[1-side]), b)
	t.touched = t.touched || n > 0
	if err != nil && err != unix.EAGAIN {
		t.writeFailed(1-side, sysErr("write", err))
		return
	}
	rest := b[max(n, 0):]
	if len(rest) == 0 {
		w.release(t.pump)
		return
	}
	c := w.takeCargo(t.pump)
	if c.buffer == nil && !c.own {
		c.buffer = t.pump.buffers.Get().(*[bufferSize]byte)
		rest = c.buffer[:copy(c.buffer[:], rest)]
	}
	c.held = rest
	if n <= 0 {
		t.block(l, side)
	}
}

// block waits until the receiver takes more.
func (t *Tunnel) block(l *poll.Loop, side int) {
	w := &t.ways[side]
	w.blocked = true
	if w.writeInterest {
		return
	}
	w.writeInterest = true // and it stays so: who was slow once will be again
	t.rearm(1 - side)
}

// mute has more bytes from side not told while there are some that the receiver does not take:
// in bulk each would wake the loop in vain.
func (t *Tunnel) mute(side int) {
	t.ways[side].muted = true
	t.rearm(side)
}

// drained is called when there is nothing to read until an event says so.
func (t *Tunnel) drained(side int) {
	w := &t.ways[side]
	w.readable = false
	if w.muted {
		w.muted = false
		t.rearm(side)
	}
}

// rearm makes the interest in a side what its ways wait for.
func (t *Tunnel) rearm(side int) {
	interest := poll.Readable
	if t.ways[side].muted {
		interest = 0
	}
	if t.ways[1-side].writeInterest {
		interest |= poll.Writable
	}
	if err := t.loops[side].Rearm(int(t.fds[side]), interest); err != nil {
		t.readFailed(err)
	}
}

// deliver sends what is held.
func (t *Tunnel) deliver(l *poll.Loop, side int) {
	w := &t.ways[side]
	c := w.cargo
	if c.inPipe == 0 {
		t.write(l, side, c.held)
		return
	}
	n, err := sock.TrySplice(c.pipe.r, int(t.fds[1-side]), c.inPipe)
	switch {
	case err == unix.EAGAIN:
		t.block(l, side)
	case err != nil:
		t.writeFailed(1-side, sysErr("splice", err))
	default:
		t.touched = true
		if c.inPipe -= n; c.inPipe == 0 && !w.bulk {
			w.release(t.pump)
		}
	}
}

// splice fills the pipe, which is empty.
func (t *Tunnel) splice(l *poll.Loop, side int) int {
	w := &t.ways[side]
	c := w.takeCargo(t.pump)
	if c.pipe == nil {
		if c.pipe = t.pump.pipes.get(); c.pipe == nil {
			w.release(t.pump)
			w.bulk, w.full = false, 0 // no descriptors for one
			return 0
		}
	}
	n, err := sock.TrySplice(int(t.fds[side]), c.pipe.w, spliceMost)
	if n <= 0 {
		w.release(t.pump)
		t.nothing(side, err)
		return 0
	}
	w.moved += int64(n)
	c.inPipe = n
	if n < bulkStep {
		w.bulk, w.full = false, 0
	}
	return n
}

// release gives back what the direction holds.
func (w *way) release(p *Pump) {
	c := w.cargo
	if c == nil {
		return
	}
	if c.buffer != nil {
		p.buffers.Put(c.buffer)
	}
	if c.pipe != nil {
		p.pipes.put(c.pipe)
	}
	*c = cargo{}
	p.cargoes.Put(c)
	w.cargo = nil
}
