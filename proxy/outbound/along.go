package outbound

import (
	"net/netip"
	"slices"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// along is what a route has that goes by parents. The zero along goes directly.
type along struct {
	way *policy.Way
	// target is what parents are asked for where that is a name; its address is nobody's here.
	target acl.Target
	// absolute says that requests are for a parent to send on, instead of a tunnel.
	absolute bool
	// came are the Via fields of the request, as lines of a head: they go with what parents are
	// asked. They are copied, since a connection may be made when the request's head is gone.
	came []byte
}

// Parented reports whether r goes by parents: then a connection is not begun without waiting.
func (r *Route) Parented() bool { return r.way != nil }

// Absolute reports whether requests that go along r are to name their server, for a parent that
// sends them on.
func (r *Route) Absolute() bool { return r.absolute }

// beginByName decides about a request whose name a parent is to resolve: by the name alone.
func (g *Gate) beginByName(r *Request, t *Ticket, way *policy.Way) error {
	t.Decision = t.Tenant.Rules.DecideName(r.Target)
	t.Shadow = t.Tenant.Shadow.JudgeName(r.Target, t.Decision.Verdict)
	if t.Decision.Verdict != acl.Allow {
		return errDenied
	}
	t.Route.take(r, way)
	t.Route.target = r.Target
	return g.check(r, t)
}

// choose has r go by the parents that are for its addresses, if there are any.
func (r *Route) choose(of *Request, p *policy.Parents) {
	if r.way != nil { // by name
		return
	}
	var way *policy.Way
	if way, r.addrs = p.Of(of.Target, r.addrs); way != nil {
		r.take(of, way)
	}
}

// take has r go that way. A request by plain http is one for the parent only where that is
// asked by name: by address the server's name would be in Host alone, which a proxy must not
// go by (RFC 9112 section 3.2.2).
func (r *Route) take(of *Request, way *policy.Way) {
	r.way = way
	if of.HTTP != nil {
		for i := range of.HTTP.Fields {
			if f := &of.HTTP.Fields[i]; f.ID == http1.Via {
				r.came = append(append(append(r.came, "Via: "...), f.Value...), "\r\n"...)
			}
		}
	}
	r.absolute = way.ByName && of.HTTP != nil && !of.ByTLS && string(of.HTTP.Method) != "CONNECT"
}

// via stands for a parent, what it is shown, and what it does for connections of r: for those
// that it resolves names for, it has the name.
func (r *Route) via(p *policy.Parent) string {
	if p.Direct {
		return ""
	}
	form := "tunnel\x00"
	if r.absolute {
		form = "absolute\x00"
	}
	if r.byName() {
		form += r.target.String()
	}
	return p.Key() + form
}

// byName reports whether parents resolve the target's name.
func (r *Route) byName() bool { return r.target.Host.IsValid() }

// allSources are those that a parent may be connected to from, whichever address it has.
func (r *Route) allSources() []netip.Addr {
	four, six := r.sources.For(netip.IPv4Unspecified()), r.sources.For(netip.IPv6Unspecified())
	if slices.Equal(four, six) {
		return four
	}
	return slices.Concat(six, four)
}

// dsts are what connections of r may be to.
func (r *Route) dsts() []netip.Addr {
	if r.byName() {
		return []netip.Addr{{}}
	}
	return r.addrs
}

// leadsVia is Leads for a route that goes by parents.
func (r *Route) leadsVia(c *Conn, server string) bool {
	along := slices.ContainsFunc(r.way.Via, func(p *policy.Parent) bool { return r.via(p) == c.via })
	return along && c.server == server && c.tenant == r.tenant && c.credential == r.credential && c.Dst.Port() == r.port &&
		slices.Contains(r.dsts(), c.Dst.Addr()) && slices.Contains(r.allSources(), c.Source)
}

// getVia is Get for a route that goes by parents: of the first that is up.
func (p *Pool) getVia(r *Route, server string) *Conn {
	for _, parent := range r.way.Via {
		if parent.Direct {
			return p.getDirect(r, server)
		}
		for _, a := range r.dsts() {
			for _, s := range r.allSources() {
				key := poolKey{r.tenant, s, netip.AddrPortFrom(a, r.port), server, r.credential, r.via(parent)}
				if c := p.pop(key); c != nil {
					return c
				}
			}
		}
		if parent.Health.Up() {
			return nil // and is asked first
		}
	}
	return nil
}
