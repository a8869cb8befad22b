package sock

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to dst from source; an invalid one leaves the choice to the kernel.
// Small writes are not held back (TCP_NODELAY). The error is that of the kernel, or
// of ctx, which bounds the whole.
//
// The port is chosen by connect(2), which may use one port towards many
// destinations, so that a source carries more than 28,000 connections.
func Dial(ctx context.Context, source netip.Addr, dst netip.AddrPort) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	family := unix.AF_INET
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := socket(family)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := New(fd, dst)
	if err := c.connect(ctx, source); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) connect(ctx context.Context, source netip.Addr) error {
	fd := c.fd
	if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if source.IsValid() {
		if err := setInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		if err := bind(fd, netip.AddrPortFrom(source, 0)); err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	switch err := tryConnect(fd, c.remote); err {
	case nil, unix.EINPROGRESS, unix.EINTR: // interrupted, it goes on all the same
	default:
		return os.NewSyscallError("connect", err)
	}
	// On the same node the handshake is over by now.
	switch pollOut(fd) {
	case unix.POLLOUT: // and no error is to be reported
	case 0:
		if err := c.connected(ctx); err != nil {
			return err
		}
		fallthrough
	default:
		if err := c.problem(); err != nil {
			return os.NewSyscallError("connect", err)
		}
	}
	// The kernel may choose the very port that is called, when nobody listens there.
	if fd, bare := c.Bare(); bare {
		c.local = localName(fd)
	} else {
		c.local = c.askLocal()
	}
	if c.local == c.remote {
		return os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	return nil
}

// problem returns the error that the socket has to report.
func (c *Conn) problem() error {
	var n int
	var err error
	if e := c.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) }); e != nil {
		return e
	}
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	return err
}

// connected waits until the handshake is over.
func (c *Conn) connected(ctx context.Context) error {
	f, err := c.wait()
	if err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok {
		f.SetWriteDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })
	err = c.plain(c.raw.Write(func(fd uintptr) bool { return pollOut(int(fd)) != 0 }))
	if !stop() || errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() == context.Canceled {
			return context.Canceled
		}
		return os.ErrDeadlineExceeded
	}
	if err != nil {
		return err
	}
	return f.SetWriteDeadline(time.Time{})
}
