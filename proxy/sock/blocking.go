package sock

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Blocking is a Conn, a net.Conn, with the methods that wait for the peer. A goroutine that
// has nothing else to do may use it; in an event loop it would hold up all others.
type Blocking struct{ *Conn }

var _ net.Conn = Blocking{}

// Blocking is c as a goroutine of its own may use it.
func (c *Conn) Blocking() Blocking { return Blocking{c} }

// ReadWhenReady calls try, which reads without blocking, until it returns true, and
// waits before each further call until there is something to read.
func (c Blocking) ReadWhenReady(try func(fd uintptr) bool) error {
	return c.whenReady(try, syscall.RawConn.Read)
}

// WriteWhenReady is the same for writing.
func (c Blocking) WriteWhenReady(try func(fd uintptr) bool) error {
	return c.whenReady(try, syscall.RawConn.Write)
}

func (c Blocking) whenReady(try func(fd uintptr) bool, waits func(syscall.RawConn, func(fd uintptr) bool) error) error {
	if fd, ok := c.Bare(); ok && try(uintptr(fd)) {
		return nil
	}
	k, err := c.wait()
	if err != nil {
		return err
	}
	return c.plain(waits(k.raw, try))
}

// Read reads what is there, or waits for it.
func (c Blocking) Read(b []byte) (int, error) {
	if fd, ok := c.Bare(); ok && len(b) > 0 {
		n, err := TryRead(fd, b)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, io.EOF
		case err != unix.EAGAIN:
			return 0, err
		}
	}
	f, err := c.wait()
	if err != nil {
		return 0, err
	}
	n, err := f.Read(b)
	return n, c.plain(err)
}

// Write writes all of b. One goroutine at a time may write.
func (c Blocking) Write(b []byte) (int, error) { return c.WriteTwo(b, nil) }

// WriteTwo writes all of a and b as if b stood behind a.
func (c Blocking) WriteTwo(a, b []byte) (int, error) {
	size := len(a) + len(b)
	c.out, c.out2, c.outErr = a, b, nil
	fd, bare := c.Bare()
	if !bare || !c.tryOut(uintptr(fd)) {
		if k, err := c.wait(); err != nil {
			c.outErr = err
		} else if err := k.raw.Write(c.outFn); err != nil {
			c.outErr = c.plain(err)
		}
	}
	n := size - len(c.out) - len(c.out2)
	c.out, c.out2 = nil, nil
	return n, c.outErr
}

// tryOut is a try of RawConn.Write: it sends what is left to send.
func (c *Conn) tryOut(fd uintptr) bool {
	for len(c.out)+len(c.out2) > 0 {
		n, err := TryWriteTwo(int(fd), c.out, c.out2)
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			c.outErr = err
			return true
		}
		k := min(n, len(c.out))
		c.out, c.out2 = c.out[k:], c.out2[n-k:]
	}
	return true
}

// Wait waits until the handshake that proxy/dial began is over. On an error, also that of
// ctx, the connection is closed.
func (c Blocking) Wait(ctx context.Context) error {
	err := c.connected(ctx)
	if err == nil {
		_, err = c.Connected()
	}
	if err != nil {
		c.Close()
	}
	return err
}

// connected waits until the handshake is over.
func (c Blocking) connected(ctx context.Context) error {
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
