package outbound

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Request is what a front door asks a gate to admit.
type Request struct {
	Client netip.Addr // who asks; the zero Addr: the gateway, for what its configuration names
	Target acl.Target
	HTTP   *http1.Request // its head; nil for what is no HTTP
}

// Ticket is what admission has found out about a request. The zero Ticket leads nowhere. It
// may be used again for the next request, and must not be copied while its Route is in use.
type Ticket struct {
	Tenant   *policy.Tenant // whose the client is; nil before the first admission
	Decision acl.Decision   // NeedAddr when no address came of a name: nothing was denied
	Resolve  time.Duration  // spent on the name; 0 for an address
	Route    Route
}

// Check is a step of admission: it refuses what the rules allow by an *[Error], and says in
// t what is to be known of that. It must not wait for anything, and may be called
// concurrently. It is asked for every request of every front door, maybe more than once, so
// it counts nothing; its error's Kind is one of [Kind.ByAdmission].
type Check func(r *Request, t *Ticket) error

// Admission is here and nowhere else. It has two halves: what is known now (AdmitNow,
// AdmitAddr), and what somebody must be waited for (Admit). All say whose the client is, what
// that tenant's rules say, whether the request is a loop, and what Checks say, and fill t. A
// denial is an *Error of kind Denied, and t.Decision says why; a name that cannot be resolved
// is one of kind DNSFailed, DNSTimeout or DNSBusy, a loop one of kind Looped.

// Admit waits for the resolver, at most until ctx ends. No question is asked for a name that
// is denied whatever it resolves to.
func (g BlockingGate) Admit(ctx context.Context, gen *policy.Generation, r *Request, t *Ticket) error {
	if done, err := g.begin(gen, r, t); done {
		return err
	}
	start := time.Now()
	addrs, err := g.lookup(ctx, r.Target.Host.Name())
	t.Resolve = time.Since(start)
	return g.finish(r, t, addrs, err)
}

// AdmitNow is Admit for a request about which nobody has to be asked. For others known is
// false, and nothing was decided.
func (g *Gate) AdmitNow(gen *policy.Generation, r *Request, t *Ticket) (known bool, err error) {
	if done, err := g.begin(gen, r, t); done {
		return true, err
	}
	if g.Known == nil {
		return false, nil
	}
	start := time.Now()
	addrs, known, err := g.Known(r.Target.Host.Name())
	if !known {
		return false, nil
	}
	t.Resolve = time.Since(start)
	return true, g.finish(r, t, addrs, err)
}

// AdmitAddr is Admit for one address of the target, which the caller has chosen among those
// of an earlier ticket: what is in force may be another policy since. It asks nobody.
func (g *Gate) AdmitAddr(gen *policy.Generation, r *Request, a netip.Addr, t *Ticket) error {
	if done, err := g.begin(gen, r, t); done {
		return err
	}
	few := [...]netip.Addr{a}
	return g.finish(r, t, few[:], nil)
}

// Stands reports whether gen would let a client go on with what it has open: to an address
// of the target that is in use. The name is not resolved again.
func (g *Gate) Stands(gen *policy.Generation, client netip.Addr, target acl.Target, inUse netip.Addr) bool {
	var t Ticket
	return g.AdmitAddr(gen, &Request{Client: client, Target: target}, inUse, &t) == nil
}

// begin decides as far as can be without the addresses of a name.
func (g *Gate) begin(gen *policy.Generation, r *Request, t *Ticket) (done bool, err error) {
	tenant := gen.Tenant(r.Client)
	t.Tenant, t.Decision, t.Resolve = tenant, acl.Decision{}, 0
	t.Route.begin(tenant, r.Target.Port)
	t.Decision = tenant.Rules.DecideHost(r.Target)
	if t.Decision.Verdict == acl.Deny {
		return true, errDenied
	}
	if !r.Target.Host.IsAddr() {
		return false, nil
	}
	t.Route.addrs = append(t.Route.addrs, r.Target.Host.Addr())
	return true, g.check(r, t)
}

// finish decides on what a name has resolved to.
func (g *Gate) finish(r *Request, t *Ticket, addrs []netip.Addr, err error) error {
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("look up %s: no address", r.Target.Host.Name()) // which denies nothing
	}
	if err != nil {
		return lookupError(err)
	}
	t.decideEach(r.Target, addrs)
	if len(t.Route.addrs) == 0 {
		return errDenied
	}
	interleave(t.Route.addrs)
	return g.check(r, t)
}

// decideEach keeps the addresses that are allowed. The decision becomes that of the
// first allowed address, or of the first address when all are denied.
func (t *Ticket) decideEach(target acl.Target, addrs []netip.Addr) {
	t.Decision = acl.Decision{}
	route := &t.Route
	for i, a := range addrs {
		d := t.Tenant.Rules.DecideAddr(target, a)
		allowed := d.Verdict == acl.Allow
		if allowed && len(route.addrs) == 0 || i == 0 {
			t.Decision = d
		}
		if allowed {
			route.addrs = append(route.addrs, a)
		}
	}
}

// check asks what is not a matter of the target.
func (g *Gate) check(r *Request, t *Ticket) error {
	if g.Name != "" && r.HTTP != nil && r.HTTP.CameThrough(g.Name) {
		t.Route = Route{}
		return errLooped
	}
	for _, c := range g.Checks {
		if err := c(r, t); err != nil {
			t.Route = Route{}
			return err
		}
	}
	return nil
}
