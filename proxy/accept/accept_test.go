package accept

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) *sock.Listener {
	l, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l *sock.Listener) net.Conn {
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func never(t *testing.T) func(error, time.Duration) {
	return func(err error, _ time.Duration) { t.Errorf("retried after %v", err) }
}

// run runs a until its end, which wait waits for.
func run(t *testing.T, ctx context.Context, a *Acceptor) (wait func() error) {
	loops := new(poll.Loops)
	t.Cleanup(loops.Close)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, loops) }()
	return func() error { return <-done }
}

// Whoever has connected before Stop is served, though nobody had taken it.
func TestStopTakesWhoWaits(t *testing.T) {
	l := listen(t)
	const many = 2*turn + 1
	served := 0
	a := New(l, func(_ *poll.Loop, c *sock.Conn) {
		served++
		c.Close()
	}, never(t))
	for range many {
		dial(t, l)
	}
	a.Stop()
	require.NoError(t, run(t, t.Context(), a)())
	assert.Equal(t, many, served)
	_, err := net.Dial("tcp", l.Addr().String())
	assert.ErrorIs(t, err, syscall.ECONNREFUSED, "the listener is closed")
	a.Stop()
}

// The loop takes who waits already, however many, and who comes later.
func TestLoopTakesAll(t *testing.T) {
	l := listen(t)
	served := make(chan bool, 4*turn)
	a := New(l, func(on *poll.Loop, c *sock.Conn) {
		served <- on != nil
		c.Close()
	}, never(t))
	const many = 2*turn + 1
	for range many {
		dial(t, l)
	}
	wait := run(t, t.Context(), a)
	for range many {
		assert.True(t, <-served)
	}
	dial(t, l)
	assert.True(t, <-served)
	a.Stop()
	require.NoError(t, wait())
}

// Others in the loop have their turn while clients stream in.
func TestTurns(t *testing.T) {
	l := listen(t)
	var served, before atomic.Int32
	all := make(chan struct{})
	const many = turn + 1
	a := New(l, func(on *poll.Loop, c *sock.Conn) {
		c.Close()
		if served.Add(1) == 1 {
			on.Later(task(func() { before.Store(served.Load()) }))
		}
		if served.Load() == many {
			close(all)
		}
	}, never(t))
	for range many {
		dial(t, l)
	}
	wait := run(t, t.Context(), a)
	<-all
	a.Stop()
	require.NoError(t, wait())
	assert.EqualValues(t, turn, before.Load())
}

type task func()

func (f task) Do(*poll.Loop) { f() }

func TestClosedBefore(t *testing.T) {
	l := listen(t)
	l.Close()
	nobody := func(*poll.Loop, *sock.Conn) {}
	assert.ErrorIs(t, run(t, t.Context(), New(l, nobody, never(t)))(), net.ErrClosed)
	loops := new(poll.Loops)
	loops.Close()
	l = listen(t)
	assert.ErrorIs(t, New(l, nobody, never(t)).Run(t.Context(), loops), net.ErrClosed)
	assert.ErrorIs(t, l.Close(), net.ErrClosed, "it is closed in any case")
}

// The end of the context ends it without serving anybody.
func TestContextEnds(t *testing.T) {
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := New(l, func(_ *poll.Loop, c *sock.Conn) { c.Close() }, never(t))
	require.NoError(t, run(t, ctx, a)())
	_, err := net.Dial("tcp", l.Addr().String())
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// What passes is waited for, longer each time; a client that is served ends that. A socket
// that does not listen for a while is an example.
func TestRetries(t *testing.T) {
	l := listen(t)
	socket := func(do func(fd int) error) { require.NoError(t, l.Control(do)) }
	deaf := func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) }
	addr := make(chan net.Addr, 1)
	hears := func(fd int) error {
		err := unix.Listen(fd, 10)
		name, _ := unix.Getsockname(fd)
		in := name.(*unix.SockaddrInet4)
		addr <- &net.TCPAddr{IP: in.Addr[:], Port: in.Port} // another than before
		return err
	}
	var waits []time.Duration
	served := make(chan struct{})
	var a *Acceptor
	a = New(l, func(_ *poll.Loop, c *sock.Conn) {
		c.Close()
		served <- struct{}{}
	}, func(err error, in time.Duration) {
		assert.Equal(t, unix.EINVAL, err)
		waits = append(waits, in)
		switch len(waits) {
		case 3:
			socket(hears)
		case 4:
			a.Stop()
		}
	})
	socket(deaf)
	wait := run(t, t.Context(), a)
	c, err := net.Dial("tcp", (<-addr).String())
	require.NoError(t, err)
	defer c.Close()
	<-served
	socket(deaf)
	require.NoError(t, wait())
	assert.Equal(t, []time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 5 * time.Millisecond}, waits)
}
