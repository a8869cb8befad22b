// Package policy is what one request is judged by: whose its client is, and what that
// tenant may reach, from where, and how much of it. It opens nothing, and nothing in it
// changes but what a tenant has in use ([Usage]): a reload makes a new [Generation].
package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/auth"
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
	Shadow    *Shadow     // rules that are judged by beside them; nil: none
	Inspect   *Inspect    // what requests may do where they may go; nil: whatever they like
	Parents   *Parents    // proxies that its requests go by; nil: none
	Sources   Sources
	Limits    Limits
	HideRules bool   // answers don't show the text of rules
	Contact   string // whom to ask, shown in answers; "" leaves the line out
	// Unclaimed says that these are clients of no tenant, and that nothing was said of them:
	// Rules has none.
	Unclaimed bool
	// Usage is what the tenant has in use. The generations share it, so that a reload forgets
	// nothing. nil: it is not counted, and Limits but those of a client address do not hold.
	Usage *Usage
}

// Limits are how much a tenant's clients may have at once. 0 is no limit.
type Limits struct {
	ConnsPerClient int // open connections of one client address
	// HandshakesPerClient is how many handshakes of TLS that come to a good end one client address
	// may have a second, on the average, while others are connected. More wait.
	HandshakesPerClient int

	Connections       int     // requests and tunnels under way
	RequestsPerSecond float64 // on the average
	Burst             int     // requests that may come at once; 0: as many as come in a second
}

// Set is what a Generation is made of.
type Set struct {
	Name    Name
	Rest    Tenant  // of clients that none of Tenants takes
	Tenants []Taker // tried in their order
	Authentication
	// Own are addresses of this gateway, which is nobody's client. Those of the loopback
	// network, where it may have clients beside it, are left out.
	Own []netip.Addr
	// Check is what is done about what clients send first through tunnels.
	Check TunnelCheck
	// KeepOpen says that what is open goes on when it would not be admitted any more.
	KeepOpen bool
}

// Taker is a tenant with whom it takes.
type Taker struct {
	Tenant
	Clients []netip.Prefix  // by their address
	Shown   []auth.Selector // by what they show
	Pods    []PodSelector   // by the pod that has their address
}

// Pod is who has a client's address, as far as is known. The zero Pod is nobody.
type Pod struct{ Namespace, ServiceAccount, Name string }

// PodSelector says which pods are a tenant's: those of a namespace with that service account,
// or with any if it is "".
type PodSelector struct{ Namespace, ServiceAccount string }

// Authentication is what clients are to show. The zero value asks nothing of them, and does
// not read what they show.
type Authentication struct {
	Mode  Mode
	Users *auth.Users // who may show a password; nil: nobody
}

// Problem is why a client that was found to be w cannot go on, whatever the rules say; "": it
// can.
func (a Authentication) Problem(w *Who) string {
	switch user := w.Shown.User(); {
	case user != "" && !a.Users.Has(user):
		return "the user is none any more"
	case a.Mode == Required && w.Shown == nil && w.Certificate == nil:
		return "the client has shown nothing that still holds, and has to"
	}
	return ""
}

// Mode is whether clients are to show who they are.
type Mode uint8

const (
	Off      Mode = iota // what they show is dropped, unread
	Optional             // wrong is refused, nothing is fine
	Required             // nothing is refused too
)

// ParseMode takes off, optional and required.
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return Off, fmt.Errorf("%q is none of off, optional, required", s)
}

var modeNames = [...]string{"off", "optional", "required"}

func (m Mode) String() string { return modeNames[m] }

// Generation gives each client its tenant. It is immutable; the nil Generation denies
// everything.
type Generation struct {
	rest    Tenant
	tenants []Tenant
	clients *bart.Table[int32]      // index in tenants of the first that takes an address; nil: none does
	shown   map[auth.Selector]int32 // the same of what is shown; empty: none does
	asked   map[int32]struct{}      // those that take clients by what a 407 asks for
	pods    map[PodSelector]int32   // the same of pods; empty: none does
	asks    Authentication
	own     []netip.Addr
	name    *Name
	keeps   bool
	check   TunnelCheck
}

// New returns a generation in which all clients are t's.
func New(t Tenant) *Generation { return &Generation{rest: t, name: new(Name)} }

// Generation makes s a generation.
func (s Set) Generation() *Generation {
	name := s.Name // which keeps nothing else of s
	g := &Generation{name: &name, keeps: s.KeepOpen, check: s.Check, rest: s.Rest, asks: s.Authentication,
		shown: map[auth.Selector]int32{}, asked: map[int32]struct{}{}, pods: map[PodSelector]int32{}}
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
		for _, sel := range t.Pods {
			if _, taken := g.pods[sel]; !taken {
				g.pods[sel] = int32(i)
			}
		}
		for _, sel := range t.Shown {
			if _, taken := g.shown[sel]; taken {
				continue
			}
			if g.shown[sel] = int32(i); sel.By() != auth.ByCertificate {
				g.asked[int32(i)] = struct{}{}
			}
		}
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

// Name is what g is called; nil when it was given no number, and for the nil Generation. It
// does not keep g.
func (g *Generation) Name() *Name {
	if g == nil || g.name.Number == 0 {
		return nil
	}
	return g.name
}

// KeepsOpen reports whether what is open goes on when g would not admit it.
func (g *Generation) KeepsOpen() bool { return g != nil && g.keeps }

// TunnelCheck is what is done about what clients send first through tunnels.
func (g *Generation) TunnelCheck() TunnelCheck {
	if g == nil {
		return CheckOff
	}
	return g.check
}

// nobody is the tenant of clients that nothing is known of.
var nobody Tenant

// Tenant returns whose client is by its address, never nil. The zero Addr is the gateway
// itself, when it looks after what its configuration names. It may be called concurrently,
// and does not allocate.
func (g *Generation) Tenant(client netip.Addr) *Tenant { return g.TenantOf(client, Pod{}) }

// TenantOf is Tenant of a client whose address is that pod's, and that has shown to be all of
// ids: with this request, and by the certificate of its connection. nil is nobody.
func (g *Generation) TenantOf(client netip.Addr, pod Pod, ids ...*auth.Identity) *Tenant {
	if g == nil {
		return &nobody
	}
	first := int32(len(g.tenants))
	if g.clients != nil {
		if i, ok := g.clients.Lookup(client); ok {
			first = i
		}
	}
	if pod.Namespace != "" && len(g.pods) > 0 {
		for _, sel := range [...]PodSelector{{pod.Namespace, ""}, {pod.Namespace, pod.ServiceAccount}} {
			if i, ok := g.pods[sel]; ok {
				first = min(first, i)
			}
		}
	}
	if len(g.shown) > 0 {
		for _, id := range ids {
			for _, sel := range id.Selectors() {
				if i, ok := g.shown[sel]; ok {
					first = min(first, i)
				}
			}
		}
	}
	if int(first) < len(g.tenants) {
		return &g.tenants[first]
	}
	return &g.rest
}

// ByPod reports whether it matters which pod has a client's address.
func (g *Generation) ByPod() bool { return g != nil && len(g.pods) > 0 }

// ByAddr reports whether the address alone says whose a client is.
func (g *Generation) ByAddr() bool { return g == nil || len(g.pods)+len(g.shown) == 0 }

// Asks is what clients are to show.
func (g *Generation) Asks() Authentication {
	if g == nil {
		return Authentication{}
	}
	return g.asks
}

// manyTenants is for how many tenants MayLift looks at the rules.
const manyTenants = 64

// MayLift reports whether what t is denied to a client that has shown nothing might be
// allowed to one that does.
func (g *Generation) MayLift(t acl.Target) bool {
	if g == nil || g.asks.Mode == Off || len(g.asked) == 0 {
		return false
	}
	if len(g.asked) > manyTenants {
		return true
	}
	for i := range g.asked {
		if g.tenants[i].Rules.DecideHost(t).Verdict != acl.Deny {
			return true
		}
	}
	return false
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

// BusyBeside reports whether a tenant other than the one of that name has something under way, as far
// as that is counted. It goes through all of them.
func (g *Generation) BusyBeside(name string) bool {
	if g == nil {
		return false
	}
	busy := func(t *Tenant) bool { return t.Name != name && t.Usage != nil && t.Usage.Open() > 0 }
	for i := range g.tenants {
		if busy(&g.tenants[i]) {
			return true
		}
	}
	return busy(&g.rest)
}

// Own reports whether a is the gateway itself, which would ask itself in a circle.
func (g *Generation) Own(a netip.Addr) bool { return g != nil && slices.Contains(g.own, a) }
