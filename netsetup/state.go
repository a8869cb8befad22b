package netsetup

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// State is what a network namespace looks like, as far as it matters here.
// [Kernel.Inspect] reads it. The zero State has nothing.
type State struct {
	Links  []Link
	Addrs  []Addr
	Routes []Route // of the main table and of ours
	Rules  []Rule  // ours only
	Chains []Chain // of the nat tables, ours only
	// Sysctls are values by path below /proc/sys; what does not exist is missing.
	Sysctls map[string]string
	// ReadOnly says that /proc/sys cannot be written.
	ReadOnly bool
}

// Link is an interface.
type Link struct {
	Name string
	Kind string // macvlan, veth, bridge …
	Up   bool
	// Parent is of a macvlan that is to be made.
	Parent string
}

// Addr is an address on an interface.
type Addr struct {
	Link   string
	Prefix netip.Prefix
}

// Route is a unicast route.
type Route struct {
	Table   int
	Dst     netip.Prefix // of length 0: the default
	Gateway netip.Addr   // not valid: Dst is on the link
	Link    string       // of several next hops: the first's
	Src     netip.Addr   // preferred source address; not valid: the kernel chooses
	Metric  int
	MTU     int
	OnLink  bool // the gateway is on the link, whatever other routes say

	own    bool           // made by this package: it carries our protocol number
	kernel bool           // made by the kernel for an address: comes and goes with it
	raw    *netlink.Route // as it was read, with all that is not understood here; nil: it was not
}

// is4 reports whether the route is of the IPv4 family.
func (r Route) is4() bool { return r.Dst.Addr().Is4() }

// isDefault reports whether r goes everywhere.
func (r Route) isDefault() bool { return r.Dst.Bits() == 0 }

// same reports whether two routes send packets the same way. Who made them is no
// difference.
func (r Route) same(o Route) bool {
	r.own, r.kernel, r.raw = o.own, o.kernel, o.raw
	return r == o
}

// in is a copy of r for another table; it does not depend on an address any more.
func (r Route) in(table int) Route {
	r.Table, r.own, r.kernel = table, true, false
	return r
}

// Rule is a policy rule: who looks into which table.
type Rule struct {
	Priority int
	Table    int
	From     netip.Addr // not valid: from all
	IIF      string     // "": from everywhere
	V6       bool
	// Brought says that the package brought the address From to its interface, and
	// takes it away when it is no source any more.
	Brought bool
}

// Numbers of ours. Tables and priorities of rules are the same; 83 is the protocol
// number of what we made ("S"), 84 that of a rule whose address was there before.
const (
	tableMain    = 254
	tableCluster = 7700 // the cluster's routes and the default route that was there
	tableSource  = 7710 // of the first source; the second has the next, and so on
	lastTable    = tableSource + MaxSources - 1

	priorityPod     = tableCluster     // from the pod's addresses in the cluster
	priorityForward = tableCluster + 1 // answers to redirected connections

	protocolOwn   = 83
	protocolFound = 84
)

// ours reports whether a table or a rule's priority belongs to this package.
func ours(n int) bool { return n >= tableCluster && n <= lastTable }

// clone is a copy of s that shares nothing that is changed.
func (s State) clone() State {
	s.Links, s.Addrs, s.Routes = slices.Clone(s.Links), slices.Clone(s.Addrs), slices.Clone(s.Routes)
	s.Rules, s.Chains, s.Sysctls = slices.Clone(s.Rules), slices.Clone(s.Chains), maps.Clone(s.Sysctls)
	if s.Sysctls == nil {
		s.Sysctls = map[string]string{}
	}
	return s
}

// link finds an interface by its name.
func (s *State) link(name string) (Link, bool) {
	i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return s.Links[i], true
}

// carriers are the interfaces that have the address.
func (s *State) carriers(a netip.Addr) []string {
	var names []string
	for _, x := range s.Addrs {
		if x.Prefix.Addr() == a {
			names = append(names, x.Link)
		}
	}
	return names
}
