package tunnel

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// owner is a tunnel's owner that parks it whenever the test says so.
type owner struct {
	touches atomic.Int64
	ended   chan Result
}

func (o *owner) Touch()           { o.touches.Add(1) }
func (o *owner) Ended(res Result) { o.ended <- res }

type tunneled struct {
	*Tunnel
	*owner
	client, server *net.TCPConn // the far ends
}

func startTunnel(t testing.TB, p *Pump) *tunneled {
	t.Helper()
	client, inner := pair(t)
	innerUp, server := pair(t)
	for _, c := range []*net.TCPConn{inner, innerUp} {
		require.NoError(t, c.SetDeadline(time.Time{}))
	}
	o := &owner{ended: make(chan Result, 1)}
	return &tunneled{p.Start(inner, innerUp, o), o, client, server}
}

func (t *tunneled) is(s state) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state == s
}

// parkNow parks the tunnel and waits until it stands.
func (u *tunneled) parkNow(t testing.TB) {
	t.Helper()
	u.Park()
	require.Eventually(t, func() bool { return u.is(parked) }, 10*time.Second, 100*time.Microsecond)
}

// exchange sends bytes one way and reads them at the other end.
func exchange(t testing.TB, from, to *net.TCPConn, b []byte) {
	t.Helper()
	go from.Write(b)
	got := make([]byte, len(b))
	_, err := io.ReadFull(to, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
}

func newPump(t testing.TB) *Pump {
	p := New(nil)
	t.Cleanup(p.Close)
	return p
}

// A parked tunnel wakes for bytes from either side, as often as it takes, and
// loses none.
func TestParkAndWake(t *testing.T) {
	u := startTunnel(t, newPump(t))
	for i := range 20 {
		u.parkNow(t)
		from, to := u.client, u.server
		if i%2 == 1 {
			from, to = to, from
		}
		exchange(t, from, to, noise(1+i*20000))
	}
	u.parkNow(t)
	u.client.CloseWrite()
	_, err := u.server.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	exchange(t, u.server, u.client, []byte("after the half-close"))
	u.parkNow(t) // with one direction closed already
	exchange(t, u.server, u.client, []byte("and again"))
	u.server.Close()
	res := <-u.ended
	assert.NoError(t, res.Err)
	assert.EqualValues(t, 10+20000*(0+2+4+6+8+10+12+14+16+18), res.Up)
}

func TestParkedReset(t *testing.T) {
	u := startTunnel(t, newPump(t))
	exchange(t, u.client, u.server, []byte("x"))
	u.parkNow(t)
	require.NoError(t, u.server.SetLinger(0))
	u.server.Close()
	_, err := u.client.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	assert.ErrorIs(t, (<-u.ended).Err, ErrReset)
}

func TestCut(t *testing.T) {
	p := newPump(t)
	for _, park := range []bool{false, true} {
		u := startTunnel(t, p)
		if park {
			u.parkNow(t)
		}
		u.Cut()
		assert.ErrorIs(t, (<-u.ended).Err, os.ErrDeadlineExceeded)
		_, err := u.client.Read(make([]byte, 1))
		assert.Equal(t, io.EOF, err)
		u.Cut() // of one that is over
		u.Park()
	}
}

// A parked tunnel holds its two descriptors, and no goroutine.
func TestParkedHoldsTwoDescriptors(t *testing.T) {
	p := newPump(t)
	first := startTunnel(t, p)
	first.parkNow(t) // the epoll set is open now
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	var all []*tunneled
	for range 50 {
		u := startTunnel(t, p)
		exchange(t, u.client, u.server, noise(100_000)) // has used pipes
		u.parkNow(t)
		all = append(all, u)
	}
	// The far ends are this process's too; ready pipes are shared by all.
	p.pipes.mu.Lock()
	ready := 2 * len(p.pipes.ready)
	p.pipes.mu.Unlock()
	assert.Equal(t, files+50*4+ready, openFiles(t))
	for runtime.NumGoroutine() > goroutines && !t.Failed() { // those that wrote are ending
		runtime.Gosched()
		if t.Context().Err() != nil {
			t.Fatal("goroutines are left")
		}
	}
	for _, u := range append(all, first) {
		u.client.Close()
		u.server.Close()
		<-u.ended
	}
}

func openFiles(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

// A direction that cannot deliver what it has does not keep the other from moving:
// the owner asks again, and the tunnel runs on.
func TestParkGivesUp(t *testing.T) {
	u := startTunnel(t, newPump(t))
	go u.server.Write(noise(64 << 20)) // the client does not read: this direction is stuck
	require.Eventually(t, func() bool {
		n := u.touches.Load()
		runtime.Gosched()
		return n > 10 && n == u.touches.Load()
	}, 10*time.Second, 10*time.Millisecond)
	u.Park()
	u.Park()
	exchange(t, u.client, u.server, []byte("still moving"))
	u.client.Close()
	u.server.Close()
	<-u.ended
}

// Parking at any moment, again and again, loses no byte.
func TestParkUnderLoad(t *testing.T) {
	u := startTunnel(t, newPump(t))
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				u.Park()
				runtime.Gosched()
			}
		}
	}()
	for range 200 {
		exchange(t, u.client, u.server, noise(3000))
		exchange(t, u.server, u.client, noise(70000))
	}
	close(stop)
	<-stopped
	u.client.Close()
	u.server.Close()
	res := <-u.ended
	assert.EqualValues(t, 200*3000, res.Up)
	assert.EqualValues(t, 200*70000, res.Down)
}

func BenchmarkParkAndWake(b *testing.B) {
	u := startTunnel(b, newPump(b))
	for b.Loop() {
		u.parkNow(b)
		exchange(b, u.client, u.server, []byte("x"))
	}
	u.client.Close()
	u.server.Close()
	<-u.ended
}
