package outbound

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Request is what a front door asks a gate to admit.
type Request struct {
	Client netip.Addr // who asks; the zero Addr: the gateway, for what its configuration names
	Tenant string     // whose the request is, where the configuration says that; "": the client's
	Target acl.Target
	HTTP   *http1.Request // its head; nil for what is no HTTP
	Path   []byte         // of HTTP but CONNECT: the path and query of its target
	ByTLS  bool           // it goes to the server by TLS
	Tunnel bool           // it is one that is open, whose head is gone; see Revocation
	// Asked is what it asks for, where that was judged, and its head is gone; see Revocation. nil: no
	// request rule has judged it.
	Asked *policy.Asked
	// At is the one address that it may go to, instead of those that its name has; the zero Addr: those.
	At     netip.Addr
	Inside bool   // it comes out of a tunnel whose client has shown who it is: Who
	Login  *Login // what was shown otherwise; nil: the head has it, or its protocol has nothing to show
	// Who the client is: Certificate as the front door knows it, the rest by Admit or AdmitNow.
	policy.Who
}

// Login is what a client has shown before its request. The zero Login is nothing.
type Login struct {
	Credential auth.Credential
	Outcome    auth.Outcome // of reading it
}

// mayShow reports whether the client could show who it is.
func (r *Request) mayShow() bool { return r.HTTP != nil || r.Login != nil }

// Ticket is what admission has found out about a request. The zero Ticket leads nowhere. It
// may be used again for the next request, and must not be copied while its Route is in use.
type Ticket struct {
	Tenant   *policy.Tenant // whose the client is; nil before the first admission
	Decision acl.Decision   // NeedAddr when no address came of a name: nothing was denied
	Resolve  time.Duration  // spent on the name; 0 for an address
	Route    Route
	Hold     Hold // the tenant's place that the request has, from Admit or AdmitNow on
	// Inspected is what requests may do there, and Request the decision on this one; nil: they
	// may do whatever they like. Of a CONNECT it says that what is in the tunnel is asked about.
	Inspected *policy.Inspected
	Request   request.Decision
	Asked     bool // Request was decided
	// Shadow is what the tenant's shadow rules say otherwise.
	Shadow policy.Shadowed
}

// Hold is a place among those that a tenant may have under way. The zero Hold is none. It
// must be released, by one of those who have a copy.
type Hold struct {
	usage   *policy.Usage // nil: none
	counted bool          // the request was, by the tenant's rate
}

// Release gives the place back, if there is one.
func (h *Hold) Release() {
	if h.usage != nil {
		h.usage.Release()
	}
	*h = Hold{}
}

// Check is a step of admission: it refuses what the rules allow by an *[Error], and says in
// t what is to be known of that. It must not wait for anything, and may be called
// concurrently. It is asked for every request of every front door, maybe more than once, so
// it counts nothing; its error's Kind is one of [Kind.ByAdmission].
type Check func(r *Request, t *Ticket) error

// Admission is here and nowhere else. It has two halves: what is known now (AdmitNow,
// AdmitAddr), and what somebody must be waited for (Admit). All say whose the client is, what
// that tenant's rules say, whether the request is a loop, and what Checks say, and fill t.
// Admit and AdmitNow also hold the request against its tenant's limits. A
// denial is an *Error of kind Denied, and t.Decision says why; a name that cannot be resolved
// is one of kind DNSFailed, DNSTimeout or DNSBusy, a loop one of kind Looped.

// Admit waits for the resolver, at most until ctx ends. No question is asked for a name that
// is denied whatever it resolves to.
func (g BlockingGate) Admit(ctx context.Context, gen *policy.Generation, r *Request, t *Ticket) error {
	g.findPod(gen, r, ctx)
	if _, err := g.authenticate(gen, r, t, ctx); err != nil {
		return t.hold(r, err)
	}
	if done, err := g.begin(gen, r, t, true); done {
		return t.hold(r, liftable(gen, r, t, err))
	}
	start := time.Now()
	addrs, err := []netip.Addr{r.At}, error(nil)
	if !r.At.IsValid() {
		addrs, err = g.lookup(ctx, r.Target.Host.Name())
	}
	t.Resolve = time.Since(start)
	return t.hold(r, liftable(gen, r, t, g.finish(r, t, addrs, err)))
}

// AdmitNow is Admit for a request about which nobody has to be asked. For others known is
// false, and nothing was decided.
func (g *Gate) AdmitNow(gen *policy.Generation, r *Request, t *Ticket) (known bool, err error) {
	if !g.findPod(gen, r, nil) {
		return false, nil
	}
	known, err = g.authenticate(gen, r, t, nil)
	if !known || err != nil {
		if known {
			err = t.hold(r, err)
		}
		return known, err
	}
	if done, err := g.begin(gen, r, t, false); done {
		return true, t.hold(r, liftable(gen, r, t, err))
	}
	if g.Known == nil || r.At.IsValid() {
		return false, nil
	}
	start := time.Now()
	addrs, known, err := g.Known(r.Target.Host.Name())
	if !known {
		return false, nil
	}
	t.Resolve = time.Since(start)
	return true, t.hold(r, liftable(gen, r, t, g.finish(r, t, addrs, err)))
}

// AdmitAddr is Admit for one address of the target, which the caller has chosen among those
// of an earlier ticket: what is in force may be another policy since. It asks nobody.
func (g *Gate) AdmitAddr(gen *policy.Generation, r *Request, a netip.Addr, t *Ticket) error {
	if problem := gen.Asks().Problem(&r.Who); problem != "" {
		t.Route = Route{}
		return shownProblem(r, problem)
	}
	if done, err := g.begin(gen, r, t, false); done {
		return err
	}
	if !a.IsValid() {
		t.Route = Route{}
		return errUnjudged
	}
	few := [...]netip.Addr{a}
	return g.finish(r, t, few[:], nil)
}

// begin decides as far as can be without the addresses of a name. A request that counts for
// its tenant's rate asks nobody when it is one too many.
func (g *Gate) begin(gen *policy.Generation, r *Request, t *Ticket, counts bool) (done bool, err error) {
	tenant := r.tenant(gen)
	t.Tenant, t.Decision, t.Resolve, t.Shadow = tenant, acl.Decision{}, 0, policy.Shadowed{}
	t.Inspected, t.Request, t.Asked = nil, request.Decision{}, false
	t.Route.begin(tenant, r.Target.Port)
	if gen.Own(r.Client) {
		return true, errOwn
	}
	if counts {
		if err := t.count(r); err != nil {
			return true, err
		}
	}
	if way := tenant.Parents.ByName(r.Target); way != nil {
		return true, g.beginByName(r, t, way)
	}
	t.Decision = tenant.Rules.DecideHost(r.Target)
	if tenant.Shadow != nil {
		t.Shadow = tenant.Shadow.Judge(r.Target, nil, t.Decision.Verdict)
	}
	if t.Decision.Verdict == acl.Deny {
		return true, errDenied
	}
	if !r.Target.Host.IsAddr() {
		return false, nil
	}
	t.Route.addrs = append(t.Route.addrs, r.Target.Host.Addr())
	return true, g.check(r, t)
}

// tenant is whose r is.
func (r *Request) tenant(gen *policy.Generation) *policy.Tenant {
	if r.Tenant != "" {
		return gen.Named(r.Tenant)
	}
	return gen.TenantOf(r.Client, r.Pod, r.Shown, r.Certificate)
}

// count counts the request for its tenant's rate, once; one that is over it goes nowhere. What
// the gateway asks for by itself counts for nobody.
func (t *Ticket) count(r *Request) error {
	u := t.Tenant.Usage
	if u == nil || t.Hold.counted || !r.Client.IsValid() {
		return nil
	}
	t.Hold.counted = true
	if wait, ok := u.Request(&t.Tenant.Limits); !ok {
		t.Route = Route{}
		return overRate(&t.Tenant.Limits, wait)
	}
	return nil
}

// hold counts a request that was decided on, and takes a place of its tenant's for one that
// is admitted so far: err is nil.
func (t *Ticket) hold(r *Request, err error) error {
	u := t.Tenant.Usage
	if u == nil || t.Hold.usage != nil || !r.Client.IsValid() {
		return err
	}
	if over := t.count(r); over != nil || err != nil || r.Inside { // whose tunnel has a place
		return cmp.Or(over, err)
	}
	if !u.Hold(&t.Tenant.Limits) {
		t.Route = Route{}
		return overConnections(&t.Tenant.Limits)
	}
	t.Hold.usage = u
	return nil
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
	if s := t.Tenant.Shadow; s != nil {
		t.Shadow = s.Judge(r.Target, addrs, t.Decision.Verdict)
	}
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
	if err := t.inspect(r); err != nil {
		t.Route = Route{}
		return err
	}
	if t.Tenant.Parents != nil {
		t.Route.choose(r, t.Tenant.Parents)
	}
	for _, c := range g.Checks {
		if err := c(r, t); err != nil {
			t.Route = Route{}
			return err
		}
	}
	return nil
}
