package tunnel

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// pipeSize is asked of the kernel for each pipe: it carries more a system call
// than the 64 KiB of the default. pipe-user-pages-soft lets an unprivileged user
// have 64 MiB in all; past that the kernel says no and the default stays.
const pipeSize = 256 << 10

// readyPipes is how many empty pipes lie ready.
const readyPipes = 16

// pipe is a kernel pipe that splice fills and drains.
type pipe struct {
	r, w  int
	size  int
	dirty bool // bytes were left in it, so it can't be used again
}

// pipes lends pipes. The zero value is ready for use, without a limit.
type pipes struct {
	budget *fdbudget.Budget
	mu     sync.Mutex
	ready  []*pipe
}

// get returns an empty pipe, or nil when no descriptors are left for one.
func (p *pipes) get() *pipe {
	p.mu.Lock()
	if n := len(p.ready); n > 0 {
		pi := p.ready[n-1]
		p.ready = p.ready[:n-1]
		p.mu.Unlock()
		return pi
	}
	p.mu.Unlock()
	if !p.budget.Take(2) {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		p.budget.Give(2)
		return nil
	}
	pi := &pipe{r: fds[0], w: fds[1], size: 64 << 10}
	if n, err := unix.FcntlInt(uintptr(pi.w), unix.F_SETPIPE_SZ, pipeSize); err == nil {
		pi.size = n
	}
	return pi
}

// put takes a pipe back.
func (p *pipes) put(pi *pipe) {
	p.mu.Lock()
	if !pi.dirty && len(p.ready) < readyPipes {
		p.ready = append(p.ready, pi)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.drop(pi)
}

func (p *pipes) drop(pi *pipe) {
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
