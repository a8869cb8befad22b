package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/dial"
)

// A session is taken up again by who has made it, and by nobody else.
func TestSessions(t *testing.T) {
	ca := nettest.NewCA(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	resumed := make(chan bool)
	go func() {
		config := &tls.Config{Certificates: []tls.Certificate{ca.Issue("a.test", "b.test")}}
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := tls.Server(c, config)
			if s.Handshake() == nil {
				s.Write([]byte("x"))
				resumed <- s.ConnectionState().DidResume
			}
			s.Close()
		}
	}()
	at := netip.MustParseAddrPort(l.Addr().String())
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca.PEM))
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(100)}
	again := func(tenant, credential, name string) bool {
		tcp, err := dial.TCP(t.Context(), netip.Addr{}, at)
		require.NoError(t, err)
		c := &Conn{TCP: tcp, connLife: connLife{tenant: tenant, credential: credential, Dst: at}}
		defer c.Close()
		require.NoError(t, c.Blocking().Secure(t.Context(), name, config))
		was := <-resumed
		_, err = c.Blocking().Read(make([]byte, 1)) // and what the server says of sessions with it
		require.NoError(t, err)
		return was
	}
	for _, who := range [][3]string{{"shop", "", "a.test"}, {"ci", "", "a.test"}, {"shop", "one", "a.test"}, {"shop", "two", "a.test"}, {"shop", "", "b.test"}} {
		assert.False(t, again(who[0], who[1], who[2]), "%q", who)
	}
	for _, who := range [][3]string{{"shop", "", "a.test"}, {"ci", "", "a.test"}, {"shop", "one", "a.test"}, {"shop", "", "b.test"}} {
		assert.True(t, again(who[0], who[1], who[2]), "%q", who)
	}
}
