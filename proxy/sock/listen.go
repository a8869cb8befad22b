package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listener is a port that takes clients as Conns. The methods may be called concurrently.
type Listener struct {
	addr netip.AddrPort

	// Room returns the Conn that Take makes of the next client, one that Init takes;
	// nil: Take makes a new one. It is set before the first Take.
	Room func() *Conn

	mu sync.Mutex // held while fd is used
	fd int        // non-blocking; -1: closed
}

// Listen opens a port for clients, whose connections write without delay: the kernel
// hands that option of the listening socket down, so that it costs no system call. The
// error names neither the network nor the address.
func Listen(addr string) (*Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, rc syscall.RawConn) (err error) {
		if e := rc.Control(func(fd uintptr) {
			err = SetInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
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
	defer nl.Close() // l has a descriptor of its own, which the runtime's poller does not know
	l := &Listener{addr: nl.Addr().(*net.TCPAddr).AddrPort()}
	raw, err := nl.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { l.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return l, nil
}

// Inherit takes clients at a port that another program has opened for this one and goes on
// having: who waits there when the Listener is closed is not reset. f may be closed then. The
// error is not to be told from others by its kind.
func Inherit(f *os.File) (*Listener, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	l := &Listener{fd: -1}
	if e := raw.Control(func(fd uintptr) {
		if l.addr, err = ListensAt(int(fd)); err == nil {
			l.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		}
	}); e != nil {
		return nil, e
	}
	if err == nil {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(l.fd, true))
	}
	if err == nil {
		err = SetInt(l.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err != nil {
		if l.fd >= 0 {
			CloseFD(l.fd)
		}
		return nil, err
	}
	return l, nil
}

// ListensAt is the address of a descriptor, if that is a TCP socket which listens.
func ListensAt(fd int) (netip.AddrPort, error) {
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
	} else if on == 0 {
		return netip.AddrPort{}, errors.New("the socket does not listen")
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, errors.New("the socket is of no TCP port")
}

// Addr is where it listens.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Take returns a client that waits already. The error is unix.EAGAIN if there is none, net.ErrClosed
// after Close, or that of the kernel.
func (l *Listener) Take() (*Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return nil, net.ErrClosed
	}
	fd, remote, err := tryAccept(l.fd)
	if err != nil {
		return nil, err
	}
	if l.Room == nil {
		return New(fd, remote), nil
	}
	c := l.Room()
	c.Init(fd, remote)
	return c, nil
}

// Control calls f with the descriptor, which stays open meanwhile. The error is that of f,
// or net.ErrClosed after Close.
func (l *Listener) Control(f func(fd int) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return net.ErrClosed
	}
	return f(l.fd)
}

// Close closes the port. Whoever waits in its queue is reset.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return net.ErrClosed
	}
	err := CloseFD(l.fd)
	l.fd = -1
	return err
}
