package tunnel

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Cut ends the tunnel now, as one whose time has passed: its connections are
// closed, not reset. It reports false if there was nothing to end.
func (t *Tunnel) Cut() bool {
	end := t.cut(os.ErrDeadlineExceeded)
	end.finish()
	return end.hooks != nil
}

// Look says how many tunnels t has been, with what it is.
func (t *Tunnel) Look() uint64 { return t.lives.Load() }

// Abandon ends that tunnel, whose service has panicked: both sides are reset.
func (t *Tunnel) Abandon(of uint64) { t.cutIf(of, ErrAbandoned).finish() }

func (t *Tunnel) cutIf(of uint64, err error) ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lives.Load() != of {
		return ending{}
	}
	return t.cutNow(err)
}

func (t *Tunnel) cut(err error) ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cutNow(err)
}

// cutNow is cut; t.mu is held.
func (t *Tunnel) cutNow(err error) ending {
	if !t.running {
		return ending{}
	}
	if t.fail(err); err == ErrAbandoned {
		t.err, t.reset = err, true
	}
	return t.end()
}

// ending is what the owner is told when t.mu is unlocked. Its zero value is that there is
// nothing to tell.
type ending struct {
	hooks Hooks
	res   Result
}

func (e ending) finish() {
	if e.hooks != nil {
		e.hooks.Ended(e.res)
	}
}

// end closes the connections. t.mu is held.
func (t *Tunnel) end() ending {
	t.running = false
	if t.err != ErrAbandoned { // by which the owner may have panicked
		t.tell()
	}
	for i := range t.ways {
		t.ways[i].release(t.pump)
	}
	t.dropOpening()
	for side, fd := range t.fds {
		if fd < 0 {
			continue
		}
		if l := t.loops[side]; l != nil {
			l.DropHandler(int(fd), t)
		}
		if t.reset {
			sock.SetReset(int(fd))
		}
		sock.CloseFD(int(fd))
	}
	return ending{t.hooks, Result{Up: t.ways[clientSide].moved, Down: t.ways[upstreamSide].moved, Err: t.err}}
}

// ended names the ways in which a peer breaks a connection by one error.
func ended(err error) error {
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return ErrReset
	}
	return err
}
