package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Op is what a [Change] does. The order of the constants is the order in which
// changes are carried out: the default route last of what can fail, the rules that
// bring in connections after it, and what is not wanted any more at the end.
type Op uint8

// The operations.
const (
	_ Op = iota
	LinkAdd
	SysctlSet
	LinkUp
	Probe // fails when somebody else has one of the addresses
	RuleAdd
	AddrMove // an IPv6 address goes, to come back with another length
	AddrAdd
	RouteAdd
	RouteReplace
	DefaultAdd
	DefaultReplace
	NATLoad
	RouteDel
	RuleDel
	AddrDel
	LinkDown
	LinkDel
)

// Change is one thing to do. Which fields count depends on Op.
type Change struct {
	Op    Op
	Link  Link    // LinkAdd, LinkUp, LinkDown, LinkDel
	Addr  Addr    // AddrAdd, AddrMove, AddrDel
	Route Route   // Route…, Default…
	Old   Route   // RouteReplace, DefaultReplace: what is replaced
	Rule  Rule    // RuleAdd, RuleDel
	Probe []Addr  // Probe
	NAT   []Chain // NATLoad: all chains, as they are to be
	Gone  []Chain // NATLoad: chains that are there and must not
	Key   string  // SysctlSet: path below /proc/sys
	Value string  // SysctlSet
}

// String is the change as a command of a shell: one line, or for NATLoad several.
func (c Change) String() string {
	switch c.Op {
	case LinkAdd:
		return fmt.Sprintf("ip link add %s link %s type macvlan mode bridge", c.Link.Name, c.Link.Parent)
	case SysctlSet:
		return fmt.Sprintf("sysctl -qw %s=%s", dotted(c.Key), c.Value)
	case LinkUp:
		return fmt.Sprintf("ip link set %s up", c.Link.Name)
	case LinkDown:
		return fmt.Sprintf("ip link set %s down", c.Link.Name)
	case LinkDel:
		return fmt.Sprintf("ip link del %s", c.Link.Name)
	case Probe:
		return probeWords(c.Probe)
	case RuleAdd:
		return "ip" + option6(!c.Rule.V6) + " rule add " + c.Rule.words()
	case RuleDel:
		return "ip" + option6(!c.Rule.V6) + " rule del " + c.Rule.words()
	case AddrAdd:
		return "ip address add " + c.Addr.words()
	case AddrMove, AddrDel:
		return "ip address del " + strings.TrimSuffix(c.Addr.words(), " nodad")
	case RouteAdd, DefaultAdd:
		return "ip" + option6(c.Route.is4()) + " route add " + c.Route.words()
	case RouteReplace, DefaultReplace:
		return "ip" + option6(c.Route.is4()) + " route replace " + c.Route.words()
	case RouteDel:
		return "ip" + option6(c.Route.is4()) + " route del " + c.Route.words()
	case NATLoad:
		return "nft -f - <<'NFT'\n" + loadText(c.NAT, c.Gone) + "NFT"
	}
	return "# nothing"
}

func option6(is4 bool) string {
	if is4 {
		return ""
	}
	return " -6"
}

func probeWords(addrs []Addr) string {
	var lines []string
	for _, a := range addrs {
		if a.Prefix.Addr().Is4() {
			lines = append(lines, fmt.Sprintf("arping -q -D -c 3 -I %s %s # nobody else may have it", a.Link, a.Prefix.Addr()))
		} else {
			lines = append(lines, fmt.Sprintf("ndisc6 -q %s %s # nobody else may have it", a.Prefix.Addr(), a.Link))
		}
	}
	return strings.Join(lines, "\n")
}

func (a Addr) words() string {
	s := fmt.Sprintf("%s dev %s", a.Prefix, a.Link)
	if a.Prefix.Addr().Is6() {
		s += " nodad" // the probe asked already
	}
	return s
}

func (r Rule) words() string {
	s := fmt.Sprintf("pref %d", r.Priority)
	if r.From.IsValid() {
		s += fmt.Sprintf(" from %s", r.From)
	}
	if r.IIF != "" {
		s += fmt.Sprintf(" iif %s", r.IIF)
	}
	return fmt.Sprintf("%s lookup %d protocol %d", s, r.Table, r.protocol())
}

// protocol is the number by which a later run knows whose the address is.
func (r Rule) protocol() uint8 {
	if r.From.IsValid() && r.Priority >= tableSource && !r.Brought {
		return protocolFound
	}
	return protocolOwn
}

func (r Route) words() string {
	var w []string
	if r.isDefault() {
		w = append(w, "default")
	} else {
		w = append(w, r.Dst.String())
	}
	if r.Gateway.IsValid() {
		w = append(w, "via", r.Gateway.String())
	}
	if r.Link != "" {
		w = append(w, "dev", r.Link)
	}
	if r.OnLink {
		w = append(w, "onlink")
	}
	if r.Table != tableMain {
		w = append(w, "table", fmt.Sprint(r.Table))
	}
	if r.own {
		w = append(w, "proto", fmt.Sprint(protocolOwn))
	}
	if r.is4() && !r.Gateway.IsValid() {
		w = append(w, "scope", "link")
	}
	if r.Src.IsValid() {
		w = append(w, "src", r.Src.String())
	}
	if r.Metric != 0 && !(r.Metric == 1024 && !r.is4()) {
		w = append(w, "metric", fmt.Sprint(r.Metric))
	}
	if r.MTU != 0 {
		w = append(w, "mtu", fmt.Sprint(r.MTU))
	}
	return strings.Join(w, " ")
}

// order sorts changes into the order of their operations. Routes to gateways come
// before those by them.
func order(changes []Change) []Change {
	rank := func(c Change) int {
		n := int(c.Op) * 2
		if c.Op == RouteAdd && c.Route.Gateway.IsValid() {
			n++
		}
		return n
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return rank(a) - rank(b) })
	return changes
}

// diff is what leads from have to want, in order. Both ways round it is what
// undoes: [Kernel.Apply] goes back by diff(now, before).
func diff(have, want State) []Change {
	var all []Change
	all = append(all, diffLinks(have, want)...)
	for key, value := range want.Sysctls {
		if have.Sysctls[key] != value && !have.ReadOnly {
			all = append(all, Change{Op: SysctlSet, Key: key, Value: value})
		}
	}
	slices.SortFunc(all, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	all = append(all, diffAddrs(have, want)...)
	for _, r := range want.Rules {
		if !slices.Contains(have.Rules, r) {
			all = append(all, Change{Op: RuleAdd, Rule: r})
		}
	}
	for _, r := range have.Rules {
		if !slices.Contains(want.Rules, r) {
			all = append(all, Change{Op: RuleDel, Rule: r})
		}
	}
	all = append(all, diffRoutes(have, want)...)
	all = append(all, diffChains(have.Chains, want.Chains)...)
	return order(all)
}

func diffLinks(have, want State) []Change {
	var all []Change
	for _, l := range want.Links {
		old, there := have.link(l.Name)
		if !there {
			all = append(all, Change{Op: LinkAdd, Link: l})
		}
		if l.Up && !old.Up {
			all = append(all, Change{Op: LinkUp, Link: l})
		}
		if there && !l.Up && old.Up {
			all = append(all, Change{Op: LinkDown, Link: l})
		}
	}
	for _, l := range have.Links {
		if _, there := want.link(l.Name); !there {
			all = append(all, Change{Op: LinkDel, Link: l})
		}
	}
	return all
}

func diffAddrs(have, want State) []Change {
	var all []Change
	for _, a := range want.Addrs {
		if !slices.Contains(have.Addrs, a) {
			all = append(all, Change{Op: AddrAdd, Addr: a})
		}
	}
	for _, a := range have.Addrs {
		if slices.Contains(want.Addrs, a) {
			continue
		}
		op := AddrDel
		again := func(b Addr) bool { return b.Link == a.Link && b.Prefix.Addr() == a.Prefix.Addr() }
		if a.Prefix.Addr().Is6() && slices.ContainsFunc(want.Addrs, again) {
			op = AddrMove // the kernel has an IPv6 address but once
		}
		all = append(all, Change{Op: op, Addr: a})
	}
	return all
}

// diffRoutes leaves alone what the kernel makes for addresses. A route that takes
// another's place (same table, destination and metric) replaces it, so that there
// is a way at any time.
func diffRoutes(have, want State) []Change {
	var all []Change
	replaced := map[int]bool{}
	for _, r := range want.Routes {
		if r.kernel || slices.ContainsFunc(have.Routes, r.same) {
			continue
		}
		c := Change{Op: RouteAdd, Route: r}
		i := slices.IndexFunc(have.Routes, func(o Route) bool {
			return o.Table == r.Table && o.Dst == r.Dst && o.Metric == r.Metric && !o.kernel && !slices.ContainsFunc(want.Routes, o.same)
		})
		if i >= 0 && !replaced[i] {
			replaced[i] = true
			c.Op, c.Old = RouteReplace, have.Routes[i]
		}
		if r.Table == tableMain && r.isDefault() {
			c.Op += DefaultAdd - RouteAdd
		}
		all = append(all, c)
	}
	for i, r := range have.Routes {
		if !r.kernel && !replaced[i] && !slices.ContainsFunc(want.Routes, r.same) {
			all = append(all, Change{Op: RouteDel, Route: r})
		}
	}
	return all
}

// hostPrefix is the prefix of one address.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
