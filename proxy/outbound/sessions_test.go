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
	"github.com/sluiceproxy/sluice/proxy/policy"
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

// seen is a cache that has look called when a handshake begins.
type seen struct {
	tls.ClientSessionCache
	look func()
}

func (s seen) Get(key string) (*tls.ClientSessionState, bool) {
	s.look()
	return s.ClientSessionCache.Get(key)
}

// From the beginning of a handshake on the connection is one that may be closed beside it: who is about
// to use a bare descriptor would use that of somebody else, who has got the number by then.
func TestHandshakesAreShared(t *testing.T) {
	ca := nettest.NewCA(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{ca.Issue("a.test")}})
	require.NoError(t, err)
	defer l.Close()
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 2 {
			if c, err := l.Accept(); err == nil {
				c.(*tls.Conn).Handshake()
				c.Close()
			}
		}
	}()
	at := netip.MustParseAddrPort(l.Addr().String())
	for name, secure := range map[string]func(c *Conn, config *tls.Config) error{
		"to a server": func(c *Conn, config *tls.Config) error { return c.Blocking().Secure(t.Context(), "a.test", config) },
		"to a parent": func(c *Conn, config *tls.Config) error {
			config.ServerName = "a.test"
			return new(Gate).secureParent(t.Context(), c, &policy.Parent{TLS: config})
		},
	} {
		tcp, err := dial.TCP(t.Context(), netip.Addr{}, at)
		require.NoError(t, err)
		c := &Conn{TCP: tcp, connLife: connLife{Dst: at}}
		_, bare := tcp.Bare()
		require.True(t, bare, "as a connection on this host is")
		looks := 0
		require.NoError(t, secure(c, &tls.Config{RootCAs: ca.Pool, ClientSessionCache: seen{tls.NewLRUClientSessionCache(1), func() {
			looks++
			_, bare = tcp.Bare()
		}}}), name)
		assert.Equal(t, 1, looks, name)
		assert.False(t, bare, name)
		c.Close()
	}
	<-over
}
