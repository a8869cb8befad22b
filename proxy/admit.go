package proxy

import (
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// admit asks whether the request may go where its target says, and waits for the resolver if
// it must; port is that of the scheme, 0 when the authority must name one. Its error is for
// refuse.
func (x goExchange) admit(port uint16) error {
	if err := x.readTarget(port); err != nil {
		return err
	}
	s := x.c.srv
	ctx, done := x.c.whileThere()
	err := s.Gate.Admit(ctx, s.live.Load(), &x.wanted, &x.ticket)
	done()
	x.judged = true
	return err
}

// admitNow is admit where nobody has to be waited for; otherwise known is false.
func (x *exchange) admitNow(port uint16) (known bool, err error) {
	if err := x.readTarget(port); err != nil {
		return true, err
	}
	s := x.c.srv
	known, err = s.Gate.AdmitNow(s.live.Load(), &x.wanted, &x.ticket)
	x.judged = true
	return known, err
}

// readTarget makes x.wanted what the gate is asked.
func (x *exchange) readTarget(port uint16) (err error) {
	x.wanted.Client, x.wanted.HTTP = x.c.Client(), &x.req
	x.wanted.Target, err = x.c.srv.targets.read(x.target.Authority, port)
	return err
}

// tenant is whose the client is, also before it was admitted.
func (x *exchange) tenant() *policy.Tenant {
	if t := x.ticket.Tenant; t != nil {
		return t
	}
	return x.c.srv.live.Load().Tenant(x.c.Client())
}
