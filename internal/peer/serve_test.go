package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// running is a Server at a socket.
type running struct {
	*Server
	path string
	end  context.CancelFunc
	done chan error
}

func run(t *testing.T, s *Server) *running {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	require.NoError(t, err)
	return runOn(t, s, l, path)
}

func runOn(t *testing.T, s *Server, l net.Listener, path string) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{s, path, cancel, make(chan error, 1)}
	go func() { r.done <- s.Run(ctx, l) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", r.path)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}

// ended waits for the end of what c is connected to.
func ended(t *testing.T, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	assert.Zero(t, n)
	assert.True(t, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), "%v", err)
}

// At the end of its context a server lets nobody in, closes what is open, and returns when the
// last one has.
func TestServerEnds(t *testing.T) {
	in, out := make(chan struct{}, 2), make(chan struct{})
	r := run(t, &Server{Serve: func(ctx context.Context, c net.Conn) {
		in <- struct{}{}
		io.Copy(c, c) // until it is closed
		<-ctx.Done()
		<-out
	}})
	a, b := r.dial(t), r.dial(t)
	<-in
	<-in
	io.WriteString(a, "x")
	_, err := io.ReadFull(a, make([]byte, 1))
	require.NoError(t, err)
	r.end()
	ended(t, a)
	ended(t, b)
	_, err = net.Dial("unix", r.path)
	require.Error(t, err)
	select {
	case <-r.done:
		t.Fatal("it has returned, and two are there")
	default:
	}
	close(out)
	require.NoError(t, <-r.done)
}

// A connection ends with what serves it; there are so many places, and one that has ended has
// made room.
func TestServerPlaces(t *testing.T) {
	full, out := make(chan struct{}, 1), make(chan struct{})
	r := run(t, &Server{Most: 2, Full: func() { full <- struct{}{} }, Serve: func(_ context.Context, c net.Conn) {
		io.WriteString(c, "x")
		<-out
	}})
	in := func() net.Conn {
		c := r.dial(t)
		_, err := io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
		return c
	}
	a := in()
	in()
	ended(t, r.dial(t))
	<-full
	out <- struct{}{}
	ended(t, a)
	in()
	close(out)
	r.end()
	require.NoError(t, <-r.done)
}

// refusing is a listener that cannot accept at first.
type refusing struct {
	net.Listener
	errs []error
}

func (l *refusing) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, &net.OpError{Op: "accept", Err: err}
	}
	return l.Listener.Accept()
}

// What passes is no end; what does not, is.
func TestServerErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	require.NoError(t, err)
	r := runOn(t, &Server{Serve: func(context.Context, net.Conn) {}}, &refusing{l, []error{syscall.EMFILE, syscall.ECONNABORTED}}, path)
	ended(t, r.dial(t))
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-r.done, net.ErrClosed)
}
