package sock

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Wait waits until the handshake that proxy/dial began is over. On an error, also that of
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

// Connected reports whether the handshake that proxy/dial began is over, or has failed.
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
