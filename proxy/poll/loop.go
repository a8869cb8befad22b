// Package poll tells of the readiness of many sockets by a few goroutines.
//
// A loop is one goroutine with an epoll(7) instance, which is itself waited for by the
// runtime's poller: no thread blocks in it. A descriptor is registered with a handler and
// an interest: which events are to be told of it. What they mean is the handler's business;
// the handlers of a loop are called one after the other, and must not block.
//
// Events are edge-triggered: one is told when a descriptor becomes ready, or when more
// comes of what it is ready for, and not again for as long as it stays so. To register and
// to rearm count as such a change: what the descriptor is ready for then is told.
package poll

import (
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Handler is told what a descriptor is ready for.
type Handler interface {
	// Ready is told which events (unix.EPOLLIN …) of fd have come since the last
	// time. They are hints to try, not more: those of a descriptor that was closed
	// meanwhile may come to whoever has its number now. l is the loop that calls.
	Ready(l *Loop, fd int, events uint32)
}

// Task is work that a handler puts off.
type Task interface{ Do(l *Loop) }

// always are the flags of every interest: the peer has ended its half, there is urgent
// data, at whose mark a read stops short, and all that edge-triggered. EPOLLHUP and EPOLLERR
// are told unasked.
const always = unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET

// Interest is which events are told of a descriptor, beside an end and an error, which
// always are. The zero Interest: nothing else.
type Interest uint32

// What may be of interest; they may be combined.
const (
	Readable Interest = unix.EPOLLIN  // there is something to read
	Writable Interest = unix.EPOLLOUT // it takes bytes, or its handshake is over
)

// bufferSize is the size of a loop's buffer, of which half may be kept for a round.
const bufferSize = 64 << 10

// Loops are as many loops as there are processors, made when they are needed. The
// zero value is ready for use; the methods may be called concurrently.
type Loops struct {
	// Report is told of panics in handlers and tasks; set it before the first Next.
	Report contain.Reporter

	mu     sync.Mutex
	loops  []*Loop
	apart  *Loop
	next   int
	closed bool
}

// Next returns the loop whose turn it is to get another socket.
func (ls *Loops) Next() (*Loop, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return nil, net.ErrClosed
	}
	ls.next++
	if most := runtime.GOMAXPROCS(0); len(ls.loops) < most {
		l, err := newLoop(ls.Report)
		if err == nil {
			ls.loops = append(ls.loops, l)
			return l, nil
		}
		if len(ls.loops) == 0 {
			return nil, err
		}
	}
	return ls.loops[ls.next%len(ls.loops)], nil
}

// Apart returns a loop for what shall not wait for the sockets of the others: it has a turn
// of its own where there are several processors, and is the only loop where there is one.
func (ls *Loops) Apart() (*Loop, error) {
	if runtime.GOMAXPROCS(0) == 1 {
		return ls.Next()
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return nil, net.ErrClosed
	}
	if ls.apart == nil {
		l, err := newLoop(ls.Report)
		if err != nil {
			return nil, err
		}
		ls.apart = l
	}
	return ls.apart, nil
}

// Close ends the loops, and returns when no handler runs any more. What is still in
// them is told of nothing.
func (ls *Loops) Close() {
	ls.mu.Lock()
	loops := ls.loops
	if ls.apart != nil {
		loops = append(loops, ls.apart)
	}
	ls.loops, ls.apart, ls.closed = nil, nil, true
	ls.mu.Unlock()
	for _, l := range loops {
		l.epoll.Close()
		<-l.done
	}
}

// Loop is one of Loops. Register, SetHandler, Adopt, Rearm, Deregister and DropHandler may be
// called concurrently.
type Loop struct {
	epoll  *os.File
	fd     int
	done   chan struct{}
	report contain.Reporter

	mu   sync.Mutex
	byFD []Handler // whom an event is for

	buf  []byte
	used int // of buf, in this round

	later, spare []Task
	tasks        bool // are being done
}

func newLoop(report contain.Reporter) (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// So that os takes it for something to poll, not to block on.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &Loop{fd: fd, epoll: os.NewFile(uintptr(fd), "events"), done: make(chan struct{})}
	l.buf, l.report = make([]byte, bufferSize), report
	go l.run()
	return l, nil
}

// Register has h told what fd is ready for, as far as that is of interest, until Deregister
// or the close of fd.
func (l *Loop) Register(fd int, h Handler, in Interest) error {
	l.SetHandler(fd, h)
	if err := l.ctl(unix.EPOLL_CTL_ADD, fd, in); err != nil {
		l.DropHandler(fd, h)
		return err
	}
	return nil
}

func (l *Loop) ctl(op, fd int, in Interest) error {
	ev := unix.EpollEvent{Events: always | uint32(in), Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", sock.EpollCtl(l.fd, op, fd, &ev))
}

// SetHandler has h told in place of whoever was before, of the same. An event on its way
// may still come to that one.
func (l *Loop) SetHandler(fd int, h Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fd >= len(l.byFD) {
		l.byFD = append(l.byFD, make([]Handler, max(1024, fd+1-len(l.byFD), len(l.byFD)))...)
	}
	l.byFD[fd] = h
}

// Adopt is SetHandler for one who knows nothing of fd yet and wants to read: it is rearmed
// too.
func (l *Loop) Adopt(fd int, h Handler) error {
	l.SetHandler(fd, h)
	return l.Rearm(fd, Readable)
}

// Rearm changes the interest in fd, which is registered, or leaves it as it is: in both cases
// what fd is ready for now is told again.
func (l *Loop) Rearm(fd int, in Interest) error { return l.ctl(unix.EPOLL_CTL_MOD, fd, in) }

// Deregister has nothing told of fd any more, which stays open. It does nothing when another than
// h is told: then fd was closed meanwhile, and its number is another's now.
func (l *Loop) Deregister(fd int, h Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drop(fd, h) {
		l.ctl(unix.EPOLL_CTL_DEL, fd, 0) // before Register can have another told
	}
}

// DropHandler is called before fd is closed: that deregisters it. It does nothing when another
// than h is told.
func (l *Loop) DropHandler(fd int, h Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(fd, h)
}

// drop reports whether h was told of fd. l.mu is held.
func (l *Loop) drop(fd int, h Handler) bool {
	if fd >= len(l.byFD) || l.byFD[fd] != h {
		return false
	}
	l.byFD[fd] = nil
	return true
}

func (l *Loop) find(fd int32) Handler {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byFD[fd]
}

// Buf is a buffer of 32 KiB or more for a handler or task while it runs.
func (l *Loop) Buf() []byte { return l.buf[l.used:] }

// Keep has the first n bytes of Buf stay as they are until the tasks at hand are done.
// It reports false, and does not, when there is no room, or those are being done.
func (l *Loop) Keep(n int) bool {
	if l.tasks || l.used+n > bufferSize/2 {
		return false
	}
	l.used += n
	return true
}

// Later has t done when all events that are at hand have been told. It is for handlers
// and tasks.
func (l *Loop) Later(t Task) { l.later = append(l.later, t) }

// run tells of events until the set is closed.
func (l *Loop) run() {
	defer close(l.done)
	raw, err := l.epoll.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 256)
	// One call for all: what comes between two looks at the set wakes the wait, which
	// would forget it between two calls.
	raw.Read(func(uintptr) (broken bool) {
		for {
			n, err := sock.EpollPoll(l.fd, events)
			if n < 0 && err != unix.EINTR {
				return true
			}
			for i := range max(n, 0) {
				if h := l.find(events[i].Fd); h != nil {
					l.tell(h, int(events[i].Fd), events[i].Events)
				}
			}
			l.doLater()
			if n >= 0 && n < len(events) && len(l.later) == 0 {
				return false
			}
		}
	})
}

// doLater does what was put off until now. What that puts off comes after another look
// at the events, so that nobody waits for whoever has most to do.
func (l *Loop) doLater() {
	if len(l.later) == 0 {
		return
	}
	l.later, l.spare = l.spare[:0], l.later
	l.tasks = true
	for i, t := range l.spare {
		l.do(t)
		l.spare[i] = nil
	}
	l.used, l.tasks = 0, false
	if len(l.later) > 0 {
		runtime.Gosched() // what waits for this processor comes first
	}
}
