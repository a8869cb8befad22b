package outbound

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Revocation is why gen would not let the client go on with what it has open, to an address of
// the target that is in use; nil: it would. r is as it was admitted, but without its head. The
// name is not resolved again; whose the address of the client is by now, and whether what it
// has shown still holds at that time, is looked at.
func (g *Gate) Revocation(gen *policy.Generation, r *Request, inUse netip.Addr, now time.Time) *policy.Revocation {
	if g.Pods != nil && gen.ByPod() && g.Pods.Version() != 0 {
		r.Pod, _ = g.Pods.Lookup(r.Client)
	}
	if !r.Until.IsZero() && !now.Before(r.Until) {
		r.Shown = nil
	}
	var t Ticket
	err := g.AdmitAddr(gen, r, inUse, &t)
	if err == nil && r.Tunnel && r.Asked == nil {
		switch in := t.Tenant.Inspect; {
		case in.Of(r.Target, true) != nil:
			err = ErrInspectedNow
		case in.Elsewhere(r.Target):
			err = ErrElsewhere
		}
	}
	if err == nil && r.Asked != nil {
		err = t.askAgain(r)
	}
	if err == nil {
		return nil
	}
	why := &policy.Revocation{By: gen.Name()}
	if err == errDenied {
		why.Decision = t.Decision
	} else {
		why.Problem = err.Error()
	}
	return why
}

// askAgain asks the request rules of t's tenant about a request that is under way.
func (t *Ticket) askAgain(r *Request) error {
	in := t.Tenant.Inspect.Of(r.Target, r.Asked.ByTLS)
	if in == nil {
		return nil
	}
	if d := in.Requests.Decide(r.Asked.Method, r.Asked.Path); d.Verdict != acl.Allow {
		return fmt.Errorf("denied by request rules: %s", d)
	}
	return nil
}

// WasAsked is what a request that t has admitted asks for, to be asked again; nil: nobody has judged that.
func (t *Ticket) WasAsked(r *Request) *policy.Asked {
	if t.Inspected == nil || !t.Asked || r.HTTP == nil {
		return nil
	}
	return &policy.Asked{Method: string(r.HTTP.Method), Path: string(origin(r.HTTP.Method, r.Path)), ByTLS: r.ByTLS}
}
