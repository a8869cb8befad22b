// Package policy is what one request is judged by: whose its client is, and what that
// tenant may reach, from where, and how much of it. It opens nothing, and nothing in it
// changes but what a tenant has in use ([Usage]): a reload makes a new [Generation].
package policy

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/sluiceproxy/sluice/acl"
)

// DefaultName is the tenant of clients that no other takes, where there are others.
const DefaultName = "default"

// Tenant is whom a client belongs to, with all that is the tenant's own. It is not changed
// once a Generation has it. The zero Tenant denies everything.
type Tenant struct {
	// Name is unique in a Generation, and stays the same over reloads: what is kept open for
	// a tenant is known by it. "" is the one of clients where there are no tenants.
	Name      string
	Rules     *acl.Policy // with the guard; nil denies everything
	Sources   Sources
	Limits    Limits
	HideRules bool   // answers don't show the text of rules
	Contact   string // whom to ask, shown in answers; "" leaves the line out
	// Unclaimed says that these are clients of no tenant, and that nothing was said of them:
	// Rules has none.
	Unclaimed bool
	// Usage is what the tenant has in use. The generations share it, so that a reload forgets
	// nothing. nil: it is not counted, and Limits but ConnsPerClient do not hold.
	Usage *Usage
}

// Limits are how much a tenant's clients may have at once. 0 is no limit.
type Limits struct {
	ConnsPerClient    int     // open connections of one client address
	Connections       int     // requests and tunnels under way
	RequestsPerSecond float64 // on the average
	Burst             int     // requests that may come at once; 0: as many as come in a second
}

// Set is what a Generation is made of.
type Set struct {
	Rest    Tenant  // of clients that none of Tenants takes
	Tenants []Taker // tried in their order
	// Own are addresses of this gateway, which is nobody's client. Those of the loopback
	// network, where it may have clients beside it, are left out.
	Own []netip.Addr
}

// Taker is a tenant with whom it takes.
type Taker struct {
	Tenant
	Clients []netip.Prefix // by their address
}

// Generation gives each client its tenant. It is immutable; the nil Generation denies
// everything.
type Generation struct {
	rest    Tenant
	tenants []Tenant
	clients *bart.Table[int32] // index in tenants of the first that takes an address; nil: none does
	own     []netip.Addr
}

// New returns a generation in which all clients are t's.
func New(t Tenant) *Generation { return &Generation{rest: t} }

// Generation makes s a generation.
func (s Set) Generation() *Generation {
	g := &Generation{rest: s.Rest}
	for _, a := range s.Own {
		if a = a.Unmap(); !a.IsLoopback() {
			g.own = append(g.own, a)
		}
	}
	type entry struct {
		prefix netip.Prefix
		tenant int32
	}
	var all []entry
	for i, t := range s.Tenants {
		g.tenants = append(g.tenants, t.Tenant)
		for _, p := range t.Clients {
			all = append(all, entry{p.Masked(), int32(i)})
		}
	}
	if len(all) == 0 {
		return g
	}
	// The widest first, so that an entry knows the first tenant of all that contain it.
	slices.SortStableFunc(all, func(a, b entry) int { return a.prefix.Bits() - b.prefix.Bits() })
	g.clients = new(bart.Table[int32])
	for _, e := range all {
		first := e.tenant
		if outer, ok := g.clients.LookupPrefix(e.prefix); ok {
			first = min(first, outer)
		}
		g.clients.Insert(e.prefix, first)
	}
	return g
}

// nobody is the tenant of clients that nothing is known of.
var nobody Tenant

// Tenant returns whose client is, never nil. The zero Addr is the gateway itself, when it
// looks after what its configuration names. It may be called concurrently, and does not
// allocate.
func (g *Generation) Tenant(client netip.Addr) *Tenant {
	if g == nil {
		return &nobody
	}
	if g.clients != nil {
		if i, ok := g.clients.Lookup(client); ok {
			return &g.tenants[i]
		}
	}
	return &g.rest
}

// Named returns the tenant of that name, "" for the one of clients that no other takes; nobody,
// whom everything is denied, if there is none. It goes through all of them.
func (g *Generation) Named(name string) *Tenant {
	if g == nil {
		return &nobody
	}
	for i := range g.tenants {
		if g.tenants[i].Name == name {
			return &g.tenants[i]
		}
	}
	if name == "" || name == g.rest.Name {
		return &g.rest
	}
	return &nobody
}

// Own reports whether a is the gateway itself, which would ask itself in a circle.
func (g *Generation) Own(a netip.Addr) bool { return g != nil && slices.Contains(g.own, a) }
