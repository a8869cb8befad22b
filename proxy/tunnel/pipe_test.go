package tunnel

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// pouring sends zeros by c until nobody takes them any more.
func pouring(t testing.TB, c *net.TCPConn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 1<<20); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
}

// allReadyAreEmpty fails unless each pipe that lies ready is empty.
func allReadyAreEmpty(t testing.TB, p *Pump) {
	t.Helper()
	for _, pi := range p.pipes.ready {
		n, err := sock.Unread(pi.r)
		require.NoError(t, err)
		assert.Zero(t, n, "bytes of one client in a pipe that another gets")
	}
}

// A pipe with anything in it never serves another client, whatever has ended its
// direction while the receiver took no more.
func TestPipeThatIsNotEmptyIsClosed(t *testing.T) {
	for name, move := range map[string]func(t *testing.T, p *Pump, far *net.TCPConn, src, dst *sock.Conn, slow *net.TCPConn){
		"copy, by a time limit": func(t *testing.T, p *Pump, _ *net.TCPConn, src, dst *sock.Conn, _ *net.TCPConn) {
			require.NoError(t, dst.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
			_, _, err := p.Copy(dst.Blocking(), src.Blocking(), 1<<30, func() {})
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		},
		"copy, by the receiver's reset": func(t *testing.T, p *Pump, _ *net.TCPConn, src, dst *sock.Conn, slow *net.TCPConn) {
			go func() {
				io.CopyN(io.Discard, slow, 8<<20)
				slow.SetLinger(0)
				slow.Close()
			}()
			_, _, err := p.Copy(dst.Blocking(), src.Blocking(), 1<<30, func() {})
			require.Error(t, err)
		},
		"flow": func(t *testing.T, p *Pump, _ *net.TCPConn, src, dst *sock.Conn, _ *net.TCPConn) {
			var f Flow
			p.NewFlow(&f, 1<<30, func() {})
			for progress := Reads; progress != Writes; {
				progress, _, _ = f.Move(bare(t, src), bare(t, dst))
			}
			f.Release()
		},
		"tunnel": func(t *testing.T, p *Pump, _ *net.TCPConn, src, dst *sock.Conn, _ *net.TCPConn) {
			r := &relayed{result: make(chan Result, 1), pump: p}
			p.Start(&r.Tunnel, Side{Conn: src}, Side{Conn: dst}, r)
			for stuck := false; !stuck; {
				r.mu.Lock()
				w := &r.ways[clientSide]
				stuck = w.blocked && w.cargo != nil && w.cargo.inPipe > 0
				r.mu.Unlock()
			}
			require.True(t, r.Cut())
			<-r.result
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPump(t, nil)
			defer p.Close()
			far, src := near(t)
			slow, dst := near(t)
			pouring(t, far)
			move(t, p, far, src, dst, slow)
			allReadyAreEmpty(t, p)
		})
	}
}

// What holds bytes is not taken back, whoever says that it is empty; and in tests one
// that has come to hold bytes while it lay ready is found when it is taken.
func TestPipesAskTheKernel(t *testing.T) {
	var p pipes
	defer p.close()
	write := func(pi *pipe) {
		_, err := unix.Write(pi.w, []byte("secret"))
		require.NoError(t, err)
	}
	full := p.get()
	write(full)
	p.put(full)
	assert.Empty(t, p.ready)
	empty := p.get()
	p.put(empty)
	require.Equal(t, []*pipe{empty}, p.ready)
	write(empty)
	if !checkTaken {
		t.Skip("pipes are looked into when they are taken only in tests with the race detector")
	}
	assert.Panics(t, func() { p.get() })
}
