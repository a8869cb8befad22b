package tunnel

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// near returns the two ends of a loopback connection, the second as the proxy has it.
func near(t testing.TB) (far *net.TCPConn, c *sock.Conn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer l.Close()
	c, err = dial.TCP(t.Context(), netip.Addr{}, l.Addr().(*net.TCPAddr).AddrPort())
	require.NoError(t, err)
	far, err = l.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); far.Close() })
	require.NoError(t, far.SetDeadline(time.Now().Add(20*time.Second)))
	return far, c
}

// relayed is a tunnel that is its own owner.
type relayed struct {
	Tunnel
	client, server *net.TCPConn // the far ends
	result         chan Result
	touches        atomic.Int64
	up, down       atomic.Int64 // what Moved told
	pump           *Pump
}

func (r *relayed) Touch() { r.touches.Add(1) }

func (r *relayed) Moved(up, down int64) {
	r.up.Add(up)
	r.down.Add(down)
}

func (r *relayed) Ended(res Result) {
	if up, down := r.up.Swap(0), r.down.Swap(0); up != res.Up || down != res.Down {
		res.Err = fmt.Errorf("Moved told of %d and %d, Ended of %d and %d", up, down, res.Up, res.Down)
	}
	r.result <- res
}

func newPump(t testing.TB, budget *fdbudget.Budget) *Pump {
	loops := new(poll.Loops)
	t.Cleanup(loops.Close)
	return New(budget, loops)
}

func relay(t testing.TB, budget *fdbudget.Budget) *relayed {
	p := newPump(t, budget)
	t.Cleanup(p.Close)
	return start(t, p)
}

func start(t testing.TB, p *Pump) *relayed {
	t.Helper()
	r := &relayed{result: make(chan Result, 1), pump: p}
	var inner, innerUp *sock.Conn
	r.client, inner = near(t)
	r.server, innerUp = near(t)
	p.Start(&r.Tunnel, Side{Conn: inner}, Side{Conn: innerUp}, r)
	return r
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Each direction closes on its own: the server's answer comes whole after the
// client has said that it sends no more.
func TestHalfClose(t *testing.T) {
	r := relay(t, nil)
	_, err := r.client.Write([]byte("question"))
	require.NoError(t, err)
	require.NoError(t, r.client.CloseWrite())
	q, err := io.ReadAll(r.server)
	require.NoError(t, err)
	assert.Equal(t, "question", string(q))
	_, err = r.server.Write([]byte("answer"))
	require.NoError(t, err)
	r.server.Close()
	a, err := io.ReadAll(r.client)
	require.NoError(t, err)
	assert.Equal(t, "answer", string(a))
	assert.Equal(t, Result{Up: 8, Down: 6}, <-r.result)
}

func TestResetTravels(t *testing.T) {
	for _, side := range []string{"client", "server"} {
		t.Run(side, func(t *testing.T) {
			r := relay(t, nil)
			from, to := r.client, r.server
			if side == "server" {
				from, to = to, from
			}
			_, err := from.Write([]byte("x"))
			require.NoError(t, err)
			_, err = io.ReadFull(to, make([]byte, 1))
			require.NoError(t, err)
			require.NoError(t, from.SetLinger(0))
			from.Close()
			_, err = to.Read(make([]byte, 1))
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			assert.ErrorIs(t, (<-r.result).Err, ErrReset)
		})
	}
}

// A server that stops reading and closes has the rest of its answer delivered,
// and the client learns that what it still sends arrives nowhere.
func TestResetAfterAnswer(t *testing.T) {
	r := relay(t, nil)
	_, err := r.server.Write([]byte("go away"))
	require.NoError(t, err)
	got := make([]byte, 7)
	_, err = io.ReadFull(r.client, got)
	require.NoError(t, err)
	_, err = r.client.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(r.server, got[:1])
	require.NoError(t, err)
	require.NoError(t, r.server.SetLinger(0))
	r.server.Close()
	for err == nil {
		_, err = r.client.Write([]byte("more"))
	}
	assert.Error(t, (<-r.result).Err)
}

func TestBulkBothWays(t *testing.T) {
	for name, budget := range map[string]*fdbudget.Budget{"splice": nil, "no descriptors": fdbudget.New(0)} {
		t.Run(name, func(t *testing.T) {
			r := relay(t, budget)
			up, down := noise(3<<20+17), noise(5<<20+1)
			send := func(c *net.TCPConn, b []byte) {
				c.Write(b)
				c.CloseWrite()
			}
			go send(r.client, up)
			go send(r.server, down)
			sum := make(chan [32]byte)
			go func() {
				b, _ := io.ReadAll(r.server)
				sum <- sha256.Sum256(b)
			}()
			gotDown, err := io.ReadAll(r.client)
			require.NoError(t, err)
			assert.Equal(t, sha256.Sum256(up), <-sum)
			assert.True(t, bytes.Equal(down, gotDown))
			assert.Equal(t, Result{Up: int64(len(up)), Down: int64(len(down))}, <-r.result)
			if budget == nil {
				assert.NotEmpty(t, r.pump.pipes.ready, "bulk went through a pipe")
			} else {
				assert.Empty(t, r.pump.pipes.ready)
			}
		})
	}
}

// Whoever waits holds no pipe: after bulk has passed and the line is quiet, all
// pipes lie ready.
func TestIdleHoldsNoPipe(t *testing.T) {
	budget := fdbudget.New(100)
	r := relay(t, budget)
	b := noise(1 << 20)
	go r.client.Write(b)
	_, err := io.ReadFull(r.server, make([]byte, len(b)))
	require.NoError(t, err)
	nettest.Eventually(t, "all pipes are ready", func() bool {
		r.pump.pipes.mu.Lock()
		defer r.pump.pipes.mu.Unlock()
		n := len(r.pump.pipes.ready)
		return n > 0 && budget.Left() == int64(100-2*n)
	})
	r.client.Close()
	io.ReadAll(r.server)
	r.server.Close()
	<-r.result
	r.pump.Close()
	assert.EqualValues(t, 100, budget.Left())
}

func TestCut(t *testing.T) {
	r := relay(t, nil)
	exchange(t, r.client, r.server, []byte("x"))
	r.Cut()
	assert.Equal(t, Result{Up: 1, Err: os.ErrDeadlineExceeded}, <-r.result)
	for _, c := range []*net.TCPConn{r.client, r.server} {
		_, err := c.Read(make([]byte, 1))
		assert.Equal(t, io.EOF, err, "an idle tunnel is closed, not reset")
	}
	r.Cut() // of one that is over
}

func TestCopyTakesNoMore(t *testing.T) {
	for _, n := range []int{0, 1, bufferSize, 10*bufferSize + 3, 1 << 20} {
		client, in := near(t)
		server, out := near(t)
		p := newPump(t, nil)
		body := noise(n)
		go func() {
			client.Write(body)
			client.Write([]byte("next"))
		}()
		got := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(server)
			got <- b
		}()
		moved, rerr, werr := p.Copy(out.Blocking(), in.Blocking(), int64(n), func() {})
		require.NoError(t, rerr)
		require.NoError(t, werr)
		assert.EqualValues(t, n, moved)
		out.Close()
		assert.True(t, bytes.Equal(body, <-got), "%d", n)
		rest := make([]byte, 4)
		_, err := io.ReadFull(in.Blocking(), rest)
		require.NoError(t, err)
		assert.Equal(t, "next", string(rest), "%d", n)
		p.Close()
	}
}

func TestCopyEnds(t *testing.T) {
	p := newPump(t, nil)
	defer p.Close()
	client, in := near(t)
	server, out := near(t)
	client.Write([]byte("abc"))
	client.Close()
	moved, rerr, werr := p.Copy(out.Blocking(), in.Blocking(), 10, func() {})
	assert.EqualValues(t, 3, moved)
	assert.Equal(t, io.ErrUnexpectedEOF, rerr)
	assert.NoError(t, werr)

	client, in = near(t)
	client.Write([]byte("abc"))
	client.Close()
	moved, rerr, werr = p.Copy(out.Blocking(), in.Blocking(), -1, func() {})
	assert.EqualValues(t, 3, moved)
	assert.NoError(t, rerr)
	assert.NoError(t, werr)

	server.SetLinger(0)
	server.Close()
	client, in = near(t)
	go io.Copy(client, bytes.NewReader(noise(8<<20)))
	_, rerr, werr = p.Copy(out.Blocking(), in.Blocking(), 8<<20, func() {})
	assert.NoError(t, rerr)
	assert.Error(t, werr)
	in.Close()
}

// Bytes that pass through an open tunnel allocate nothing, one by one or in bulk.
func TestExchangeAllocatesNothing(t *testing.T) {
	for _, size := range []int{64, 1 << 20} {
		r := relay(t, nil)
		b, buf := noise(size), make([]byte, 64<<10)
		pass := func(from, to *net.TCPConn) {
			sent := make(chan struct{})
			go func() { from.Write(b); close(sent) }()
			for got := 0; got < size; {
				n, err := to.Read(buf[:min(size-got, len(buf))])
				require.NoError(t, err)
				got += n
			}
			<-sent
		}
		exchange := func() {
			pass(r.client, r.server)
			pass(r.server, r.client)
		}
		for range 50 {
			exchange()
		}
		own := 2 * 3.0 // the goroutine, its closure and the channel
		if n := testing.AllocsPerRun(500, exchange); n > own {
			t.Errorf("%v allocations for %d bytes each way", n-own, size)
		}
		r.client.Close()
		r.server.Close()
		<-r.result
	}
}

func BenchmarkRelayBulk(b *testing.B) {
	r := relay(b, nil)
	chunk := noise(1 << 20)
	b.SetBytes(int64(len(chunk)))
	go func() {
		for {
			if _, err := r.client.Write(chunk); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, len(chunk))
	for b.Loop() {
		if _, err := io.ReadFull(r.server, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	r.server.Close()
	r.client.Close()
	<-r.result
}

func BenchmarkRelayExchange(b *testing.B) {
	r := relay(b, nil)
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		r.client.Write(buf)
		io.ReadFull(r.server, buf)
		r.server.Write(buf)
		io.ReadFull(r.client, buf)
	}
	b.StopTimer()
	r.client.Close()
	r.server.Close()
	<-r.result
}
