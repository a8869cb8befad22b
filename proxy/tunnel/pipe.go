package tunnel

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// pipeSize is asked of the kernel for the first bigPipes pipes; it is the most that
// an unprivileged user gets, and halves what bulk costs against 256 KiB, since the
// receiver is woken less often. All pipes of a user may have 64 MiB together
// (pipe-user-pages-soft), and once they have, new ones get two pages: so the others
// stay at the default of 64 KiB, of which there is room for 500 more.
const (
	pipeSize = 1 << 20
	bigPipes = 32
)

// spliceMost is what one splice may move: more than a pipe's size, since what counts
// there are slots, and one slot takes up to 32 KiB from a socket.
const spliceMost = 1 << 20

// readyPipes is how many empty pipes lie ready.
const readyPipes = 16

// pipe is a kernel pipe that splice fills and drains.
type pipe struct {
	r, w int
	big  bool // it counts as one of bigPipes
}

// empty reports whether the kernel says that no byte is in the pipe. It is asked, instead
// of whoever has used the pipe: what is left in one would go to another client.
func (pi *pipe) empty() bool {
	n, err := sock.Unread(pi.r)
	return n == 0 && err == nil
}

// pipes lends pipes. The zero value is ready for use, without a limit.
type pipes struct {
	budget *fdbudget.Budget
	mu     sync.Mutex
	ready  []*pipe
	big    int // pipes of pipeSize
}

// get returns an empty pipe, or nil when no descriptors are left for one.
func (p *pipes) get() *pipe {
	if pi := p.takeReady(); pi != nil {
		if checkTaken && !pi.empty() {
			panic("tunnel: a pipe that lay ready holds bytes")
		}
		return pi
	}
	if !p.budget.Take(2) {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		p.budget.Give(2)
		return nil
	}
	pi := &pipe{r: fds[0], w: fds[1], big: p.mayBeBig()}
	if pi.big {
		unix.FcntlInt(uintptr(pi.w), unix.F_SETPIPE_SZ, pipeSize) // if not, the default serves
	}
	return pi
}

func (p *pipes) takeReady() (pi *pipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.ready); n > 0 {
		pi, p.ready = p.ready[n-1], p.ready[:n-1]
	}
	return pi
}

// mayBeBig counts another pipe of pipeSize, if there may be one.
func (p *pipes) mayBeBig() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.big == bigPipes {
		return false
	}
	p.big++
	return true
}

// put takes a pipe back. One that is not empty for certain is closed.
func (p *pipes) put(pi *pipe) {
	empty := pi.empty()
	p.mu.Lock()
	defer p.mu.Unlock()
	if empty && len(p.ready) < readyPipes {
		p.ready = append(p.ready, pi)
		return
	}
	p.drop(pi)
}

// drop closes a pipe. p.mu is held.
func (p *pipes) drop(pi *pipe) {
	if pi.big {
		p.big--
	}
	unix.Close(pi.r)
	unix.Close(pi.w)
	p.budget.Give(2)
}

func (p *pipes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pi := range p.ready {
		p.drop(pi)
	}
	p.ready = nil
}
