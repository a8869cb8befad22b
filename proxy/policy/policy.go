// Package policy is what one request is judged by: whose its client is, and what that
// tenant may reach, from where, and how much of it. It opens nothing, and nothing in it
// changes: a reload makes a new [Generation].
package policy

import (
	"net/netip"

	"github.com/sluiceproxy/sluice/acl"
)

// Tenant is whom a client belongs to, with all that is the tenant's own. It is not changed
// once a Generation has it. The zero Tenant denies everything.
type Tenant struct {
	// Name is unique in a Generation, and stays the same over reloads: what is kept open for
	// a tenant is known by it. "" is the one of clients that no other takes.
	Name      string
	Rules     *acl.Policy // with the guard; nil denies everything
	Sources   Sources
	Limits    Limits
	HideRules bool   // answers don't show the text of rules
	Contact   string // whom to ask, shown in answers; "" leaves the line out
}

// Limits are how much a tenant's clients may have at once.
type Limits struct {
	ConnsPerClient int // open connections of one client address; 0: no limit
}

// Generation gives each client its tenant. It is immutable; the nil Generation denies
// everything.
type Generation struct{ rest Tenant }

// New returns a generation in which all clients are t's.
func New(t Tenant) *Generation { return &Generation{rest: t} }

// nobody is the tenant of clients that nothing is known of.
var nobody Tenant

// Tenant returns whose client is, never nil. The zero Addr is the gateway itself, when it
// looks after what its configuration names. It may be called concurrently, and does not
// allocate.
func (g *Generation) Tenant(client netip.Addr) *Tenant {
	if g == nil {
		return &nobody
	}
	return &g.rest
}
