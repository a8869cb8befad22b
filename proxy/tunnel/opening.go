package tunnel

import (
	"errors"

	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Judge says whether what a client sends first may go on. It is called by the goroutine that
// serves many tunnels, must not block, and must leave the Tunnel alone, which is locked
// meanwhile.
type Judge interface {
	// Judge looks at all that has come from the client, and must not keep it. Unless last is
	// MayCome its judgement must be over.
	Judge(first []byte, last Last) Judgement
}

// Last is why nothing more will come that could be judged. The zero Last is that more may.
type Last uint8

const (
	MayCome Last = iota
	Ended        // the client has ended its half
	Late         // the owner says that the time is over
	Full         // there is no room for more
)

// Judgement is what a Judge says. Its zero value is that more must come.
type Judgement struct {
	Over   bool   // else more must come
	Least  int    // it need not be asked again before that many bytes have come in all
	Refuse bool   // the tunnel must end; upstream gets nothing
	Say    []byte // to the client, when it is refused and was sent nothing yet
}

// ErrRefused says that the tunnel's Judge has ended it.
var ErrRefused = errors.New("what the client sent first was refused")

// opening is what a client has sent first, as long as it is not judged. Most come whole, and are
// never held.
type opening struct {
	judge Judge
	held  []byte
	least int
}

// openingsMost bounds what all openings hold together.
const openingsMost = 64 << 20

// readOpening is read as long as the opening is not judged.
func (t *Tunnel) readOpening(l *poll.Loop) int {
	w, o := &t.ways[clientSide], t.opening
	buf := l.Buf()
	n, err := sock.TryRead(int(t.fds[clientSide]), buf)
	if n <= 0 {
		t.nothing(clientSide, err)
		return 0
	}
	w.moved += int64(n)
	if n < len(buf) && !w.ending {
		t.drained(clientSide)
	}
	if len(o.held) > 0 {
		t.hold(buf[:n])
		t.hear(o.held, MayCome)
		return n
	}
	switch t.hear(buf[:n], MayCome); {
	case t.opening != nil:
		t.hold(buf[:n])
	case !w.open: // it was refused
	case n <= roundStep && l.Keep(n):
		w.takeCargo(t.pump).held = buf[:n]
	default:
		t.write(l, clientSide, buf[:n])
	}
	return n
}

// hold keeps b behind what has come.
func (t *Tunnel) hold(b []byte) {
	t.opening.held = append(t.opening.held, b...)
	t.pump.openings.Add(int64(len(b)))
}

// hear has first judged, all that has come. What goes on and was held is the direction's cargo
// then. t.mu is held.
func (t *Tunnel) hear(first []byte, last Last) {
	o := t.opening
	if last == MayCome && len(first) < o.least {
		return
	}
	if last == MayCome && t.pump.openings.Load() > openingsMost {
		last = Full
	}
	switch j := o.judge.Judge(first, last); {
	case j.Refuse:
		t.refuse(j.Say)
	case j.Over:
		if len(o.held) > 0 {
			c := t.ways[clientSide].takeCargo(t.pump)
			c.held, c.own = o.held, true
		}
		t.dropOpening()
	default:
		o.least = j.Least
	}
}

// refuse ends the tunnel, of which upstream has had nothing.
func (t *Tunnel) refuse(say []byte) {
	if len(say) > 0 && t.ways[upstreamSide].moved == 0 {
		_, _ = sock.TryWrite(int(t.fds[clientSide]), say) // who does not take it is told by the end
	}
	t.fail(ErrRefused)
	t.ways[0].open, t.ways[1].open = false, false
	t.dropOpening()
}

// dropOpening says that there is nothing to be judged any more.
func (t *Tunnel) dropOpening() {
	if t.opening != nil {
		t.pump.openings.Add(-int64(len(t.opening.held)))
		t.opening = nil
	}
}

// Late tells the Judge that the time for what the client sends first is over, unless it has
// judged that already.
func (t *Tunnel) Late() { t.late().finish() }

func (t *Tunnel) late() ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running || t.opening == nil {
		return ending{}
	}
	t.hear(t.opening.held, Late)
	return t.goOn()
}

// goOn sends what was held where no loop does. t.mu is held.
func (t *Tunnel) goOn() ending {
	w := &t.ways[clientSide]
	for w.open && w.loaded() && !w.blocked {
		t.deliver(nil, clientSide)
	}
	if t.ways[upstreamSide].broken { // which no event will tell
		t.readFailed(ErrReset)
	}
	if !t.ways[0].open && !t.ways[1].open {
		return t.end()
	}
	return ending{}
}
