package proxy

import (
	"net/netip"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/proxy/accept"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

// newTerminator makes that for clients that come by TLS.
func (s *Server) newTerminator() *terminate.Terminator {
	return terminate.New(terminate.Options{
		Serve:            s.serveSecure,
		HandshakeTimeout: s.HeadTimeout,
		Budget:           s.Budget,
		Announced:        s.announces,
		Often:            s.handshakesOf,
		Report:           s.panicked,
		Refused:          s.handshakeFailed,
		Waits:            s.Metrics.HandshakeWaited.Inc,
	})
}

// handshakesOf is how often a client may begin one: as often as it likes while it is the only one. Others may
// be behind its address, whom their tenant tells from it where it says what it is. A balancer whose header
// has named it is another.
func (s *Server) handshakesOf(client terminate.Account) int {
	live := s.live.Load()
	if !s.door.Others(client.Addr) && (client.Tenant == "" || live.ByAddr() || !live.BusyBeside(client.Tenant)) {
		return 0
	}
	return live.Tenant(client.Addr).Limits.HandshakesPerClient
}

// SetKeys puts k in force for the clients of ServeTLS. Without it nobody is let in there.
func (s *Server) SetKeys(k *terminate.Keys) { s.terminator.SetKeys(k) }

// ServeTLS is Serve for clients that speak TLS to the proxy.
func (s *Server) ServeTLS(l *sock.Listener) error {
	return s.serve(l, func() *accept.Acceptor {
		return accept.New(l, func(_ *poll.Loop, c *sock.Conn) { s.terminator.Take(c) }, s.cannotAccept)
	})
}

// serveSecure serves a client that has come by TLS.
func (s *Server) serveSecure(fd int, client *terminate.Client) {
	c := s.free.Get().(*conn)
	c.tcp.Init(fd, client.From())
	c.secure = client
	s.accept(nil, c)
}

// handshakeFailed counts it, and has a line in the log say why, one in a second at most, and
// one of those about certificates: it is the client's doing.
func (s *Server) handshakeFailed(client netip.AddrPort, err error) {
	s.Metrics.HandshakeFailed.Inc()
	if s.door.Draining() {
		return
	}
	said := &s.lastFailed[0]
	if strings.Contains(err.Error(), "certificate") {
		said = &s.lastFailed[1]
	}
	now := time.Now().UnixNano()
	if last := said.Load(); now-last < int64(time.Second) || !said.CompareAndSwap(last, now) {
		return
	}
	s.Log.Warn("TLS handshake with a client failed", "client", client.String(), "error", err)
}
