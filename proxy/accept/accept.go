// Package accept takes clients from a listener: it outlives what the kernel refuses
// for a while, and closes without resetting those who wait.
package accept

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Loop hands each client of l to serve, which must not block, until Stop was called
// on l and closing reports true. It closes l, having taken the clients that the
// kernel had accepted by then. It returns nil then or when ctx ends, and an error
// when somebody else closed l. After any other error (no descriptor is left, say) it
// tells retry, waits for a moment, and goes on.
func Loop(ctx context.Context, l *sock.Listener, closing func() bool, serve func(*sock.Conn), retry func(err error, in time.Duration)) error {
	defer l.Close()
	var wait time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			serve(c)
		case closing():
			// Those whom the kernel has accepted already: closing would reset them.
			for c := l.Pending(); c != nil; c = l.Pending() {
				serve(c)
			}
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
func Stop(l *sock.Listener) { l.SetDeadline(time.Unix(1, 0)) }

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
