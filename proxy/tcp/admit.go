package tcp

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/proxy/outbound"
)

// admission is what is asked and answered before a connection is made.
type admission struct {
	outbound.Request
	outbound.Ticket
}

var admissions = sync.Pool{New: func() any { return new(admission) }}

// admit asks whether that client may be connected to one address: the generation in
// force may have changed since the address was resolved. The caller ends the admission.
func (s *Server) admit(client netip.Addr, to *address) (*admission, error) {
	ad := admissions.Get().(*admission)
	ad.Request = outbound.Request{Client: client, Tenant: to.d.tenant, Target: to.d.target}
	err := s.Gate.AdmitAddr(s.live.Load().generation, &ad.Request, to.addr, &ad.Ticket)
	if e, ok := errors.AsType[*outbound.Error](err); ok && e.Kind == outbound.Denied && e.Err == nil {
		err = &outbound.Error{Kind: outbound.Denied, Err: errors.New("denied by the policy in force")}
	}
	return ad, err
}

// end lets others have ad. Its route must not be in use.
func (ad *admission) end() {
	*ad = admission{}
	admissions.Put(ad)
}

// dial connects to one address for that client.
func (s *Server) dial(ctx context.Context, client netip.Addr, to *address) (*outbound.Conn, error) {
	ad, err := s.admit(client, to)
	defer ad.end()
	if err != nil {
		return nil, err
	}
	return s.Gate.Blocking().Connect(&outbound.Until{Context: ctx, At: time.Now().Add(s.live.Load().connectTimeout)}, &ad.Route)
}

// begin is dial without waiting: see outbound.Gate.BeginConnect.
func (s *Server) begin(client netip.Addr, to *address) (c *outbound.Conn, connecting, able bool, err error) {
	ad, err := s.admit(client, to)
	defer ad.end()
	if err != nil {
		return nil, false, false, nil // dial says why
	}
	return s.Gate.BeginConnect(&ad.Route)
}
