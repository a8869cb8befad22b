package terminate

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Whoever waits for handshakes that have failed before it ends with its connection, whichever side
// ends that, and holds no descriptors after.
func TestFloodWaitEnds(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, client *net.TCPConn, door *sock.Conn){
		"the client resets": func(t *testing.T, client *net.TCPConn, _ *sock.Conn) {
			require.NoError(t, client.SetLinger(0))
			client.Close()
		},
		"the client closes":        func(_ *testing.T, client *net.TCPConn, _ *sock.Conn) { client.Close() },
		"the front door closes":    func(_ *testing.T, _ *net.TCPConn, door *sock.Conn) { door.Close() },
		"the front door resets it": func(_ *testing.T, _ *net.TCPConn, door *sock.Conn) { door.ResetOnClose(); door.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			budget := fdbudget.New(2)
			doors := make(chan *sock.Conn, 1)
			f := start(t, func(c *sock.Conn) { doors <- c }, func(o *Options) { o.Budget, o.HandshakeTimeout = budget, time.Hour })
			f.shares.flooded(t, "127.0.0.1", 10_000)
			c := f.client(t).NetConn()
			_, err := c.Write(nettest.ClientHello(t, &tls.Config{ServerName: "127.0.0.1"}))
			require.NoError(t, err)
			nettest.Eventually(t, "it waits", func() bool { return f.shares.waits("127.0.0.1") })
			door := <-doors
			defer door.Close()
			end(t, c.(*net.TCPConn), door)
			nettest.Eventually(t, "it waits no more", func() bool { return f.Len() == 0 && !f.shares.waits("127.0.0.1") })
			assert.EqualValues(t, 2, budget.Left())
		})
	}
}

// Who waits has no more than the time of a handshake, in all.
func TestFloodWaitIsBounded(t *testing.T) {
	const limit = 2 * time.Second
	f := start(t, func(c *sock.Conn) { io.Copy(io.Discard, c.Blocking()); c.Close() }, func(o *Options) { o.HandshakeTimeout = limit })
	f.shares.flooded(t, "127.0.0.1", 10_000)
	begun := time.Now()
	c := f.client(t).NetConn()
	hello := nettest.ClientHello(t, &tls.Config{ServerName: "127.0.0.1"})
	_, err := c.Write(hello[:100])
	require.NoError(t, err)
	time.AfterFunc(limit*3/4, func() { c.Write(hello[100:]) })
	nettest.Eventually(t, "it waits", func() bool { return f.shares.waits("127.0.0.1") })
	nettest.Eventually(t, "it has waited", func() bool { return !f.shares.waits("127.0.0.1") })
	assert.Less(t, time.Since(begun), limit*5/4)
}
