package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

// A tunnel to an inspected host is opened: the client does its handshake with the gateway, and what
// is inside is served as the requests of that connection, one after the other, by the goroutine that
// serves the CONNECT. In HTTP/2 each request is one of a connection of its own: see streams.go.

// inside is what the requests of an opened tunnel have of the CONNECT that made it.
type inside struct {
	target acl.Target
	at     netip.Addr // that the tunnel was asked for by; the zero Addr: by its name
	client netip.AddrPort
	who    policy.Who
	secure *terminate.Client // the certificate that the client has shown to the proxy
	name   string            // what the client has called the server in its handshake
	h2     bool              // it has agreed on HTTP/2
	first  flight            // of connections to the server
}

// open makes a tunnel that was admitted one whose requests are asked what they may do. It returns
// when that has ended.
func (x goExchange) open() (keep bool) {
	c, s := x.c, x.c.srv
	certificate, err := x.tenant().Inspect.Certificate(x.wanted.Target.Host.String())
	if err != nil {
		return x.refuseOpen(&outbound.Error{Kind: outbound.NoCredential, Err: err})
	}
	keys := s.leaves.of(certificate)
	x.did.status, x.did.tunnel = 200, true
	c.touch()
	if _, err := c.tcp.Write(x.notYetSaid()); err != nil {
		x.did.class = answer.ClassClientGone
		return false
	}
	x.did.firstByte = time.Since(x.did.start)
	in := &inside{target: x.wanted.Target, at: x.wanted.At, client: c.from(), who: x.wanted.Who, secure: c.secure}
	t := &sealed{wire: wire{Blocking: c.tcp, early: bytes.Clone(c.buffered())}}
	c.r = c.w
	x.keepHeads() // before the buffer that it is in goes
	c.releaseBuffer()
	c.does(x.doing())
	c.tcp.Share()
	s.Metrics.Tunnels.Inc()
	defer s.Metrics.Tunnels.Dec()
	if c.shake(t, keys, x.tenant().Name) {
		state := t.ConnectionState()
		in.name, in.h2 = state.ServerName, state.NegotiatedProtocol == "h2"
		if in.h2 {
			c.setLimit(0)  // that of its streams ends it
			c.deregister() // x/net closes the connection, whose descriptor may become another
			s.serveStreams(t, in)
		} else {
			c.serveInside(x, in, t)
		}
	}
	x.did.received, x.did.sent = t.received.Load(), t.sent.Load()
	return false
}

// insideInPlain is for clients that have sent a request in plain into a tunnel that is opened.
const insideInPlain = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" +
	"What is in a tunnel to this host must be TLS: the proxy's policy asks what requests do there.\n"

// shake does the handshake with the client, who is as one that has sent no request yet.
func (c goConn) shake(t *sealed, keys *terminate.Keys, tenant string) (done bool) {
	if c.setLimit(c.srv.HeadTimeout) != nil {
		return false
	}
	end := time.Now().Add(c.srv.HeadTimeout)
	c.waiting.Store(waitFirst)
	var err error
	t.Conn, err = c.srv.terminator.Shake(&t.wire, keys, terminate.Account{Addr: c.Client(), Tenant: tenant}, func() (context.Context, func()) {
		there, done := c.whileThere() // which is content with a limit that has passed
		ctx, cancel := context.WithDeadline(there, end)
		return ctx, func() { cancel(); done() }
	})
	c.waiting.Store(notWaiting)
	if err == nil {
		return true
	}
	if !t.wire.any || c.gone.Load() || c.Why() != 0 { // it has said nothing, or has given way
		return false
	}
	c.srv.handshakeFailed(c.from(), err)
	if bad, ok := errors.AsType[tls.RecordHeaderError](err); ok && bad.Conn != nil && terminate.LooksLikeHTTP(bad.RecordHeader) {
		_, err = c.tcp.Write([]byte(insideInPlain))
	} else {
		err = nil
	}
	if err == nil {
		c.lastAnswer() // or the client may not get the alert
	}
	return false
}

// serveInside answers one request after the other that comes out of the tunnel that x has made.
func (c goConn) serveInside(x goExchange, in *inside, t *sealed) {
	socks, served := c.socks, c.served
	c.inside, c.sealed, c.socks, c.served = in, t, socksLife{}, 0
	keep := true
	for keep && c.waitForRequest() {
		r := exchanges.Get().(*exchange)
		r.begin(c.conn)
		keep = r.onGoroutine().serve()
		r.onGoroutine().end()
		c.does(x.doing())
		c.served++
	}
	c.r = c.w
	c.releaseBuffer()
	if keep || c.lingers { // else what was sent last is not the whole, and must not look like it
		c.endInside()
	}
	c.inside, c.sealed, c.socks, c.served = nil, nil, socks, served
}

// endInside says that nothing more comes out of the tunnel (RFC 8446 section 6.1).
func (c goConn) endInside() {
	c.mu.Lock() // or whoever ends the connection may be about to set the past as its deadline
	cut := c.gone.Load() || c.srv.door.Cutting()
	if !cut {
		c.tcp.SetWriteDeadline(time.Now().Add(lingerTime))
	}
	c.mu.Unlock()
	if !cut {
		c.sealed.CloseWrite()
	}
}

// calls reports whether the client has called the server so in its handshake, or nothing.
func (in *inside) calls(host acl.Host) bool {
	if in.name == "" {
		return true
	}
	t, err := acl.ParseTarget(in.name + ":443")
	return err == nil && t.Host == host
}

// serveStream serves what comes out of a stream of an opened tunnel. Its client has been counted.
func (s *Server) serveStream(fd int, in *inside) {
	c := s.free.Get().(*conn)
	c.tcp.Init(fd, in.client)
	c.client, c.secure, c.inside = in.client, in.secure, in
	s.enter(nil, c, door.Limits{Conns: s.MaxConns, Beside: true})
}

// serveInside serves a request of an opened tunnel, which is in origin form.
func (x goExchange) serveInside() (keep bool) {
	in := x.c.inside
	x.did.mode = metrics.Inspected
	x.wanted.Client, x.wanted.Target = x.c.Client(), in.target // for the record, if it comes to nothing else
	switch {
	case x.target.Form == http1.AuthorityForm, x.target.Form == http1.AbsoluteForm:
		return x.refuseMessage(errInsideForm)
	case x.target.Form == http1.AsteriskForm:
		x.target.Path = x.req.Target
	}
	host, err := x.c.srv.targets.read(x.req.Host, 443)
	if err != nil || host != in.target || !in.calls(host.Host) {
		return x.refuseMessage(errMisdirected)
	}
	x.target = http1.Target{Form: http1.AbsoluteForm, Scheme: "https", Authority: x.req.Host, Path: x.target.Path}
	return x.forward()
}

var (
	errInsideForm  = &http1.Error{Status: 400, Msg: "a request inside an opened tunnel names its path alone (origin form)"}
	errMisdirected = &http1.Error{Status: 421, Msg: "Host and the name in the handshake must be those that the tunnel was asked for (CONNECT)"}
)

// leaves keep what is shown to clients of inspected hosts, with the keys of the sessions that may
// be taken up again: each host has its own, so that none is taken up at another.
type leaves struct {
	mu  sync.Mutex // guards all
	all map[*tls.Certificate]*terminate.Keys
}

// mostLeaves is how many are kept.
const mostLeaves = 4096

// of are the keys to show that certificate with.
func (l *leaves) of(c *tls.Certificate) *terminate.Keys {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.all[c]
	if k == nil {
		if l.all == nil || len(l.all) >= mostLeaves {
			l.all = map[*tls.Certificate]*terminate.Keys{}
		}
		k = terminate.NewKeys(*c, nil, "h2", "http/1.1")
		l.all[c] = k
	}
	return k
}
