package tunnel

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// loop moves the bytes of many tunnels by one goroutine. Its epoll set, in which
// every connection stands from the tunnel's start to its end, is itself waited for
// by the runtime's poller: no thread blocks in it. Make it with newLoop.
type loop struct {
	pump  *Pump
	epoll *os.File
	fd    int
	done  chan struct{}

	mu   sync.Mutex
	byFD []*Tunnel // whom an event is for

	// The rest is the goroutine's own.
	buf   []byte    // what passes through user space
	turns []*Tunnel // have more to move than one turn allows
	spare []*Tunnel
}

// newLoop makes the epoll set and the goroutine.
func newLoop(p *Pump) (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// So that os takes it for something to poll, not to block on.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{pump: p, fd: fd, epoll: os.NewFile(uintptr(fd), "tunnels"), done: make(chan struct{})}
	l.buf = make([]byte, bufferSize)
	go l.run()
	return l, nil
}

// add lets events of t's connections come to it.
func (l *loop) add(t *Tunnel) error {
	l.mu.Lock()
	for _, fd := range t.fds {
		for int(fd) >= len(l.byFD) {
			l.byFD = append(l.byFD, make([]*Tunnel, max(1024, len(l.byFD)))...)
		}
		l.byFD[fd] = t
	}
	l.mu.Unlock()
	for side := range t.fds {
		if err := l.ctl(unix.EPOLL_CTL_ADD, t, side, 0); err != nil {
			return err
		}
	}
	return nil
}

// ctl tells the kernel which events of a side to report: those that say that
// there is something to read, and more. Urgent data is asked for because a read
// stops short at its mark.
func (l *loop) ctl(op int, t *Tunnel, side int, more uint32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET | more, Fd: t.fds[side], Pad: int32(side)}
	return os.NewSyscallError("epoll_ctl", sock.EpollCtl(l.fd, op, int(t.fds[side]), &ev))
}

// remove is called before t's descriptors are closed, which takes them out of the
// kernel's set.
func (l *loop) remove(t *Tunnel) {
	l.mu.Lock()
	for _, fd := range t.fds {
		if int(fd) < len(l.byFD) && l.byFD[fd] == t {
			l.byFD[fd] = nil
		}
	}
	l.mu.Unlock()
}

// find returns whom an event is for, nil if nobody. That a descriptor's number has
// gone to another tunnel meanwhile does no harm: events are hints to try.
func (l *loop) find(fd int32) *Tunnel {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byFD[fd]
}

// run serves tunnels until the set is closed.
func (l *loop) run() {
	defer close(l.done)
	raw, err := l.epoll.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 256)
	n := 0
	wait := func(uintptr) bool {
		n, err = sock.EpollPoll(l.fd, events)
		return n > 0 || len(l.turns) > 0 || err != nil && err != unix.EINTR
	}
	for {
		if raw.Read(wait) != nil || n < 0 && err != unix.EINTR {
			return // closed
		}
		for i := range max(n, 0) {
			ev := &events[i]
			if t := l.find(ev.Fd); t != nil {
				t.ready(l, int(ev.Pad), ev.Events)
			}
		}
		if len(l.turns) > 0 {
			l.takeTurns()
		}
	}
}

// takeTurns lets those go on who had more to move, after the others had theirs.
func (l *loop) takeTurns() {
	l.turns, l.spare = l.spare[:0], l.turns
	for i, t := range l.spare {
		t.turn(l)
		l.spare[i] = nil
	}
	runtime.Gosched() // what waits for this processor comes first
}

func (l *loop) close() {
	l.epoll.Close()
	<-l.done
}
