// Package accept takes clients from a listener: it outlives what the kernel refuses
// for a while, and closes without resetting those who wait.
package accept

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Loop hands each client of l to serve, which must not block, until Stop was called
// on l and closing reports true. It closes l, having taken the clients that the
// kernel had accepted by then. It returns nil then or when ctx ends, and an error
// when somebody else closed l. After any other error (no descriptor is left, say) it
// tells retry, waits for a moment, and goes on.
func Loop(ctx context.Context, l *net.TCPListener, closing func() bool, serve func(*net.TCPConn), retry func(err error, in time.Duration)) error {
	defer l.Close()
	var wait time.Duration
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			wait = 0
			serve(c)
		case closing():
			pending(l, serve)
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case errors.Is(err, syscall.ECONNABORTED):
		default:
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			retry(err, wait)
			if !pause(ctx, wait) {
				return nil
			}
		}
	}
}

// Stop makes Loop look whether it is to end.
func Stop(l *net.TCPListener) { l.SetDeadline(time.Unix(1, 0)) }

// pending takes the clients that the kernel has accepted already: closing the
// listener would reset them.
func pending(l *net.TCPListener, serve func(*net.TCPConn)) {
	raw, err := l.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			f := os.NewFile(uintptr(n), "client")
			c, err := net.FileConn(f)
			f.Close()
			if err == nil {
				serve(c.(*net.TCPConn))
			}
		}
	})
}

// pause waits, and reports false when ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
