// Package outbound is the only way out of the proxy. A [Gate] decides on a
// target, resolves its name, decides on every address, and dials those that were
// allowed and no others: a name never reaches a dialler, and nothing is resolved
// again between the verdict and the connection.
package outbound

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// Lookup returns the addresses of a name as acl.Host.Name gives it. The slice
// may be shared and is not written to. A *resolve.Error tells the gate how it
// failed. proxy/resolve is the one that ships.
type Lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// Generation is what one request is judged by, start to end. It is immutable:
// a reload makes a new one. A nil Generation denies everything.
type Generation struct {
	Policy  *acl.Policy // nil denies everything
	Sources Sources
}

// Known is a Lookup that asks nobody: known is false when that would be needed.
type Known func(name string) (addrs []netip.Addr, known bool, err error)

// Gate decides and dials. Its methods may be called concurrently.
type Gate struct {
	Known  Known // for JudgeNow; nil: no name is known
	Begin  Begin // for BeginConnect; nil: it can't be done
	Pool   *Pool
	lookup Lookup
	dialer Dialer
}

// NewGate returns a gate that resolves by lookup and dials by d.
func NewGate(lookup Lookup, d Dialer, pool *Pool) *Gate {
	return &Gate{lookup: lookup, dialer: d, Pool: pool}
}

// Route is where one request may go: the addresses that were allowed, in the
// order to try them. The zero value leads nowhere. A Route may be used again for
// the next request; it must not be copied while Addrs is in use.
type Route struct {
	Decision acl.Decision // NeedAddr when no address came of a name: nothing was denied
	Addrs    []netip.Addr
	Port     uint16
	Sources  Sources
	Resolve  time.Duration // spent on the name; 0 for an address

	room [8]netip.Addr // so that few addresses take no allocation
}

// Leads reports whether c could have been made by this route, with TLS to that server, or
// "" for a plain connection: only then a request that was judged with r may go over it.
func (r *Route) Leads(c *Conn, server string) bool {
	return c.server == server && c.Dst.Port() == r.Port && slices.Contains(r.Addrs, c.Dst.Addr()) &&
		slices.Contains(r.Sources.For(c.Dst.Addr()), c.Source)
}

// Judge fills r with the addresses that gen allows for t. A denial is an *Error
// of kind Denied, and r.Decision says why; a name that cannot be resolved is one
// of kind DNSFailed, DNSTimeout or DNSBusy. No question is asked for a name that is denied
// whatever it resolves to.
func (g *Gate) Judge(ctx context.Context, gen *Generation, t acl.Target, r *Route) error {
	if done, err := r.begin(gen, t); done {
		return err
	}
	start := time.Now()
	addrs, err := g.lookup(ctx, t.Host.Name())
	r.Resolve = time.Since(start)
	return g.finish(gen, t, addrs, err, r)
}

// JudgeNow is Judge for a target about which nobody has to be asked. For others known
// is false, and nothing was decided.
func (g *Gate) JudgeNow(gen *Generation, t acl.Target, r *Route) (known bool, err error) {
	if done, err := r.begin(gen, t); done {
		return true, err
	}
	if g.Known == nil {
		return false, nil
	}
	start := time.Now()
	addrs, known, err := g.Known(t.Host.Name())
	if !known {
		return false, nil
	}
	r.Resolve = time.Since(start)
	return true, g.finish(gen, t, addrs, err, r)
}

// begin decides as far as can be without the addresses of a name.
func (r *Route) begin(gen *Generation, t acl.Target) (done bool, err error) {
	r.Addrs, r.Port, r.Resolve = r.room[:0], t.Port, 0
	r.Decision = acl.Decision{}
	if gen == nil {
		return true, errDenied
	}
	r.Sources = gen.Sources
	r.Decision = gen.Policy.DecideHost(t)
	if r.Decision.Verdict == acl.Deny {
		return true, errDenied
	}
	if t.Host.IsAddr() {
		r.Addrs = append(r.Addrs, t.Host.Addr())
		return true, nil
	}
	return false, nil
}

// finish decides on what a name has resolved to.
func (g *Gate) finish(gen *Generation, t acl.Target, addrs []netip.Addr, err error, r *Route) error {
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("look up %s: no address", t.Host.Name()) // which denies nothing
	}
	if err != nil {
		return lookupError(err)
	}
	g.decideEach(gen.Policy, t, addrs, r)
	if len(r.Addrs) == 0 {
		return errDenied
	}
	interleave(r.Addrs)
	return nil
}

// decideEach keeps the addresses that are allowed. r.Decision becomes that of the
// first allowed address, or of the first address when all are denied.
func (g *Gate) decideEach(p *acl.Policy, t acl.Target, addrs []netip.Addr, r *Route) {
	r.Decision = acl.Decision{}
	for i, a := range addrs {
		d := p.DecideAddr(t, a)
		allowed := d.Verdict == acl.Allow
		if allowed && len(r.Addrs) == 0 || i == 0 {
			r.Decision = d
		}
		if allowed {
			r.Addrs = append(r.Addrs, a)
		}
	}
}

// interleave orders addresses as RFC 8305 section 4 asks: IPv6 first, then the
// families in turn, each in the order in which the resolver gave it.
func interleave(addrs []netip.Addr) {
	var few [8]netip.Addr
	all := append(few[:0], addrs...)
	next := func(i int, six bool) int { // the first from i on of a family
		for i < len(all) && all[i].Is6() != six {
			i++
		}
		return i
	}
	six, four, want6 := next(0, true), next(0, false), true
	for i := range addrs {
		if four == len(all) || want6 && six < len(all) {
			addrs[i], six = all[six], next(six+1, true)
		} else {
			addrs[i], four = all[four], next(four+1, false)
		}
		want6 = addrs[i].Is4()
	}
}

// Open connects to t if gen allows it; every address that is tried is one that
// was judged and allowed. The caller closes the connection. It is Judge and
// Connect in one, for callers that need nothing in between.
func (g *Gate) Open(ctx context.Context, gen *Generation, t acl.Target) (*Conn, acl.Decision, error) {
	var r Route
	if err := g.Judge(ctx, gen, t, &r); err != nil {
		return nil, r.Decision, err
	}
	c, err := g.Connect(ctx, &r)
	return c, r.Decision, err
}
