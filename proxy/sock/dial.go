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
	c := new(Conn)
	connecting, err := Begin(c, source, dst)
	if connecting {
		err = c.Wait(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Begin is Dial without waiting, for a Conn as Init takes it: connecting says
// that the handshake is under way. Then it is over when the descriptor takes bytes, which
// Connected must be asked about, or Wait, before anything else is done with the
// connection.
func Begin(c *Conn, source netip.Addr, dst netip.AddrPort) (connecting bool, err error) {
	family := unix.AF_INET
	if dst.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := socket(family)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	c.Init(fd, dst)
	over := false
	if err = c.begin(source); err == nil {
		over, err = c.Connected() // as it is by now on the same node
	}
	if err != nil {
		c.Close()
		return false, err
	}
	return !over, nil
}

// Wait waits until the handshake that Begin began is over. On an error, also that of
// ctx, the connection is closed.
func (c *Conn) Wait(ctx context.Context) error {
	err := c.connected(ctx)
	if err == nil {
		_, err = c.Connected()
	}
	if err != nil {
		c.Close()
	}
	return err
}

// begin makes the socket what it is to be, and begins the handshake.
func (c *Conn) begin(source netip.Addr) error {
	fd := int(c.fd.Load())
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
		return nil
	default:
		return os.NewSyscallError("connect", err)
	}
}

// Connected reports whether the handshake that Begin began is over, or has failed.
func (c *Conn) Connected() (over bool, err error) {
	if fd, ok := c.Bare(); ok {
		return c.settle(fd)
	}
	return c.connectedFile()
}

// connectedFile is Connected for a connection that the runtime knows.
func (c *Conn) connectedFile() (over bool, err error) {
	if e := c.Control(func(fd uintptr) { over, err = c.settle(int(fd)) }); e != nil {
		return false, e
	}
	return over, err
}

func (c *Conn) settle(fd int) (over bool, err error) {
	switch pollOut(fd) {
	case 0:
		return false, nil
	case unix.POLLOUT: // and no error is to be reported
	default:
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && n != 0 {
			err = unix.Errno(n)
		}
		if err != nil {
			return true, os.NewSyscallError("connect", err)
		}
	}
	// The kernel may choose the very port that is called, when nobody listens there.
	if c.local = localName(fd); c.local == c.remote {
		return true, os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	return true, nil
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
	err = c.plain(f.raw.Write(func(fd uintptr) bool { return pollOut(int(fd)) != 0 }))
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
