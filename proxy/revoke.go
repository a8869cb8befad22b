package proxy

import (
	"time"

	"github.com/sluiceproxy/sluice/proxy/answer"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Revoke ends the requests and tunnels that the generation in force would not admit, by what
// was asked for, the address in use, and who the client is by now; and returns how many those
// are. Idle connections to addresses that nobody may reach any more are closed. It does
// nothing where the generation says that what is open may go on.
func (s *Server) Revoke() int {
	gen, now := s.live.Load(), time.Now()
	if gen.KeepsOpen() {
		return 0
	}
	s.Gate.Pool.CloseUnreachable(gen)
	return s.door.Revoke(func(o *door.Open) *policy.Revocation { return s.revocation(gen, now, o) })
}

// revocation is why gen would not admit what is open; nil: it would.
func (s *Server) revocation(gen *policy.Generation, now time.Time, o *door.Open) *policy.Revocation {
	r := outbound.Request{Client: o.Client.Addr(), Target: o.Target, Who: o.Who, Tunnel: o.State == door.Tunnel, Asked: o.Asked}
	if now.Before(r.Until) {
		s.endsAt(r.Until)
	}
	why := s.Gate.Revocation(gen, &r, o.Addr.Addr(), now)
	if why == nil && o.Other != nil && gen.TunnelCheck() == policy.CheckEnforce {
		r.Target = *o.Other
		why = s.Gate.Revocation(gen, &r, o.Addr.Addr(), now)
	}
	return why
}

// judgeNew revokes a tunnel that was admitted by another generation than is in force: who revoked by
// that may have come while it was a request yet, of which less is asked.
func (s *Server) judgeNew(m door.Member, of door.Lease, by *policy.Generation) {
	gen := s.live.Load()
	if gen == by || gen.KeepsOpen() {
		return
	}
	var is door.Open
	if !m.Describe(&is) {
		return
	}
	if why := s.revocation(gen, time.Now(), &is); why != nil {
		door.RevokeNow(m, of, *why)
	}
}

// endsAt has Revoke called when what a client has shown ends.
func (s *Server) endsAt(t time.Time) {
	for at := t.UnixNano(); ; {
		first := s.ends.Load()
		if first != 0 && first <= at || s.ends.CompareAndSwap(first, at) {
			return
		}
	}
}

// judgeAgain revokes when who clients are has changed: what one has shown has ended, or an
// address is another pod's.
func (s *Server) judgeAgain(now time.Time) {
	due := false
	if ends := s.ends.Load(); ends != 0 && now.UnixNano() >= ends {
		due = s.ends.CompareAndSwap(ends, 0)
	}
	if s.Gate.Pods != nil && s.live.Load().ByPod() {
		if v := s.Gate.Pods.Version(); v != 0 && v != s.podsSeen {
			due, s.podsSeen = true, v
		}
	}
	if due {
		s.Revoke()
	}
}

// revokedError is why an exchange may not go on.
type revokedError struct{ why *policy.Revocation }

func (e *revokedError) Error() string { return e.why.Reason() }

// revoked is why the exchange may not go on; nil: nobody has revoked it.
func (x *exchange) revoked() *policy.Revocation {
	if x.did.revoked == nil {
		x.did.revoked = x.c.Revocation()
	}
	return x.did.revoked
}

// refusalOfRevoked tells a client that has had nothing of an answer yet.
func (x *exchange) refusalOfRevoked(why *policy.Revocation) answer.Own {
	own := answer.Failed(answer.ClassDenied, why.Problem)
	if why.Problem == "" {
		own = answer.Denied(why.Decision, x.wanted.Target.Host, x.tenant().HideRules)
	}
	own.Close = true
	return own
}
