package outbound

import (
	"net/netip"
	"time"

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
	if err == nil && r.Tunnel && t.Tenant.Inspect.Of(r.Target, true) != nil {
		err = ErrInspectedNow
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
