package proxy

import (
	"errors"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
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
	c.does(x.doing()) // a tunnel is revoked where a request would not be
	x.keepHeads()     // before the buffer that they are in goes
	c.touch()
	if _, err := c.tcp.Write(x.established()); err != nil {
		x.did.class = answer.ClassClientGone
		return false
	}
	host, ech, ok := x.named()
	is := false
	if ok {
		var err error
		if is, err = x.decideAs(host); err != nil {
			return x.refuseAs(host, ech, err)
		}
	}
	if !is {
		if err := x.decideAsAsked(); err != nil {
			return x.refuseNow(err)
		}
		return x.switchTo(nil) // where it is judged as any other
	}
	c.srv.Metrics.Checked(metrics.CheckPassed, ech)
	x.did.details = "opened as " + host.String() + ", which the client's first bytes name"
	x.dropUpstream() // each request inside has a connection of its own
	return x.open()
}

// named waits for a ClientHello, and returns the inspected host that it names, if it does. When the
// server says something first, or the time is over, what comes is judged without keeping anybody waiting.
func (x goExchange) named() (host acl.Target, ech, ok bool) {
	c := x.c
	if len(x.unreadIn()) > 0 {
		return host, false, false
	}
	x.firstDue = max(1, int64(c.srv.door.Now()+c.srv.checkTime))
	defer x.untilServerSpeaks(time.Now().Add(c.srv.checkTime))()
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

// untilServerSpeaks has reads of the client end when the server sends something, or has ended, and
// at that time. done is called when they need not any more.
func (x goExchange) untilServerSpeaks(end time.Time) (done func()) {
	c, up := x.c, x.up.TCP.Blocking()
	c.tcp.Share()
	up.Share()
	c.readsEnd(c.tcp, end)
	spoke := make(chan struct{})
	go func() {
		defer close(spoke)
		defer c.srv.panicked.Recover(func() { c.readsEnd(c.tcp, past) })
		if up.ReadWhenReady(func(fd uintptr) bool { return sock.Readable(int(fd)) }) == nil {
			c.readsEnd(c.tcp, past)
		}
	}()
	return func() {
		c.readsEnd(up, past)
		<-spoke
		c.readsEnd(c.tcp, time.Time{})
		c.readsEnd(up, time.Time{})
	}
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// readsEnd bounds the reads of the client or its server. Those of a connection that was ended stay
// ended.
func (c goConn) readsEnd(of sock.Blocking, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Why() == 0 || at == past {
		of.SetReadDeadline(at)
	}
}

// decideAs admits the request as one for an inspected host, at the address that it was asked for
// by. is is false, and everything as it was, when what is in force by now says nothing of the host.
func (x goExchange) decideAs(host acl.Target) (is bool, err error) {
	s, asked := x.c.srv, x.wanted
	x.wanted.HTTP, x.wanted.Login = nil, &x.c.socks.login // its head is gone
	x.wanted.Target, x.wanted.At = host, x.did.addr.Addr()
	x.gen = s.live.Load()
	err = s.Gate.AdmitAddr(x.gen, &x.wanted, x.wanted.At, &x.ticket)
	if err != nil || x.ticket.Inspected != nil {
		return true, err
	}
	x.wanted.Target, x.wanted.At = asked.Target, asked.At
	return false, nil
}

// decideAsAsked admits the request as what it was asked for: its client may have taken its time.
func (x goExchange) decideAsAsked() error {
	s := x.c.srv
	x.wanted.HTTP, x.wanted.Login = nil, &x.c.socks.login // its head is gone
	x.gen = s.live.Load()
	switch err := s.Gate.AdmitAddr(x.gen, &x.wanted, x.did.addr.Addr(), &x.ticket); {
	case err == nil && !x.ticket.Route.StillLeads(x.up):
		return outbound.ErrMovedMeanwhile
	case x.gen.KeepsOpen():
	case err != nil:
		return err
	case x.ticket.Inspected != nil:
		return outbound.ErrInspectedNow
	}
	return nil
}

// refuseNow ends a tunnel that may not be one any more.
func (x goExchange) refuseNow(err error) bool {
	x.did.class, x.did.details = answer.ClassInternal, err.Error()
	if out, ok := errors.AsType[*outbound.Error](err); ok {
		x.did.class = outboundClasses[out.Kind]
	}
	x.dropUpstream()
	return x.sayDenied()
}

// refuseAs ends a tunnel that may not be one to the host that its ClientHello names.
func (x goExchange) refuseAs(host acl.Target, ech bool, err error) bool {
	why := host.String() + ": " + err.Error()
	if out, ok := errors.AsType[*outbound.Error](err); ok && out.Kind == outbound.Denied {
		why = host.String() + " is not allowed at " + x.did.addr.Addr().String()
	}
	x.rec.Check = metrics.CheckOtherName
	x.c.srv.Metrics.Checked(x.rec.Check, ech)
	x.refuseNow(err)
	x.did.details = "the client's first bytes: " + why
	return false
}

// sayDenied tells a client so in its handshake, which was told already that there is a tunnel.
func (x goExchange) sayDenied() bool {
	if _, err := x.c.tcp.Write(accessDenied); err == nil {
		x.c.lastAnswer() // or the client may not get the alert
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
	x.did.class, x.did.details = answer.ClassInternal, err.Error()
	return x.sayDenied()
}
