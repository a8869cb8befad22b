package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is a port that takes clients as Conns. One goroutine at a time accepts;
// the other methods may be called concurrently with it.
type Listener struct {
	file   *os.File
	raw    syscall.RawConn
	addr   netip.AddrPort
	closed atomic.Bool

	// Room returns the Conn that Accept makes of the next client, one that Init takes;
	// nil: Accept makes a new one. It is set before the first Accept.
	Room func() *Conn

	step   func(fd uintptr) bool // accept, bound once
	fd     int                   // what it got
	remote netip.AddrPort
	err    error
}

// Listen opens a port for clients, whose connections write without delay: the kernel
// hands that option of the listening socket down, so that it costs no system call. The
// error names neither the network nor the address.
func Listen(addr string) (*Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, rc syscall.RawConn) (err error) {
		if e := rc.Control(func(fd uintptr) {
			err = setInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}); e != nil {
			return e
		}
		return err
	}}
	lc.SetMultipathTCP(false) // plain sockets, which splice and Landlock know
	nl, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return nil, err
	}
	defer nl.Close() // l has a descriptor of its own: net would accept net.TCPConns
	l := &Listener{addr: nl.Addr().(*net.TCPAddr).AddrPort()}
	if l.file, err = nl.(*net.TCPListener).File(); err != nil {
		return nil, err
	}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		l.file.Close()
		return nil, err
	}
	l.step = func(fd uintptr) bool { return l.accept(int(fd)) != unix.EAGAIN }
	return l, nil
}

// Addr is where it listens.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Accept waits for a client. The error is that of the kernel, or
// os.ErrDeadlineExceeded when the deadline has passed, or net.ErrClosed.
func (l *Listener) Accept() (*Conn, error) {
	if err := l.raw.Read(l.step); err != nil {
		if l.closed.Load() {
			err = net.ErrClosed
		}
		return nil, err
	}
	if l.err != nil {
		return nil, l.err
	}
	return l.client(), nil
}

// Pending returns a client that waits already, or nil.
func (l *Listener) Pending() *Conn {
	l.err = net.ErrClosed
	l.raw.Control(func(fd uintptr) { l.accept(int(fd)) })
	if l.err != nil {
		return nil
	}
	return l.client()
}

func (l *Listener) client() *Conn {
	if l.Room == nil {
		return New(l.fd, l.remote)
	}
	c := l.Room()
	c.Init(l.fd, l.remote)
	return c
}

func (l *Listener) accept(fd int) error {
	l.fd, l.remote, l.err = tryAccept(fd)
	return l.err
}

// SetDeadline bounds Accept, also one that waits already; the zero time lifts the
// bound.
func (l *Listener) SetDeadline(t time.Time) error { return l.file.SetReadDeadline(t) }

// Close closes the port. An Accept that waits ends. Whoever waits in its queue is
// reset.
func (l *Listener) Close() error {
	if l.closed.Swap(true) {
		return net.ErrClosed
	}
	return l.file.Close()
}
