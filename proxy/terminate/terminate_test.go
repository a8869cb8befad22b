package terminate

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// front has a terminator whose front door is serve, and connects clients to it.
type front struct {
	*Terminator
	ca *nettest.CA
	l  *sock.Listener
}

func start(t *testing.T, serve func(*sock.Conn), change func(*Options)) *front {
	t.Helper()
	o := Options{HandshakeTimeout: 20 * time.Second, FloodWait: time.Hour, Serve: func(fd int, c *Client) { go serve(sock.New(fd, c.From())) }}
	if change != nil {
		change(&o)
	}
	f := &front{Terminator: New(o), ca: nettest.NewCA(t)}
	f.SetKeys(NewKeys(f.ca.Issue("127.0.0.1"), nil))
	var err error
	f.l, err = sock.Listen("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() {
		f.l.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.Wait(ctx)
	})
	return f
}

// client connects one with small buffers, so that little is on its way to it.
func (f *front) client(t *testing.T) *tls.Conn { return f.clientFrom(t, "127.0.0.1") }

func (f *front) clientFrom(t *testing.T, addr string) *tls.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) { sock.SetInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	raw, err := d.Dial("tcp", f.l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { raw.Close() })
	require.NoError(t, raw.SetDeadline(time.Now().Add(20*time.Second)))
	var conn *sock.Conn
	nettest.Eventually(t, "it has come", func() bool {
		conn, err = f.l.Take()
		return err == nil
	})
	require.NoError(t, conn.Control(func(fd uintptr) { sock.SetInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10) }))
	f.Take(conn)
	return tls.Client(raw, &tls.Config{RootCAs: f.ca.Pool, ServerName: "127.0.0.1"})
}

// Who takes the end of its answer so slowly that the front door has long been done with it gives
// way when descriptors run short.
func TestLate(t *testing.T) {
	budget := fdbudget.New(2)
	f := start(t, func(c *sock.Conn) {
		c.Blocking().Write(make([]byte, 100<<10))
		c.Close()
	}, func(o *Options) { o.Budget = budget })
	slow := f.client(t)
	require.NoError(t, slow.Handshake())
	assert.Zero(t, f.CutLate(2), "it is on time")
	nettest.Eventually(t, "it gives way", func() bool { return f.CutLate(2) == 2 })
	assert.EqualValues(t, 2, budget.Left())
	_, err := io.ReadAll(slow)
	assert.Error(t, err, "what it has is not the whole")
	nettest.Eventually(t, "it is gone", func() bool { return f.Len() == 0 })
	assert.EqualValues(t, 2, budget.Left(), "they are given back once")

	// Who takes it in time has all of it, and the end.
	quick := f.client(t)
	b, err := io.ReadAll(quick)
	require.NoError(t, err)
	assert.Len(t, b, 100<<10)
}

// Who looks whether the port is there is no failed handshake; who sends something else is.
func TestRefused(t *testing.T) {
	refused := make(chan string, 10)
	f := start(t, func(c *sock.Conn) { io.Copy(io.Discard, c.Blocking()); c.Close() },
		func(o *Options) { o.Refused = func(_ netip.AddrPort, err error) { refused <- err.Error() } })
	for _, c := range []struct{ sent, want string }{
		{"", ""},
		{"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "a PROXY protocol header, and this address is not among --proxy-protocol-from"},
		{"\r\n\r\n\x00\r\nQUIT\n", "a PROXY protocol header, and this address is not among --proxy-protocol-from"},
		{"GET / HTTP/1.1\r\n\r\n", "tls: first record does not look like a TLS handshake"},
	} {
		raw := f.client(t).NetConn()
		io.WriteString(raw, c.sent)
		if c.want == "" {
			raw.(*net.TCPConn).SetLinger(0)
			raw.Close()
		} else {
			assert.Equal(t, c.want, <-refused)
			raw.Close()
		}
		nettest.Eventually(t, "it is gone", func() bool { return f.Len() == 0 })
		assert.Empty(t, refused)
	}
}
