package proxy

import (
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

// prepare makes ready what is to be sent, and the connection to send it over.
func (x *exchange) prepare(l *poll.Loop) bool {
	c, s := x.c, x.c.srv
	if !x.parse(http1.AbsoluteForm) || x.req.Upgrade != nil || x.target.Scheme != "http" {
		return false
	}
	switch string(x.req.Method) {
	case "TRACE", "OPTIONS": // may be for the proxy itself
		return false
	}
	if x.req.Framing == http1.ChunkedEnc || x.req.Length != int64(len(c.buffered())) {
		return false // not the whole of its body has come, or more
	}
	x.did.mode = metrics.Forward
	known, err := x.admitNow(80)
	if !known {
		return false
	}
	if err == nil {
		err = x.composeRequest()
	}
	if err != nil {
		x.fail(err)
		return true
	}
	if x.ticket.Route.Absolute() { // the head depends on the parent
		x.to(stageDial)
		return true
	}
	up := x.takeBound("")
	if up == nil && idempotent(x.req.Method) {
		up = s.Gate.Pool.Get(&x.ticket.Route, "")
	}
	if up != nil {
		c.upstream.Store(up)
		x.attach(up, true)
		x.readyToSend(l)
		return true
	}
	x.beginDial(l)
	return true
}

// beginConnect begins to serve a CONNECT.
func (x *exchange) beginConnect(l *poll.Loop) bool {
	c := x.c
	if !x.parse(http1.AuthorityForm) || c.r != c.w {
		return false
	}
	x.did.mode = metrics.Connect
	return x.beginTunnel(l)
}

// beginTunnel begins to serve a request for a tunnel, which has been read.
func (x *exchange) beginTunnel(l *poll.Loop) bool {
	known, err := x.admitNow(0)
	switch {
	case !known:
		return false
	case err != nil:
		x.fail(err)
	case x.ticket.Inspected != nil, x.mayBeInspected():
		x.to(stageDial) // on a goroutine, where it is opened
	default:
		x.beginDial(l)
	}
	return true
}

// parse reads the whole head, whose target must have that form.
func (x *exchange) parse(form http1.Form) bool {
	n, err := x.req.Parse(x.c.buffered(), x.c.srv.Head)
	if err != nil {
		return false
	}
	x.c.r += n
	x.target, err = x.req.ParseTarget()
	return err == nil && x.target.Form == form
}

// admitNow is admit where nobody has to be waited for; otherwise known is false.
func (x *exchange) admitNow(port uint16) (known bool, err error) {
	if err := x.readTarget(port); err != nil {
		return true, err
	}
	s := x.c.srv
	known, err = s.Gate.AdmitNow(x.gen, &x.wanted, &x.ticket)
	x.wasJudged()
	return known, err
}

// forward serves a request in absolute form.
func (x goExchange) forward() bool {
	if x.c.inside == nil {
		x.did.mode = metrics.Forward
	}
	port, server := uint16(80), ""
	if x.target.Scheme == "https" {
		port = 443
	}
	if err := x.admit(port); err != nil {
		return x.refuse(err)
	}
	if x.target.Scheme == "https" {
		server = x.wanted.Target.Host.String()
	}
	if x.req.MaxForwards == 0 {
		switch string(x.req.Method) {
		case "TRACE":
			return x.answerTrace()
		case "OPTIONS":
			return x.answer(answer.Options())
		}
	}
	err := x.composeRequest()
	if err == nil {
		err = x.send(server)
	}
	return x.afterSend(err)
}

// connect serves CONNECT (RFC 9110 section 9.3.6). The authority of the request
// line decides; a Host field is not looked at.
func (x goExchange) connect() bool {
	x.did.mode = metrics.Connect
	if err := x.admit(0); err != nil {
		return x.refuse(err)
	}
	return x.dialTunnel()
}

// admit asks whether the request may go where its target says, and waits for the resolver if
// it must; port is that of the scheme, 0 when the authority must name one. Its error is for
// refuse.
func (x goExchange) admit(port uint16) error {
	if err := x.readTarget(port); err != nil {
		return err
	}
	s := x.c.srv
	x.c.does(x.doing())
	ctx, done := x.c.whileThere()
	err := s.Gate.Blocking().Admit(ctx, x.gen, &x.wanted, &x.ticket)
	done()
	x.wasJudged()
	return err
}

// wasJudged says that the ticket has the verdict.
func (x *exchange) wasJudged() {
	x.judged = true
	x.did.asked = x.ticket.WasAsked(&x.wanted)
	if !x.wanted.Until.IsZero() {
		x.c.srv.endsAt(x.wanted.Until)
	}
}

// asks says who asks the gate, by what is in force now.
func (x *exchange) asks() {
	c := x.c
	if in := c.inside; in != nil {
		x.wanted.Who, x.wanted.Inside, x.wanted.At = in.who, true, in.at
	}
	x.wanted.Client, x.wanted.Certificate = c.Client(), c.secure.Certificate()
	if c.socks.speaks {
		x.wanted.Login = &c.socks.login
	} else {
		x.wanted.HTTP = &x.req
	}
	x.gen = c.srv.live.Load()
}

// readTarget makes x.wanted what the gate is asked.
func (x *exchange) readTarget(port uint16) (err error) {
	x.asks()
	x.wanted.Path, x.wanted.ByTLS = x.target.Path, x.target.Scheme == "https"
	x.wanted.Target, err = x.c.srv.targets.read(x.target.Authority, port)
	return err
}

// admitAgain is asked once there is a connection to a server, which the door knows of: what was
// put in force while somebody was waited for holds for it too. Later it is revoked.
func (x *exchange) admitAgain() error {
	s := x.c.srv
	live := s.live.Load()
	if live == x.gen {
		return nil
	}
	x.gen = live
	err := s.Gate.AdmitAddr(live, &x.wanted, x.did.addr.Addr(), &x.ticket)
	if err == nil && x.ticket.Inspected != nil && (x.did.mode == metrics.Connect || x.did.mode == metrics.SOCKS) {
		return outbound.ErrInspectedNow // there is a tunnel already that nobody looks into
	}
	if err == nil && (!x.ticket.Route.StillLeads(x.up) || x.ticket.Inspected != nil && !x.inspected) {
		return outbound.ErrMovedMeanwhile
	}
	return err
}

// judgedBy is what the generation is called that has judged the request; nil: none has.
func (x *exchange) judgedBy() *policy.Name {
	if x.did.revoked != nil {
		return x.did.revoked.By
	}
	return x.gen.Name()
}

// tenant is whose the client is, also before it was admitted.
func (x *exchange) tenant() *policy.Tenant {
	if t := x.ticket.Tenant; t != nil {
		return t
	}
	return x.c.srv.live.Load().Tenant(x.c.Client())
}
