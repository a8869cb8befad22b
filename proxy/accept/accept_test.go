package accept

import (
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) *sock.Listener {
	l, err := sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func never(t *testing.T) func(error, time.Duration) {
	return func(err error, _ time.Duration) { t.Errorf("retried after %v", err) }
}

// Whoever has connected before Stop is served, though nobody had accepted it.
func TestStopTakesWhoWaits(t *testing.T) {
	l := listen(t)
	var clients []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		clients = append(clients, c)
	}
	Stop(l)
	served := 0
	err := Loop(t.Context(), l, func() bool { return true }, func(c *sock.Conn) {
		served++
		c.Close()
	}, never(t))
	require.NoError(t, err)
	assert.Equal(t, len(clients), served)
	_, err = net.Dial("tcp", l.Addr().String())
	assert.ErrorIs(t, err, syscall.ECONNREFUSED, "the listener is closed")
}

func TestClosedBySomebodyElse(t *testing.T) {
	l := listen(t)
	l.Close()
	err := Loop(t.Context(), l, func() bool { return false }, func(*sock.Conn) {}, never(t))
	assert.ErrorIs(t, err, net.ErrClosed)
}

// What passes is waited for; a deadline that nobody meant as the end is an example.
func TestRetries(t *testing.T) {
	l := listen(t)
	Stop(l)
	var tries atomic.Int32
	var waits []time.Duration
	served := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- Loop(t.Context(), l, func() bool { return tries.Load() > 3 }, func(c *sock.Conn) {
			c.Close()
			close(served)
		}, func(_ error, in time.Duration) {
			waits = append(waits, in)
			if tries.Add(1) == 3 {
				l.SetDeadline(time.Time{})
			}
		})
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	<-served
	tries.Add(1)
	Stop(l)
	require.NoError(t, <-done)
	assert.Equal(t, []time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond}, waits)
}
