package proxy

import (
	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tlshello"
)

// A tunnel that was asked for by an address may be one to an inspected host: its ClientHello names
// that. It is decided as that host then, at that address, and opened as if it had been asked for by
// the name; and leads to that address alone, whose server must prove the name.

// mayBeInspected reports whether the request is for such a tunnel: its first bytes are waited for
// where they must be TLS, so that a server which speaks first is not kept waiting.
func (x *exchange) mayBeInspected() bool {
	t := x.ticket.Tenant
	if t.Inspect == nil || !x.wanted.Target.Host.IsAddr() || x.ticket.Inspected != nil || x.gen.TunnelCheck() == policy.CheckOff {
		return false
	}
	want := t.Rules.Protocol(x.ticket.Decision)
	return (want == "tls" || want == "" && x.wanted.Target.Port == 443) && t.Inspect.OpensNames(x.wanted.Target.Port)
}

// peek tells the client that its tunnel is made, and looks at what it sends first. The server is
// connected to already.
func (x goExchange) peek() bool {
	c := x.c
	x.did.tunnel = true
	x.keepHeads() // before the buffer that they are in goes
	c.touch()
	if _, err := c.tcp.Write(x.established()); err != nil {
		x.did.class = answer.ClassClientGone
		return false
	}
	host, ech, ok := x.named()
	if !ok || !x.decideAs(host) {
		return x.switchTo(nil) // where it is judged as any other
	}
	c.srv.Metrics.Checked(metrics.CheckPassed, ech)
	x.did.details = "opened as " + host.String() + ", which the client's first bytes name"
	x.dropUpstream() // each request inside has a connection of its own
	return x.open()
}

// named waits for a ClientHello, and returns the inspected host that it names, if it does.
func (x goExchange) named() (host acl.Target, ech, ok bool) {
	c := x.c
	if c.setLimit(c.srv.checkTime) != nil {
		return host, false, false
	}
	for {
		hello, err := tlshello.Parse(c.buffered())
		switch {
		case err == nil:
			name, bad := acl.ParseHost(hello.ServerName)
			host = acl.Target{Host: name, Port: x.wanted.Target.Port}
			return host, hello.ECH, bad == nil && name.IsName() && x.tenant().Inspect.Of(host, true) != nil
		case err != tlshello.ErrMore && len(c.buffered()) > 0, len(c.buffered()) >= outbound.OpeningMost, c.fill() != nil:
			return host, false, false
		}
	}
}

// decideAs admits the request as one for an inspected host, at the address that it was asked for
// by. It reports false, and leaves everything as it was, when the rules do not let it be.
func (x goExchange) decideAs(host acl.Target) bool {
	s, asked := x.c.srv, x.wanted
	x.wanted.HTTP, x.wanted.Login = nil, &x.c.socks.login // its head is gone
	x.wanted.Target, x.wanted.At = host, x.did.addr.Addr()
	x.gen = s.live.Load()
	if s.Gate.AdmitAddr(x.gen, &x.wanted, x.wanted.At, &x.ticket) == nil && x.ticket.Inspected != nil {
		return true
	}
	x.wanted.Target, x.wanted.At = asked.Target, asked.At
	if err := s.Gate.AdmitAddr(x.gen, &x.wanted, x.did.addr.Addr(), &x.ticket); err != nil {
		x.did.details = err.Error() // it is revoked, once it is known of
	}
	return false
}

// notYetSaid is what the client must be told yet when its tunnel is opened.
func (x *exchange) notYetSaid() []byte {
	if x.wanted.At.IsValid() {
		return nil
	}
	return x.established()
}

// refuseOpen ends a tunnel that cannot be opened.
func (x goExchange) refuseOpen(err error) bool {
	if !x.wanted.At.IsValid() {
		return x.refuse(err)
	}
	// The client was told that there is a tunnel: it hears so in its handshake.
	x.did.class, x.did.details = answer.ClassInternal, err.Error()
	x.c.tcp.Write(accessDenied)
	return false
}
