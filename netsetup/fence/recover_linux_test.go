package fence

import (
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	outward "github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// A connection from a held address goes on within a second of the end of a loss, of three
// seconds and more; one without its options has to wait for the kernel's next try, which is
// as far away as the loss was long.
func TestRecovery(t *testing.T) {
	l := newLAN(t)
	echo(t, l.ServerA, nettest.ServerAV4+":7")
	var f *Fence
	l.pod(t, func() { f = one(t, both, false) })
	l.bring(t)
	l.pod(t, func() { hold(t, f, 20*time.Second) })
	to := netip.MustParseAddrPort(nettest.ServerAV4 + ":7")
	var held, plain *sock.Conn
	in(t, l.Egress, func() {
		var err error
		held, err = outward.Dialer{Held: true}.TCP(t.Context(), aa(nettest.SourceV4), to)
		require.NoError(t, err)
		plain, err = outward.TCP(t.Context(), aa(nettest.SourceV4), to)
		require.NoError(t, err)
	})
	defer held.Close()
	defer plain.Close()
	require.NoError(t, held.Control(func(fd uintptr) {
		if _, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, 44); err == unix.ENOPROTOOPT {
			t.Skip("this kernel has no TCP_RTO_MAX_MS (Linux 6.15)")
		}
	}))
	word := func(c *sock.Conn) {
		_, err := c.Blocking().Write([]byte("word"))
		require.NoError(t, err)
	}
	back := func(c *sock.Conn) {
		_, err := io.ReadFull(c.Blocking(), make([]byte, 4))
		assert.NoError(t, err)
	}
	for _, c := range []*sock.Conn{held, plain} {
		word(c)
		back(c)
	}

	l.pod(t, func() { require.NoError(t, f.LetGo()) })
	lost := time.Now()
	word(held)
	word(plain)
	nettest.Eventually(t, "the kernel waits for longer and longer", func() (longer bool) {
		require.NoError(t, plain.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			require.NoError(t, err)
			longer = info.Backoff >= 4 // so 16 times the first wait of 0.2 s and more is next
		}))
		return longer
	})
	l.pod(t, func() { hold(t, f, 20*time.Second) })
	lifted := time.Now()
	soon := make(chan time.Duration)
	go func() {
		back(held)
		soon <- time.Since(lifted)
	}()
	back(plain)
	late := time.Since(lifted)
	early := <-soon
	t.Logf("after a loss of %v: %v with the options of held addresses, %v without", lifted.Sub(lost).Round(time.Millisecond), early.Round(time.Millisecond), late.Round(time.Millisecond))
	assert.Greater(t, lifted.Sub(lost), 2500*time.Millisecond)
	assert.Less(t, early, 1500*time.Millisecond)
	assert.Greater(t, late, 2*time.Second, "the control: without them it takes long")
}

// The kernel gives up what it could not send fifteen times, and at the rate of held addresses
// that is soon. Those that are cared for live on, and send at once when the fence is lifted.
func TestLongLoss(t *testing.T) {
	l := newLAN(t)
	echo(t, l.ServerA, nettest.ServerAV4+":7")
	echo(t, l.ServerA, "["+nettest.ServerAV6+"]:7")
	write(t, l.Egress, "/proc/sys/net/ipv4/tcp_retries2", "5") // of 15, which takes so much longer
	var f *Fence
	l.pod(t, func() { f = one(t, both, false) })
	l.bring(t)
	l.pod(t, func() { hold(t, f, 30*time.Second) })
	open := func(source, server string) (c *sock.Conn) {
		in(t, l.Egress, func() {
			var err error
			c, err = outward.Dialer{Held: true}.TCP(t.Context(), aa(source), netip.AddrPortFrom(aa(server), 7))
			require.NoError(t, err)
		})
		t.Cleanup(func() { c.Close() })
		return c
	}
	cared, left := open(nettest.SourceV4, nettest.ServerAV4), open(nettest.SourceV6, nettest.ServerAV6)
	care := []netip.Addr{aa(nettest.SourceV4)}
	word := func(c *sock.Conn) error {
		_, err := c.Blocking().Write([]byte("word"))
		require.NoError(t, err)
		_, err = io.ReadFull(c.Blocking(), make([]byte, 4))
		return err
	}
	require.NoError(t, word(cared))
	require.NoError(t, word(left))

	l.pod(t, func() { require.NoError(t, f.LetGo()) })
	outward.Fenced(care)
	back := make(chan error, 1)
	go func() { back <- word(cared) }()
	require.ErrorIs(t, word(left), unix.ETIMEDOUT, "the control")
	l.pod(t, func() { hold(t, f, 30*time.Second) })
	lifted := time.Now()
	outward.Lifted(care)
	require.NoError(t, <-back)
	assert.Less(t, time.Since(lifted), time.Second)
	require.NoError(t, word(cared))
}

// echo serves at an address what comes there.
func echo(t *testing.T, n *nettest.Netns, addr string) {
	t.Helper()
	l := n.Listen(addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open sync.WaitGroup
		defer open.Wait()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}
