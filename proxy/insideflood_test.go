package proxy

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

// holding is a client's connection whose handshake goes on from the hello when go is closed.
type holding struct {
	net.Conn
	writes int
	heard  chan struct{} // is closed when the gateway has answered the hello
	goOn   chan struct{}
	over   <-chan struct{} // the test is
}

func (h *holding) Write(b []byte) (int, error) {
	if h.writes++; h.writes == 2 {
		close(h.heard)
		select {
		case <-h.goOn:
		case <-h.over:
		}
	}
	return h.Conn.Write(b)
}

// handshakeOf begins a handshake of that client in a tunnel, which goes on when goOn is closed.
func (g *insideGate) handshakeOf(t testing.TB, client string) (h *holding, done chan error) {
	t.Helper()
	raw, err := dialFrom(t, client, g.Addr)
	require.NoError(t, err)
	says(t, raw, "CONNECT "+g.target+" HTTP/1.1\r\nHost: x\r\n\r\n")
	hears(t, raw, "HTTP/1.1 200 Connection established\r\n\r\n")
	h = &holding{Conn: raw, heard: make(chan struct{}), goOn: make(chan struct{}), over: t.Context().Done()}
	done = make(chan error, 1)
	go func() { done <- tls.Client(h, &tls.Config{ServerName: "api.test", RootCAs: g.roots}).Handshake() }()
	return h, done
}

// A client has as many handshakes a second as it likes while it is alone, and beside others as many as the
// policy in force says.
func TestInsideOften(t *testing.T) {
	g := startInside(t, []string{"http/1.1"}, func(http.ResponseWriter, *http.Request) {}, func(_ *policy.Inspected, o *Options) { o.HeadTimeout = time.Hour })
	g.terminator.FloodWait = time.Hour
	g.tenant.Limits.HandshakesPerClient = 1
	g.rules(t, "api.test\n"+allowLoopback) // from here on it is seen
	const burst = 256
	whole := func(n int) {
		for range n {
			h, done := g.handshakeOf(t, "127.0.0.1")
			close(h.goOn)
			require.NoError(t, <-done)
			require.NoError(t, h.Close()) // or there would be more than there is room for
		}
	}
	whole(burst + 1)
	other, err := dialFrom(t, "127.0.0.2", g.Addr)
	require.NoError(t, err)
	nettest.Eventually(t, "it is there", func() bool { return g.door.Others(netip.MustParseAddr("127.0.0.1")) })
	for end := time.Now().Add(time.Minute); testutil.ToFloat64(g.Metrics.HandshakeWaited) == 0; { // one is paid back each second
		require.True(t, time.Now().Before(end), "it never has to wait")
		whole(1)
	}
	g.tenant.Limits.HandshakesPerClient = 1_000_000
	g.rules(t, "api.test\n"+allowLoopback+"\n")
	whole(2)
	require.NoError(t, other.Close())
	nettest.Eventually(t, "it has gone", func() bool { return !g.door.Others(netip.MustParseAddr("127.0.0.1")) })
	whole(burst)
}

// Who is of another tenant, which what it shows says, is beside a client too, at the same address.
func TestInsideOftenBesideTenant(t *testing.T) {
	g := start(t, allowLoopback, nil, nil)
	shown := func(name string) []auth.Selector {
		sel, err := auth.ParseSelector(auth.ByUser, name)
		require.NoError(t, err)
		return []auth.Selector{sel}
	}
	var rest, a, b policy.Usage
	limits := policy.Limits{HandshakesPerClient: 7}
	g.SetGeneration(policy.Set{
		Rest: policy.Tenant{Name: policy.DefaultName, Limits: limits, Usage: &rest},
		Tenants: []policy.Taker{
			{Tenant: policy.Tenant{Name: "a", Limits: limits, Usage: &a}, Shown: shown("anna")},
			{Tenant: policy.Tenant{Name: "b", Limits: limits, Usage: &b}, Shown: shown("bert")},
			{Tenant: policy.Tenant{Name: "uncounted", Limits: limits}, Shown: shown("carl")},
		},
	}.Generation())
	often := func(tenant string) int {
		return g.handshakesOf(terminate.Account{Addr: netip.MustParseAddr("127.0.0.1"), Tenant: tenant})
	}
	assert.Zero(t, often("a"))
	for _, other := range []*policy.Usage{&b, &rest} {
		require.True(t, other.Hold(&limits))
		assert.Equal(t, 7, often("a"))
		other.Release()
	}
	require.True(t, a.Hold(&limits))
	assert.Zero(t, often("a"), "it has something open itself")
	assert.Equal(t, 7, often("b"))
	assert.Zero(t, often(""), "whose it is is not known yet, before it has shown anything")
}

// Handshakes that a client does not bring to an end keep its own waiting and nobody else's, and who goes
// while it waits leaves nothing behind.
func TestInsideFlood(t *testing.T) {
	g := startInside(t, []string{"http/1.1"}, func(http.ResponseWriter, *http.Request) {}, func(_ *policy.Inspected, o *Options) { o.HeadTimeout = time.Hour })
	g.terminator.FloodWait = time.Hour
	g.rules(t, "api.test\n"+allowLoopback) // from here on it is seen
	const burst = 256
	var held []*holding
	var ends []chan error
	for range burst {
		h, done := g.handshakeOf(t, "127.0.0.1")
		<-h.heard
		held, ends = append(held, h), append(ends, done)
	}
	ahead, waits := g.handshakeOf(t, "127.0.0.1")
	close(ahead.goOn)
	gone, _ := g.handshakeOf(t, "127.0.0.1")
	other, served := g.handshakeOf(t, "127.0.0.2")
	close(other.goOn)
	require.NoError(t, <-served)
	assert.Empty(t, waits)
	require.NoError(t, gone.Conn.(*net.TCPConn).SetLinger(0))
	require.NoError(t, gone.Close())
	nettest.Eventually(t, "who has gone is forgotten", func() bool { return len(g.Open()) == burst+2 })
	assert.Empty(t, waits)
	close(held[0].goOn)
	require.NoError(t, <-ends[0])
	require.NoError(t, <-waits, "it takes the place of one that has come to a good end")
	g.handshakeOf(t, "127.0.0.1") // and is there still when the gateway ends
	for i, h := range held[1:] {
		close(h.goOn)
		require.NoError(t, <-ends[1+i])
	}
}
