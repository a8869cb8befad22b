package sock

import (
	"os"

	"golang.org/x/sys/unix"
)

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
	if c.local = LocalName(fd); c.local == c.remote {
		return true, os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	return true, nil
}
