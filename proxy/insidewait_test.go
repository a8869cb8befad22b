package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

// Who waits in a tunnel for handshakes of its own that do not end has the time of a head, as one that
// says nothing.
func TestInsideWaitEnds(t *testing.T) {
	g := startInside(t, []string{"http/1.1"}, func(http.ResponseWriter, *http.Request) {}, func(_ *policy.Inspected, o *Options) { o.HeadTimeout = 500 * time.Millisecond })
	g.terminator.FloodWait = time.Hour
	g.rules(t, "api.test\n"+allowLoopback) // from here on it is seen
	keys := terminate.NewKeys(nettest.NewCA(t).Issue("api.test"), nil)
	hello := nettest.ClientHello(t, &tls.Config{ServerName: "api.test"})
	stays := func() (context.Context, func()) { return context.Background(), func() {} }
	const burst = 256
	for range burst {
		client, gateway := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.terminator.Shake(gateway, keys, terminate.Account{Addr: netip.MustParseAddr("127.0.0.1"), Tenant: g.tenant.Name}, stays)
		}()
		t.Cleanup(func() {
			client.Close()
			<-done
		})
		_, err := client.Write(hello)
		require.NoError(t, err)
		_, err = client.Read(make([]byte, 1)) // it is at work, and goes on no further
		require.NoError(t, err)
	}
	c := g.dial(t)
	c.send(t, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", g.target)
	require.Contains(t, c.head(t), " 200 ")
	says(t, c.TCPConn, string(hello))
	require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err := io.Copy(io.Discard, c)
	assert.NoError(t, err)
	nettest.Eventually(t, "it is gone", func() bool { return len(g.Open()) == 0 })
}
