package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

// A tunnel to an inspected host is opened: the client does its handshake with the gateway, and what
// is inside is served by this front door as the requests of one more client connection, over a
// pair on loopback, as those are that come by TLS to the proxy itself. The goroutine that serves
// the CONNECT carries the bytes, until both are done with each other.

// inside is what the requests of an opened tunnel have of the CONNECT that made it.
type inside struct {
	target acl.Target
	client netip.AddrPort
	who    policy.Who
	secure *terminate.Client      // the certificate that the client has shown to the proxy
	name   atomic.Pointer[string] // what the client has called the server in its handshake
	h2     atomic.Bool            // it has agreed on HTTP/2
	first  flight                 // of connections to the server
}

// open makes a tunnel that was admitted one whose requests are asked what they may do. It returns
// when that has ended.
func (x goExchange) open() (keep bool) {
	c, s := x.c, x.c.srv
	host := x.wanted.Target.Host.String()
	certificate, err := x.tenant().Inspect.Certificate(host)
	if err != nil {
		return x.refuse(&outbound.Error{Kind: outbound.NoCredential, Err: err})
	}
	if !s.Budget.Take(1) {
		return x.refuse(&outbound.Error{Kind: outbound.NoDescriptors, Err: errors.New("no descriptor is free to open a tunnel with")})
	}
	defer s.Budget.Give(1)
	near, far, err := sock.Pair()
	if err != nil {
		return x.refuse(&outbound.Error{Kind: outbound.NoDescriptors, Err: err})
	}
	defer near.Close()
	in := &inside{target: x.wanted.Target, client: c.from(), who: x.wanted.Who, secure: c.secure}
	keys := s.leaves.of(certificate)
	x.did.status, x.did.tunnel = 200, true
	c.deregister()
	c.touch()
	if _, err := c.tcp.Write(x.established()); err != nil {
		sock.CloseFD(far)
		x.did.class = answer.ClassClientGone
		return false
	}
	c.setLimit(0) // that of what is inside ends it
	x.did.firstByte = time.Since(x.did.start)
	early := bytes.Clone(c.buffered())
	c.r = c.w
	x.keepHeads() // before the buffer that it is in goes
	c.releaseBuffer()
	c.does(x.doing())
	s.Metrics.Tunnels.Inc()
	defer s.Metrics.Tunnels.Dec()
	s.serveInside(far, in)
	c.tcp.Share()
	near.Share()
	cut := context.AfterFunc(s.ctx, func() { // the last word: who takes nothing would be waited for
		c.tcp.ResetOnClose()
		c.tcp.Close()
		near.Close()
	})
	defer cut()
	shook := func(state tls.ConnectionState) (serve func(net.Conn)) {
		in.shook(state)
		if c.Why() != 0 { // and the handshake had a deadline of its own
			c.wake()
		}
		if !in.h2.Load() {
			return nil
		}
		return func(client net.Conn) { s.serveStreams(client, in) }
	}
	x.did.received, x.did.sent = s.terminator.Relay(c.from(), c.tcp, early, near.Blocking(), keys, shook)
	return false
}

// shook takes down what the client calls the server, before a request comes.
func (in *inside) shook(s tls.ConnectionState) {
	in.name.Store(&s.ServerName)
	in.h2.Store(s.NegotiatedProtocol == "h2")
}

// calls reports whether the client has called the server so in its handshake, or nothing.
func (in *inside) calls(host acl.Host) bool {
	name := in.name.Load()
	if name == nil || *name == "" {
		return true
	}
	t, err := acl.ParseTarget(*name + ":443")
	return err == nil && t.Host == host
}

// serveInside serves what comes out of an opened tunnel. Its client has been counted.
func (s *Server) serveInside(fd int, in *inside) {
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
