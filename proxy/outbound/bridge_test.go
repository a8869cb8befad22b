package outbound

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// bridged is a connection to a parent by TLS, which serve serves.
func bridged(t testing.TB, serve func(*tls.Conn)) (*Conn, *fdbudget.Budget) {
	t.Helper()
	return bridgedFor(t, 0, serve)
}

// bridgedFor is one with an idle limit.
func bridgedFor(t testing.TB, idle time.Duration, serve func(*tls.Conn)) (*Conn, *fdbudget.Budget) {
	t.Helper()
	ca := nettest.NewCA(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.Issue("127.0.0.1")}})
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err == nil {
			serve(c.(*tls.Conn))
			c.Close()
		}
	})
	budget := fdbudget.New(10)
	g := NewGate(nil, dial.TCP, NewPool(budget, time.Minute))
	g.Idle = idle
	dst := netip.MustParseAddrPort(l.Addr().String())
	tcp, err := dial.TCP(t.Context(), netip.Addr{}, dst)
	require.NoError(t, err)
	c := &Conn{TCP: tcp}
	require.NoError(t, g.secureParent(t.Context(), c, &policy.Parent{TLS: &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1"}}))
	require.Contains(t, []int64{8, 10}, budget.Left()) // a parent may have ended it already
	t.Cleanup(func() {
		c.Close()
		l.Close()
		wg.Wait()
		nettest.Eventually(t, "the bridge is gone", func() bool { return budget.Left() == 10 })
	})
	return c, budget
}

// Halves end by close_notify, in both directions.
func TestBridgeHalves(t *testing.T) {
	t.Parallel()
	c, _ := bridged(t, func(s *tls.Conn) {
		b, err := io.ReadAll(s) // up to close_notify
		assert.NoError(t, err)
		s.Write(append(b, " and more"...))
	})
	_, err := c.TCP.Blocking().Write([]byte("all"))
	require.NoError(t, err)
	require.NoError(t, c.TCP.CloseWrite())
	b, err := io.ReadAll(c.TCP.Blocking())
	require.NoError(t, err)
	assert.Equal(t, "all and more", string(b))
}

// An end without close_notify is a reset: what came is not the whole.
func TestBridgeTruncated(t *testing.T) {
	t.Parallel()
	c, _ := bridged(t, func(s *tls.Conn) {
		s.Write([]byte("part"))
		s.NetConn().(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, s)
	})
	b, err := io.ReadAll(c.TCP.Blocking())
	assert.ErrorIs(t, err, unix.ECONNRESET)
	assert.LessOrEqual(t, len(b), len("part"))
}

// A connection that the gateway resets is reset, although the parent takes nothing.
func TestBridgeReset(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	c, budget := bridged(t, func(s *tls.Conn) {
		s.Handshake()
		<-done
	})
	defer close(done)
	c.TCP.SetWriteDeadline(time.Now().Add(time.Second))
	for {
		if _, err := c.TCP.Blocking().Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	c.TCP.ResetOnClose()
	c.Close()
	nettest.Eventually(t, "the bridge is gone", func() bool { return budget.Left() == 10 })
}

// A connection that is closed whole, with nothing on its way, is closed at the parent, too, which
// need not close its own for that.
func TestBridgeClosed(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	c, budget := bridged(t, func(s *tls.Conn) {
		_, err := s.Read(make([]byte, 1))
		assert.Equal(t, io.EOF, err)
		<-done
	})
	defer close(done)
	c.Close()
	nettest.Eventually(t, "the bridge is gone", func() bool { return budget.Left() == 10 })
}

// A connection that the gateway closes behind bytes that the parent does not take ends with the time
// that a tunnel without a byte has, and so does one that nobody has closed.
func TestBridgeStuck(t *testing.T) {
	t.Parallel()
	for name, closed := range map[string]bool{"closed": true, "open": false} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			c, budget := bridgedFor(t, time.Second, func(s *tls.Conn) {
				s.Handshake()
				<-done
			})
			defer close(done)
			for stuck := 0; stuck < 3; stuck++ { // a busy machine is slow to fill what there is
				c.TCP.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
				n, err := c.TCP.Blocking().Write(make([]byte, 64<<10))
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					break // the bridge has gone already
				}
				if n > 0 {
					stuck = -1
				}
			}
			if closed {
				c.Close()
			}
			nettest.Eventually(t, "the bridge is gone", func() bool { return budget.Left() == 10 })
		})
	}
}

// As long as one way carries something the other may wait for longer than that.
func TestBridgeStuckOneWay(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	c, budget := bridgedFor(t, 2*time.Second, func(s *tls.Conn) {
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				s.Write([]byte("."))
			}
		}
	})
	defer close(done)
	go func() { // is stuck
		for {
			if _, err := c.TCP.Blocking().Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	_, err := io.CopyN(io.Discard, c.TCP.Blocking(), 50)
	require.NoError(t, err)
	assert.EqualValues(t, 8, budget.Left())
}
