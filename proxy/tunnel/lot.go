package tunnel

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// lot is where parked tunnels stand: one epoll set, which the runtime's own poller
// waits for. The zero value is ready for use.
type lot struct {
	mu     sync.Mutex
	epoll  *os.File // nil until the first tunnel is parked
	fd     int
	byFD   map[int32]*Tunnel
	closed bool
	done   chan struct{}
}

// add parks t: the directions that are open wake it by what comes from their side.
// It reports false when there is no epoll set to be had.
func (l *lot) add(t *Tunnel) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.epoll == nil && l.open() != nil {
		return false
	}
	for side, fd := range t.fds {
		var events uint32 = unix.EPOLLONESHOT // errors and resets are always reported
		if t.open[side] {
			events |= unix.EPOLLIN | unix.EPOLLRDHUP
		}
		ev := unix.EpollEvent{Events: events, Fd: fd}
		if err := unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, int(fd), &ev); err != nil {
			l.forget(t)
			return false
		}
		l.byFD[fd] = t
	}
	return true
}

// open makes the epoll set and the goroutine that watches it.
func (l *lot) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	// So that os takes it for something to poll, not to block on.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	l.fd, l.epoll = fd, os.NewFile(uintptr(fd), "parked tunnels")
	l.byFD = make(map[int32]*Tunnel)
	l.done = make(chan struct{})
	go l.watch(l.epoll, fd, l.done)
	return nil
}

// remove takes t out. Its descriptors are the caller's.
func (l *lot) remove(t *Tunnel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(t)
}

func (l *lot) forget(t *Tunnel) {
	for _, fd := range t.fds {
		if l.byFD[fd] == t {
			unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, int(fd), nil)
			delete(l.byFD, fd)
		}
	}
}

// watch wakes tunnels until the set is closed.
func (l *lot) watch(epoll *os.File, fd int, done chan<- struct{}) {
	defer close(done)
	raw, err := epoll.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 128)
	n := 0
	for {
		err := raw.Read(func(uintptr) bool {
			n, err = unix.EpollWait(fd, events, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
		if err != nil {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			l.mu.Lock()
			t := l.byFD[ev.Fd]
			l.mu.Unlock()
			if t != nil {
				t.wake()
			}
		}
	}
}

func (l *lot) close() {
	l.mu.Lock()
	l.closed = true
	epoll, done := l.epoll, l.done
	l.mu.Unlock()
	if epoll != nil {
		epoll.Close()
		<-done
	}
}
