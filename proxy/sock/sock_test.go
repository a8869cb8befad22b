package sock_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t testing.TB, addr string) (*sock.Listener, netip.AddrPort) {
	t.Helper()
	l, err := sock.Listen(addr)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l, l.Addr()
}

// pair returns a sock.Conn and its far end, which gives up after a while.
func pair(t testing.TB) (sock.Blocking, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := dial.TCP(t.Context(), netip.Addr{}, l.Addr().(*net.TCPAddr).AddrPort())
	require.NoError(t, err)
	accepted, err := l.Accept()
	require.NoError(t, err)
	far := accepted.(*net.TCPConn)
	require.NoError(t, far.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { c.Close(); far.Close() })
	return c.Blocking(), far
}

// both runs f with a bare connection and with one that the runtime knows.
func both(t *testing.T, f func(t *testing.T, c sock.Blocking, far *net.TCPConn)) {
	for name, shared := range map[string]bool{"bare": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			c, far := pair(t)
			if shared {
				c.Share()
			}
			_, bare := c.Bare()
			require.Equal(t, !shared, bare)
			f(t, c, far)
		})
	}
}

func TestReadAndWrite(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		_, err := c.Write([]byte("question"))
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		got, err := io.ReadAll(far)
		require.NoError(t, err)
		assert.Equal(t, "question", string(got))
		go func() { // the reader has to wait
			far.Write([]byte("answer"))
			far.Close()
		}()
		got, err = io.ReadAll(c)
		require.NoError(t, err)
		assert.Equal(t, "answer", string(got))
	})
}

// More than the kernel takes at once goes out whole.
func TestWriteWaits(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		b := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		go func() {
			n, err := c.Write(b)
			assert.NoError(t, err)
			assert.Equal(t, len(b), n)
			c.Close()
		}()
		got, err := io.ReadAll(far)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(b, got))
	})
}

// Two buffers go out as one, whatever the kernel takes at a time.
func TestWriteTwo(t *testing.T) {
	head, body := []byte("head"), bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	for _, parts := range [][2][]byte{{head, body}, {body, head}, {body, body}, {head, nil}, {nil, body}, {nil, nil}} {
		both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
			go func() {
				n, err := c.WriteTwo(parts[0], parts[1])
				assert.NoError(t, err)
				assert.Equal(t, len(parts[0])+len(parts[1]), n)
				c.Close()
			}()
			got, err := io.ReadAll(far)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(slices.Concat(parts[0], parts[1]), got))
		})
	}
}

func TestSteps(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		go far.Write([]byte("x"))
		var b [8]byte
		n := 0
		require.NoError(t, c.ReadWhenReady(func(fd uintptr) bool {
			var err error
			n, err = unix.Read(int(fd), b[:])
			return err != unix.EAGAIN
		}))
		assert.Equal(t, "x", string(b[:n]))
		require.NoError(t, c.WriteWhenReady(func(fd uintptr) bool {
			_, err := unix.Write(int(fd), []byte("y"))
			return err != unix.EAGAIN
		}))
		_, err := io.ReadFull(far, b[:1])
		require.NoError(t, err)
		assert.Equal(t, "y", string(b[:1]))
	})
}

func TestResets(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		c.ResetOnClose()
		require.NoError(t, c.Close())
		_, err := far.Read(make([]byte, 1))
		assert.ErrorIs(t, err, syscall.ECONNRESET)
	})
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		far.SetLinger(0)
		far.Close()
		_, err := c.Read(make([]byte, 1))
		assert.Equal(t, syscall.ECONNRESET, err, "nothing stands around the kernel's error")
		_, err = c.Write([]byte("x"))
		assert.Equal(t, syscall.EPIPE, err)
	})
}

// A deadline that is set from outside wakes a reader, and holds for one that comes
// later, bare as the connection may have been.
func TestDeadline(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		go c.SetDeadline(time.Unix(1, 0))
		_, err := c.Read(make([]byte, 1))
		assert.Equal(t, os.ErrDeadlineExceeded, err)
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		_, err = c.Write([]byte("x"))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, c.SetWriteDeadline(time.Time{}))
		_, err = c.Write([]byte("x"))
		assert.NoError(t, err)
	})
}

func TestClosed(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		require.NoError(t, c.Close())
		_, err := c.Read(make([]byte, 1))
		assert.Equal(t, net.ErrClosed, err)
		_, err = c.Write([]byte("x"))
		assert.Equal(t, net.ErrClosed, err)
		assert.Equal(t, net.ErrClosed, c.Close())
		assert.Equal(t, net.ErrClosed, c.SetDeadline(time.Time{}))
		assert.Equal(t, net.ErrClosed, c.ReadWhenReady(func(uintptr) bool { t.Error("called"); return true }))
		assert.Equal(t, net.ErrClosed, c.WriteWhenReady(func(uintptr) bool { t.Error("called"); return true }))
		assert.Equal(t, net.ErrClosed, c.Control(func(uintptr) { t.Error("called") }))
		assert.Equal(t, net.ErrClosed, c.CloseWrite())
		_, err = c.Detach()
		assert.Equal(t, net.ErrClosed, err)
	})
}

// Closing wakes a reader.
func TestCloseWakes(t *testing.T) {
	c, _ := pair(t)
	c.Share()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := c.Read(make([]byte, 1))
		assert.Equal(t, net.ErrClosed, err)
	})
	c.Close()
	wg.Wait()
}

// What was detached lives on, and the sock.Conn has no hold on it.
func TestDetach(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		fd, err := c.Detach()
		require.NoError(t, err)
		assert.Equal(t, net.ErrClosed, c.Close())
		_, err = unix.Write(fd, []byte("x"))
		require.NoError(t, err)
		var b [1]byte
		_, err = io.ReadFull(far, b[:])
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
		_, err = far.Read(b[:])
		assert.Equal(t, io.EOF, err)
	})
}

// The connection comes from the source, and without a port being bound before it
// is known where to.
func TestDialSource(t *testing.T) {
	for _, tt := range []struct{ listen, source, want string }{
		{"127.0.0.1:0", "", "127.0.0.1"}, {"127.0.0.1:0", "127.0.0.2", "127.0.0.2"},
		{"[::1]:0", "", "::1"}, {"[::1]:0", "::1", "::1"},
	} {
		l, addr := listen(t, tt.listen)
		var source netip.Addr
		if tt.source != "" {
			source = netip.MustParseAddr(tt.source)
		}
		c, err := dial.TCP(t.Context(), source, addr)
		require.NoError(t, err)
		far := take(t, l)
		assert.Equal(t, tt.want, far.Remote().Addr().String())
		assert.Equal(t, c.Local(), far.Remote())
		assert.Equal(t, c.Remote(), far.Local())
		assert.Equal(t, addr.String(), c.RemoteAddr().String())
		assert.Equal(t, far.RemoteAddr().String(), c.LocalAddr().String())
		c.Control(func(fd uintptr) {
			n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
			require.NoError(t, err)
			assert.Equal(t, 1, n)
		})
		c.Close()
		far.Close()
	}
}

func TestDialFails(t *testing.T) {
	l, closed := listen(t, "127.0.0.1:0")
	l.Close()
	_, err := dial.TCP(t.Context(), netip.Addr{}, closed)
	assert.EqualError(t, err, "connect: connection refused")
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, err = dial.TCP(t.Context(), netip.MustParseAddr("192.0.2.1"), closed)
	assert.EqualError(t, err, "bind: cannot assign requested address")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dial.TCP(ctx, netip.Addr{}, closed)
	assert.Equal(t, context.Canceled, err)
}

// full is a listener whose queue takes no more: a connect to it hangs.
func full(t *testing.T) (netip.AddrPort, int) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 0))
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		c, err := dial.TCP(ctx, netip.Addr{}, at)
		cancel()
		if err != nil {
			require.Equal(t, os.ErrDeadlineExceeded, err)
			return at, fd
		}
		t.Cleanup(func() { c.Close() })
	}
}

func TestDialHangs(t *testing.T) {
	addr, _ := full(t) // which has seen a deadline pass
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	_, err := dial.TCP(ctx, netip.Addr{}, addr)
	assert.Equal(t, context.Canceled, err)
}

// A handshake that takes its time is waited for: the first SYN is dropped, and the
// kernel sends another after a second.
func TestDialWaits(t *testing.T) {
	addr, fd := full(t)
	dialled := make(chan *sock.Conn)
	go func() {
		c, err := dial.TCP(t.Context(), netip.Addr{}, addr)
		assert.NoError(t, err)
		dialled <- c
	}()
	trying := fmt.Sprintf("0100007F:%04X 02", addr.Port()) // SYN_SENT
	nettest.Eventually(t, "it is trying", func() bool {
		open, err := os.ReadFile("/proc/self/net/tcp")
		return err == nil && strings.Contains(string(open), trying)
	})
	for range 2 { // the one that fills the queue, and the late one
		far, _, err := unix.Accept(fd)
		require.NoError(t, err)
		defer unix.Close(far)
	}
	c := <-dialled
	require.NotNil(t, c)
	defer c.Close()
	_, bare := c.Bare()
	assert.False(t, bare, "it had to wait")
	_, err := c.Blocking().Write([]byte("x"))
	assert.NoError(t, err)
}

// take takes a client, who may still be on the way.
func take(t testing.TB, l *sock.Listener) *sock.Conn {
	t.Helper()
	require.NoError(t, l.Control(func(fd int) error {
		err := error(unix.EINTR)
		for err == unix.EINTR {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		}
		return err
	}))
	c, err := l.Take()
	require.NoError(t, err)
	return c
}

// Who waits is taken, nobody is waited for, and nothing is done after the end.
func TestTake(t *testing.T) {
	l, addr := listen(t, "[::]:0")
	_, err := l.Take()
	assert.Equal(t, unix.EAGAIN, err)
	c, err := dial.TCP(t.Context(), netip.Addr{}, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port()))
	require.NoError(t, err)
	defer c.Close()
	far := take(t, l)
	defer far.Close()
	assert.Equal(t, "127.0.0.1", far.Remote().Addr().String(), "not ::ffff:127.0.0.1")
	assert.Equal(t, "127.0.0.1", far.Local().Addr().String())
	require.NoError(t, l.Close())
	_, err = l.Take()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, l.Control(func(int) error { return nil }), net.ErrClosed)
	assert.ErrorIs(t, l.Close(), net.ErrClosed)
	_, err = dial.TCP(t.Context(), netip.Addr{}, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port()))
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// option reads an option of c's socket.
func option(t testing.TB, c *sock.Conn, level, name int) (value int) {
	t.Helper()
	require.NoError(t, c.Control(func(fd uintptr) {
		var err error
		value, err = unix.GetsockoptInt(int(fd), level, name)
		require.NoError(t, err)
	}))
	return value
}

// A client's connection has the listener's option without a call of its own.
func TestOptionsAreHandedDown(t *testing.T) {
	l, addr := listen(t, "127.0.0.1:0")
	far, err := dial.TCP(t.Context(), netip.Addr{}, addr)
	require.NoError(t, err)
	defer far.Close()
	c := take(t, l)
	defer c.Close()
	assert.Equal(t, 1, option(t, c, unix.IPPROTO_TCP, unix.TCP_NODELAY))
	assert.Equal(t, unix.IPPROTO_TCP, option(t, c, unix.SOL_SOCKET, unix.SO_PROTOCOL))
}

func TestKeepAlive(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, _ *net.TCPConn) {
		_, bare := c.Bare()
		assert.Zero(t, option(t, c.Conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE))
		c.KeepAlive()
		c.KeepAlive()
		_, still := c.Bare()
		assert.Equal(t, bare, still, "the runtime is not told")
		for _, want := range [][3]int{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
		} {
			assert.Equal(t, want[2], option(t, c.Conn, want[0], want[1]), "%v", want)
		}
		c.Close()
		c.KeepAlive()
	})
}

// A sock.Conn serves one connection after the other, and nothing is left of the one before.
func TestInitAgain(t *testing.T) {
	l, addr := listen(t, "127.0.0.1:0")
	var again sock.Conn
	l.Room = func() *sock.Conn { return &again }
	for i, end := range []func(){
		func() { again.Close() },
		func() { again.Share(); again.Close() },
		func() { fd, _ := again.Detach(); sock.CloseFD(fd) },
		func() { again.KeepAlive(); again.Close() },
		func() { again.Close() },
	} {
		far, err := dial.TCP(t.Context(), netip.Addr{}, addr)
		require.NoError(t, err)
		c := take(t, l)
		require.Same(t, &again, c)
		assert.Equal(t, far.Local(), c.Remote(), "%d", i)
		assert.Equal(t, addr, c.Local(), "%d", i)
		_, bare := c.Bare()
		assert.True(t, bare, "%d", i)
		assert.Zero(t, option(t, c, unix.SOL_SOCKET, unix.SO_KEEPALIVE), "%d", i)
		_, err = far.Blocking().Write([]byte("x"))
		require.NoError(t, err)
		var b [2]byte
		n, err := c.Blocking().Read(b[:])
		require.NoError(t, err)
		assert.Equal(t, "x", string(b[:n]), "%d", i)
		end()
		assert.ErrorIs(t, c.Close(), net.ErrClosed)
		far.Close()
	}
}

// The sweeper's call may come at any moment of a connection's life.
func TestKeepAliveAtAnyTime(t *testing.T) {
	l, addr := listen(t, "127.0.0.1:0")
	var again sock.Conn
	l.Room = func() *sock.Conn { return &again }
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				again.KeepAlive()
			}
		}
	})
	for i := range 300 {
		far, err := dial.TCP(t.Context(), netip.Addr{}, addr)
		require.NoError(t, err)
		c := take(t, l)
		if i%2 == 0 {
			c.Share()
			require.NoError(t, c.Reclaim())
		}
		_, bare := c.Bare()
		require.True(t, bare)
		_, err = c.Blocking().Write([]byte("x"))
		require.NoError(t, err)
		c.Close()
		far.Close()
	}
	close(stop)
	wg.Wait()
}

func TestListenError(t *testing.T) {
	l, _ := listen(t, "127.0.0.1:0")
	_, err := sock.Listen(l.Addr().String())
	assert.ErrorIs(t, err, syscall.EADDRINUSE)
	assert.EqualError(t, err, "bind: address already in use")
	_, err = sock.Listen("127.0.0.1:x")
	assert.Error(t, err)
}

func BenchmarkDial(b *testing.B) {
	l, addr := listen(b, "127.0.0.1:0")
	b.ReportAllocs()
	for b.Loop() {
		c, err := dial.TCP(b.Context(), netip.Addr{}, addr)
		if err != nil {
			b.Fatal(err)
		}
		far := take(b, l)
		c.ResetOnClose()
		c.Close()
		far.Close()
	}
}

// Reclaim makes a connection bare again, with nothing lost of what had come, and as often
// as need be.
func TestReclaim(t *testing.T) {
	both(t, func(t *testing.T, c sock.Blocking, far *net.TCPConn) {
		buf := make([]byte, 10)
		for range 3 {
			_, err := far.Write([]byte("ab"))
			require.NoError(t, err)
			require.NoError(t, c.Reclaim())
			fd, bare := c.Bare()
			require.True(t, bare)
			n, err := sock.TryRead(fd, buf[:1])
			require.NoError(t, err)
			assert.Equal(t, "a", string(buf[:n]))
			c.Share()
			n, err = c.Read(buf)
			require.NoError(t, err)
			assert.Equal(t, "b", string(buf[:n]))
		}
		c.Close()
		assert.Equal(t, net.ErrClosed, c.Reclaim())
		_, err := far.Read(buf)
		assert.Equal(t, io.EOF, err, "no duplicate keeps it open")
	})
}

// Begin does not wait, and Connected and Wait tell how it ended.
func TestBegin(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	to := l.Addr().(*net.TCPAddr).AddrPort()
	var c sock.Conn
	connecting, err := dial.Begin(&c, netip.Addr{}, to)
	require.NoError(t, err)
	assert.False(t, connecting, "loopback takes no time")
	assert.Equal(t, to, c.Remote())
	assert.True(t, c.Local().IsValid())
	c.Close()
	l.Close()
	var refused sock.Conn
	connecting, err = dial.Begin(&refused, netip.Addr{}, to)
	assert.False(t, connecting)
	assert.ErrorIs(t, err, unix.ECONNREFUSED)

	full, accept := nettest.FullQueue(t)
	var slow sock.Conn
	connecting, err = dial.Begin(&slow, netip.Addr{}, full)
	require.NoError(t, err)
	require.True(t, connecting)
	over, err := slow.Connected()
	assert.NoError(t, err)
	assert.False(t, over)
	accept()
	require.NoError(t, slow.Blocking().Wait(t.Context()))
	over, err = slow.Connected()
	assert.NoError(t, err)
	assert.True(t, over)
	slow.Close()

	full, _ = nettest.FullQueue(t)
	var late sock.Conn
	connecting, err = dial.Begin(&late, netip.Addr{}, full)
	require.NoError(t, err)
	require.True(t, connecting)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	assert.Equal(t, os.ErrDeadlineExceeded, late.Blocking().Wait(ctx))
	assert.Equal(t, net.ErrClosed, late.Close(), "Wait has closed it")
}
