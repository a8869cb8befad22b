// Package accept takes clients from a listener: it outlives what the kernel refuses
// for a while, and closes without resetting those who wait.
package accept

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// turn is how many clients are taken before the others in the loop have theirs.
const turn = 64

// Acceptor takes clients from one listener. Make it with New.
type Acceptor struct {
	listener *sock.Listener
	serve    func(*poll.Loop, *sock.Conn)
	retry    func(error, time.Duration)

	once    sync.Once
	stopped chan struct{}
	failed  chan error

	mu      sync.Mutex // held while clients are taken
	resting bool       // none are, for a while or for good
	taken   bool       // a client, since the last error
}

// New returns an Acceptor of the clients of l. serve begins to serve one, and must not
// block; it is told the loop that calls, nil for those who are taken after Stop, and
// returns before it is called again. retry is told why no client can be taken for now (no
// descriptor is left, say), and in how much time the next attempt follows.
func New(l *sock.Listener, serve func(*poll.Loop, *sock.Conn), retry func(error, time.Duration)) *Acceptor {
	return &Acceptor{
		listener: l, serve: serve, retry: retry,
		stopped: make(chan struct{}), failed: make(chan error, 1),
	}
}

// Run has clients taken by the loop that loops have apart, until Stop or the end of ctx, and
// closes the listener. After Stop it takes those whom the kernel had accepted by then: closing
// would reset them. The error says that the listener is closed already, or that the kernel
// has no events for it.
func (a *Acceptor) Run(ctx context.Context, loops *poll.Loops) error {
	defer a.listener.Close()
	l, err := loops.Apart()
	if err != nil {
		return err
	}
	if err := a.listener.Control(func(fd int) error { return l.Register(fd, a, poll.Readable) }); err != nil {
		return err
	}
	var wait time.Duration
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			a.end(l, false)
			return nil
		case <-a.stopped:
			a.end(l, true)
			return nil
		case err := <-a.failed:
			if wait = min(max(2*wait, 5*time.Millisecond), time.Second); a.hasTaken() {
				wait = 5 * time.Millisecond
			}
			a.retry(err, wait)
			again = time.After(wait)
		case <-again:
			a.wakeUp()
			if err := a.listener.Control(func(fd int) error { return l.Adopt(fd, a) }); err != nil {
				return err
			}
		}
	}
}

// Stop has Run end. It may be called at any time, and more than once.
func (a *Acceptor) Stop() { a.once.Do(func() { close(a.stopped) }) }

// end has no more clients taken by l; rest says to take those who wait.
func (a *Acceptor) end(l *poll.Loop, rest bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resting = true
	a.listener.Control(func(fd int) error {
		l.Deregister(fd, a)
		return nil
	})
	for rest {
		c, err := a.listener.Take()
		if err != nil && !passing(err) {
			return
		}
		if err == nil {
			a.serve(nil, c)
		}
	}
}

// wakeUp ends the rest after an error.
func (a *Acceptor) wakeUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resting = false
}

func (a *Acceptor) hasTaken() (taken bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken, a.taken = a.taken, false
	return taken
}

// Ready is for the loop: clients have come.
func (a *Acceptor) Ready(l *poll.Loop, _ int, _ uint32) { a.Do(l) }

// Do is for the loop: the others have had their turn.
func (a *Acceptor) Do(l *poll.Loop) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.resting {
		return
	}
	for range turn {
		c, err := a.listener.Take()
		switch {
		case err == nil:
			a.taken = true
			a.serve(l, c)
		case err == unix.EAGAIN: // an event will tell
			return
		case !passing(err):
			a.resting = true
			a.failed <- err // which has room: it was empty, or nobody would have looked again
			return
		}
	}
	l.Later(a)
}

// passing reports whether err is of one client alone, who has gone by now.
func passing(err error) bool { return errors.Is(err, unix.ECONNABORTED) }
