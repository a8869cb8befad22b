package terminate

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/proxyheader"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// stays is a client that does not go.
func stays() (context.Context, func()) { return context.Background(), func() {} }

func account(addr string) Account { return Account{Addr: netip.MustParseAddr(addr)} }

// handshakes has so many workers of the client begin one after the other until the time is over, each of
// which takes that long, and returns how many have begun.
func handshakes(t *testing.T, f *shares, client Account, workers int, each, long time.Duration, fail bool) (n int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	there := func() (context.Context, func()) { return ctx, func() {} }
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := f.begin(client, waitMost, there)
				if err != nil {
					return
				}
				mu.Lock()
				n++
				mu.Unlock()
				time.Sleep(each)
				f.end(client, a, fail)
			}
		})
	}
	wg.Wait()
	return n
}

// A client may have a burst of failures, and one more each time; whose handshakes succeed may have as
// many as it likes, and so may who is beside one who floods.
func TestSharesFail(t *testing.T) {
	a, b := account("192.0.2.1"), Account{netip.MustParseAddr("192.0.2.1"), "other"}
	const long = 10 * time.Second
	due := failBurst + int(long/failEvery)
	for _, workers := range []int{1, 8, 64, 500} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &shares{}
				good := 0
				var wg sync.WaitGroup
				wg.Go(func() { good = handshakes(t, f, b, 4, time.Millisecond, long, false) })
				bad := handshakes(t, f, a, workers, time.Millisecond, long, true)
				wg.Wait()
				assert.GreaterOrEqual(t, bad, due-2)
				assert.LessOrEqual(t, bad, max(failBurst, min(workers, atOnce))+max(int(long/failEvery), workers*int(long/waitMost))+2)
				assert.InDelta(t, 4*int(long/time.Millisecond), good, 4, "who is beside it waits for nothing")
				assert.Contains(t, f.m, a)
				assert.NotContains(t, f.m, b, "nothing is remembered of who has failed at nothing")
				time.Sleep(2 * failBurst * failEvery)
				assert.InDelta(t, 4*int(long/time.Millisecond), handshakes(t, f, a, 4, time.Millisecond, long, false), 4, "all is forgotten")
				assert.Empty(t, f.m)
			})
		})
	}
}

// What ends well is as much as the client likes while it is alone, and a burst and so many a second beside
// others, or as many as have waited for a second; those that fail have their own share, before and after.
func TestSharesOften(t *testing.T) {
	a, b := account("192.0.2.1"), account("192.0.2.2")
	const often, long = 50, 10 * time.Second
	due := endBurst + often*int(long/time.Second)
	for _, workers := range []int{1, 8, 40, 200} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &shares{mayOften: func(client Account) int {
					if client == b {
						return 0
					}
					return often
				}}
				alone := 0
				var wg sync.WaitGroup
				wg.Go(func() { alone = handshakes(t, f, b, workers, 10*time.Millisecond, long, false) })
				beside := handshakes(t, f, a, workers, 10*time.Millisecond, long, false)
				wg.Wait()
				assert.InDelta(t, workers*int(long/(10*time.Millisecond)), alone, float64(workers))
				assert.GreaterOrEqual(t, beside, min(due, workers*int(long/(10*time.Millisecond)))-workers)
				assert.LessOrEqual(t, beside, max(due, endBurst+workers*int(long/waitMost))+workers)
				assert.NotContains(t, f.m, b)
				fails := handshakes(t, f, b, 1, time.Millisecond, time.Second, true)
				assert.InDelta(t, failBurst+10, fails, 2)
				time.Sleep(3 * endBurst * time.Second / often) // of the bubble: no real time
				handshakes(t, f, a, 1, time.Millisecond, time.Millisecond, false)
				time.Sleep(time.Second)
				assert.True(t, f.m[a] == nil || f.m[a].idle(f.now()), "all is forgotten")
			})
		})
	}
}

// Those at work may all end well: who has begun as many as the burst waits, until one is due or has failed, or
// the client is alone again.
func TestSharesAtWork(t *testing.T) {
	client := account("192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		often := 10
		f := &shares{mayOften: func(Account) int { return often }}
		for range endBurst - 1 {
			a, err := f.begin(client, time.Hour, stays)
			require.NoError(t, err)
			f.end(client, a, false)
		}
		waits := func() time.Duration {
			start := time.Now()
			a, err := f.begin(client, time.Hour, stays)
			require.NoError(t, err)
			f.end(client, a, false)
			return time.Since(start)
		}
		assert.Zero(t, waits(), "the last of the burst")
		for range endBurst { // as if they had waited for long enough
			a, err := f.begin(client, 0, stays)
			require.NoError(t, err)
			f.end(client, a, false)
		}
		assert.Equal(t, time.Second/10, waits())
		assert.Equal(t, time.Second/10, waits())
		often = 0
		assert.Zero(t, waits(), "it is alone")
		often = 10
		assert.Equal(t, time.Second/10, waits())
		often = 1000
		assert.Equal(t, time.Second/1000, waits(), "the policy in force counts")
	})
}

// As many may be at work as could fail; who waits begins when one of them has come to a good end, in the
// order in which they have come, or ends with the client.
func TestSharesWait(t *testing.T) {
	client := account("2001:db8::1")
	synctest.Test(t, func(t *testing.T) {
		f := &shares{}
		var working []*share
		for range atOnce {
			a, err := f.begin(client, time.Hour, stays)
			require.NoError(t, err)
			working = append(working, a)
		}
		order := make(chan int, 3)
		ctx, goes := context.WithCancel(t.Context())
		for i := range 3 {
			go func() {
				_, err := f.begin(client, time.Hour, func() (context.Context, func()) {
					if i == 1 {
						return ctx, func() {}
					}
					return stays()
				})
				if err != nil {
					i = -i
				}
				order <- i
			}()
			synctest.Wait()
		}
		assert.Empty(t, order)
		goes()
		assert.Equal(t, -1, <-order)
		f.end(client, working[0], false)
		assert.Equal(t, 0, <-order)
		f.end(client, working[1], true)
		synctest.Wait()
		assert.Empty(t, order, "one has failed, in whose place nobody comes yet")
		start := time.Now()
		assert.Equal(t, 2, <-order)
		assert.Equal(t, failEvery, time.Since(start))
		assert.Equal(t, atOnce, f.m[client].working)
		_, err := f.begin(account("2001:db8::2"), time.Hour, stays)
		assert.NoError(t, err, "it is another's, of the same /64")
	})
}

// Who is beside one that stalls, behind the same address, waits for a second at most, however many stall;
// and it is soon forgotten that more have failed than were due.
func TestSharesKeepNobodyOut(t *testing.T) {
	client := account("192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		f := &shares{}
		var stall []*share
		for range 10 * failBurst {
			go func() {
				a, err := f.begin(client, waitMost, stays)
				assert.NoError(t, err)
				f.mu.Lock()
				defer f.mu.Unlock()
				stall = append(stall, a)
			}()
		}
		synctest.Wait()
		for range 3 {
			start := time.Now()
			a, err := f.begin(client, waitMost, stays)
			require.NoError(t, err)
			assert.Equal(t, waitMost, time.Since(start))
			f.end(client, a, false)
		}
		require.Len(t, stall, 10*failBurst)
		for _, a := range stall {
			f.end(client, a, true)
		}
		time.Sleep(2 * failBurst * failEvery)
		start := time.Now()
		a, err := f.begin(client, waitMost, stays)
		require.NoError(t, err)
		assert.Zero(t, time.Since(start))
		f.end(client, a, false)
		assert.Empty(t, f.m)
	})
}

// Of more clients than are kept nothing is remembered, until others are forgotten.
func TestSharesOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &shares{}
		addr := netip.MustParseAddr("10.0.0.0")
		fails := func(addr netip.Addr) {
			client := Account{Addr: addr}
			a, err := f.begin(client, time.Hour, stays)
			require.NoError(t, err)
			f.end(client, a, true)
		}
		for range mostKept {
			addr = addr.Next()
			fails(addr)
		}
		assert.Len(t, f.m, mostKept)
		for range 2 * failBurst {
			fails(addr.Next())
		}
		assert.Len(t, f.m, mostKept)
		assert.NotContains(t, f.m, Account{Addr: addr.Next()})
		time.Sleep(failEvery)
		fails(addr.Next())
		assert.Len(t, f.m, mostKept-lookedAt+1)
		assert.Contains(t, f.m, Account{Addr: addr.Next()})
	})
}

// flooded has so many handshakes of the client fail.
func (f *shares) flooded(t *testing.T, client string, n int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.account(account(client), f.now()).free = f.now() + int64(n)*int64(failEvery)
}

func (f *shares) waits(client string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.m[account(client)]
	return a != nil && a.waiting > 0
}

// A client that has flooded waits behind its hello, and nobody else; who is cut then, or at the end of all,
// waits for nothing any more.
func TestFloodWaits(t *testing.T) {
	budget := fdbudget.New(6)
	f := start(t, func(c *sock.Conn) { io.Copy(io.Discard, c.Blocking()); c.Close() }, func(o *Options) { o.Budget = budget })
	hello := nettest.ClientHello(t, &tls.Config{ServerName: "127.0.0.1"})
	begins := func() net.Conn {
		c := f.client(t).NetConn()
		_, err := c.Write(hello)
		require.NoError(t, err)
		return c
	}
	c := begins()
	_, err := c.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).SetLinger(0))
	require.NoError(t, c.Close())
	local := account("127.0.0.1")
	nettest.Eventually(t, "it has failed", func() bool {
		f.shares.mu.Lock()
		defer f.shares.mu.Unlock()
		a := f.shares.m[local]
		return a != nil && a.working == 0 && a.free > 0
	})
	f.shares.flooded(t, "127.0.0.1", 10_000)
	c = begins()
	nettest.Eventually(t, "it waits", func() bool { return f.shares.waits("127.0.0.1") })
	other := f.clientFrom(t, "127.0.0.2")
	require.NoError(t, other.Handshake(), "who has not flooded is served")
	other.Close()
	f.mu.Lock()
	for client := range f.clients {
		client.late.Store(1) // as if the front door were done with it
	}
	f.mu.Unlock()
	f.CutLate(6)
	nettest.Eventually(t, "who is cut is gone", func() bool { return f.Len() == 0 && !f.shares.waits("127.0.0.1") })
	assert.EqualValues(t, 6, budget.Left())
	_, err = c.Read(make([]byte, 1))
	assert.Error(t, err)
	begins()
	nettest.Eventually(t, "the next waits", func() bool { return f.shares.waits("127.0.0.1") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Wait(ctx)
	assert.False(t, f.shares.waits("127.0.0.1"))
}

// Behind a balancer it is the client that waits, not all of the balancer's.
func TestFloodBehindBalancer(t *testing.T) {
	f := start(t, func(c *sock.Conn) { io.Copy(io.Discard, c.Blocking()); c.Close() },
		func(o *Options) { o.Announced = func(netip.Addr) bool { return true } })
	f.shares.flooded(t, "192.0.2.1", 10_000)
	announce := func(client string) *tls.Conn {
		c := f.client(t)
		_, err := c.NetConn().Write(proxyheader.Make(2, netip.MustParseAddrPort(client+":1"), netip.MustParseAddrPort("192.0.2.9:443")))
		require.NoError(t, err)
		return c
	}
	require.NoError(t, announce("192.0.2.2").Handshake())
	_, err := announce("192.0.2.1").NetConn().Write(nettest.ClientHello(t, &tls.Config{ServerName: "127.0.0.1"}))
	require.NoError(t, err)
	nettest.Eventually(t, "it waits", func() bool { return f.shares.waits("192.0.2.1") })
	require.NoError(t, announce("192.0.2.2").Handshake())
}
