package tunnel

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// exchange sends bytes one way and reads them at the other end.
func exchange(t testing.TB, from, to *net.TCPConn, b []byte) {
	t.Helper()
	go from.Write(b)
	got := make([]byte, len(b))
	_, err := io.ReadFull(to, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
}

// A tunnel in which no byte moves holds its two descriptors, and no goroutine,
// buffer or pipe, whatever it has carried.
func TestIdleHoldsTwoDescriptors(t *testing.T) {
	p := newPump(t, nil)
	defer p.Close()
	var all []*relayed
	for range runtime.GOMAXPROCS(0) { // the loops are open now
		all = append(all, start(t, p))
	}
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 50 {
		r := start(t, p)
		exchange(t, r.client, r.server, noise(300_000)) // has used pipes
		exchange(t, r.server, r.client, noise(300_000))
		all = append(all, r)
	}
	// The far ends are this process's too; ready pipes are shared by all.
	nettest.Eventually(t, "two descriptors a tunnel and no goroutine are in use", func() bool {
		p.pipes.mu.Lock()
		defer p.pipes.mu.Unlock()
		return openFiles(t) == files+50*4+2*len(p.pipes.ready) && runtime.NumGoroutine() <= goroutines
	})
	for _, r := range all {
		r.mu.Lock()
		for _, w := range r.ways {
			assert.Nil(t, w.cargo)
		}
		r.mu.Unlock()
		r.client.Close()
		r.server.Close()
		assert.NoError(t, (<-r.result).Err)
	}
}

func openFiles(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

// A receiver that does not read keeps neither the other direction nor other
// tunnels from moving, and gets all when it reads again, by buffer and by pipe.
func TestSlowReceiver(t *testing.T) {
	for name, budget := range map[string]*fdbudget.Budget{"splice": nil, "no descriptors": fdbudget.New(0)} {
		t.Run(name, func(t *testing.T) {
			p := newPump(t, budget)
			defer p.Close()
			r, other := start(t, p), start(t, p)
			third := start(t, p) // on the loop of the first, with two processors
			b := noise(32 << 20)
			go func() {
				r.server.Write(b)
				r.server.CloseWrite()
			}()
			nettest.Eventually(t, "the sender is stopped: all buffers are full", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.ways[upstreamSide].blocked
			})
			exchange(t, r.client, r.server, []byte("still moving"))
			exchange(t, other.client, other.server, []byte("and so do others"))
			exchange(t, third.server, third.client, []byte("all of them"))
			got, err := io.ReadAll(r.client)
			require.NoError(t, err)
			assert.Equal(t, sha256.Sum256(b), sha256.Sum256(got))
			r.client.Close()
			assert.Equal(t, Result{Up: 12, Down: 32 << 20}, <-r.result)
			for _, o := range []*relayed{other, third} {
				o.client.Close()
				o.server.Close()
				<-o.result
			}
		})
	}
}

// A direction whose receiver takes nothing is not told of more bytes, until it has read all
// that came: then it is told again, of bytes and of the end.
func TestMutedWhileBlocked(t *testing.T) {
	for name, budget := range map[string]*fdbudget.Budget{"splice": nil, "no descriptors": fdbudget.New(0)} {
		t.Run(name, func(t *testing.T) {
			r := relay(t, budget)
			// Or the kernel, which lets it grow while it is read from, may take all of b.
			require.NoError(t, r.client.SetReadBuffer(64<<10))
			b := noise(32 << 20)
			for range 3 {
				go r.server.Write(b)
				way := func() (w way) {
					r.mu.Lock()
					defer r.mu.Unlock()
					return r.ways[upstreamSide]
				}
				nettest.Eventually(t, "the way is muted", func() bool { return way().muted })
				assert.True(t, way().blocked || way().readable)
				exchange(t, r.client, r.server, []byte("still moving"))
				got := make([]byte, len(b))
				_, err := io.ReadFull(r.client, got)
				require.NoError(t, err)
				assert.Equal(t, sha256.Sum256(b), sha256.Sum256(got))
				nettest.Eventually(t, "the way is muted no longer", func() bool { return !way().muted })
				exchange(t, r.server, r.client, []byte("awake"))
			}
			r.server.Close()
			rest, err := io.ReadAll(r.client)
			assert.Empty(t, rest)
			assert.NoError(t, err)
			r.client.Close()
			assert.NoError(t, (<-r.result).Err)
		})
	}
}

// A read stops short at the mark of urgent data; what stands behind it is carried
// on all the same. The urgent byte itself is lost, as RFC 6093 expects of what
// stands between.
func TestUrgentData(t *testing.T) {
	r := relay(t, nil)
	raw, err := r.client.SyscallConn()
	require.NoError(t, err)
	for range 20 {
		raw.Control(func(fd uintptr) {
			for part, flags := range map[string]int{"before": 0, "!": unix.MSG_OOB, "behind": 0} {
				unix.Sendto(int(fd), []byte(part), flags, nil)
			}
		})
		got := make([]byte, 12)
		r.server.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = io.ReadFull(r.server, got)
		require.NoError(t, err)
	}
	r.client.Close()
	r.server.Close()
	<-r.result
}

// Many tunnels at once, each with bytes both ways and ends in any order, lose
// nothing.
func TestManyTunnels(t *testing.T) {
	p := newPump(t, nil)
	defer p.Close()
	var wg sync.WaitGroup
	for i := range 64 {
		r := start(t, p)
		up, down := noise(1+i*5000), noise(1+(64-i)*5000)
		send := func(c *net.TCPConn, b []byte) {
			for len(b) > 0 {
				n := min(len(b), 1+len(b)/3)
				c.Write(b[:n])
				b = b[n:]
			}
			c.CloseWrite()
		}
		check := func(c *net.TCPConn, want []byte) {
			got, err := io.ReadAll(c)
			assert.NoError(t, err)
			assert.True(t, bytes.Equal(want, got), "tunnel %d", i)
		}
		wg.Go(func() { send(r.client, up) })
		wg.Go(func() { send(r.server, down) })
		wg.Go(func() { check(r.server, up) })
		wg.Go(func() {
			check(r.client, down)
			assert.Equal(t, Result{Up: int64(len(up)), Down: int64(len(down))}, <-r.result)
		})
	}
	wg.Wait()
}

// Cutting at any moment ends a tunnel once.
func TestCutUnderLoad(t *testing.T) {
	p := newPump(t, nil)
	defer p.Close()
	for range 200 {
		r := start(t, p)
		go io.Copy(io.Discard, r.server)
		go r.client.Write(noise(200_000))
		go r.Cut()
		r.Cut()
		<-r.result
		r.client.Close()
		r.server.Close()
		assert.Empty(t, r.result)
	}
}

// When no loop is to be had, a tunnel ends with that error at once.
func TestStartAfterClose(t *testing.T) {
	p := newPump(t, nil)
	p.loops.Close()
	r := start(t, p)
	assert.ErrorIs(t, (<-r.result).Err, net.ErrClosed)
	_, err := r.client.Read(make([]byte, 1))
	assert.Equal(t, io.EOF, err)
}

// late tells a tunnel again and again of what its former descriptors might have to say,
// and has it do what was put off.
type late struct {
	t    *Tunnel
	mu   sync.Mutex
	fds  []int
	told int
}

func (g *late) Ready(l *poll.Loop, fd int, _ uint32) {
	unix.Read(fd, make([]byte, 64))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told++
	for _, former := range g.fds {
		g.t.Ready(l, former, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR)
	}
	g.t.Do(l)
}

func (g *late) former(fds [2]int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fds = []int{int(fds[0]), int(fds[1])}
}

// A tunnel that has ended is another one when it is started again, whatever is told of it
// too late.
func TestStartAgain(t *testing.T) {
	p := newPump(t, nil)
	defer p.Close()
	r := start(t, p)
	ghost := &late{t: &r.Tunnel}
	var ends [2]int
	require.NoError(t, unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	l, err := p.loops.Next()
	require.NoError(t, err)
	require.NoError(t, l.Register(ends[0], ghost, poll.Readable))
	haunt := func() { unix.Write(ends[1], []byte("x")) }
	for i := range 60 {
		up, down := noise(1+i*i*100), noise(1+i*i*100)
		haunt()
		exchange(t, r.client, r.server, up)
		haunt()
		exchange(t, r.server, r.client, down)
		r.mu.Lock()
		fds := r.fds
		r.mu.Unlock()
		ghost.former(fds)
		want := Result{Up: int64(len(up)), Down: int64(len(down))}
		switch i % 3 {
		case 0:
			r.client.Close()
			r.server.Close()
		case 1:
			require.True(t, r.Cut())
			want.Err = os.ErrDeadlineExceeded
		case 2:
			r.server.SetLinger(0)
			r.server.Close()
			want.Err = ErrReset
		}
		assert.Equal(t, want, <-r.result, "%d", i)
		assert.False(t, r.Cut())
		haunt()
		r.Tell()
		var inner, innerUp *sock.Conn
		r.client, inner = near(t)
		r.server, innerUp = near(t)
		p.Start(&r.Tunnel, Side{Conn: inner}, Side{Conn: innerUp}, r)
	}
	r.Cut()
	<-r.result
	ghost.mu.Lock()
	defer ghost.mu.Unlock()
	assert.NotZero(t, ghost.told)
}

// A look tells of what has moved since the last, the end of the rest.
func TestLookTellsWhatMoved(t *testing.T) {
	r := relay(t, nil)
	exchange(t, r.client, r.server, noise(100_000))
	exchange(t, r.server, r.client, []byte("back"))
	told := func() [2]int64 { return [2]int64{r.up.Load(), r.down.Load()} }
	assert.Zero(t, told())
	for range 2 {
		r.Tell()
		assert.Equal(t, [2]int64{100_000, 4}, told())
	}
	exchange(t, r.client, r.server, []byte("more"))
	r.client.Close()
	r.server.Close()
	assert.Equal(t, Result{Up: 100_004, Down: 4}, <-r.result)
	r.Tell()
	assert.Zero(t, told(), "nothing of what has ended")
}

// The owner's first look has the kernel find out when either peer is gone.
func TestKeepAliveOnBothSides(t *testing.T) {
	r := relay(t, nil)
	kept := func() (on [2]int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for side, fd := range r.fds {
			on[side], _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		}
		return on
	}
	assert.Equal(t, [2]int{0, 0}, kept())
	r.Tell()
	assert.Equal(t, [2]int{1, 1}, kept())
}
