package audit

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/sluiceproxy/sluice/acl"
)

// A cover is earlier rules that match all that a rule does, none of which could be left away.
type cover struct {
	lines  []int32
	target Target // that the rule and one of lines match
	alike  bool   // lines are about names as the rule is, or about addresses, and the other of the two is not asked
}

// A part is some of what a rule matches: names, or addresses, on some ports, with the earlier rules
// that match it too.
type part struct {
	by       []int32
	from, to int32
	name     string
	addr     netip.Addr
}

// cover finds what covers rule no on ports; it is known that something does.
func (r *linter) cover(no int32, ports []acl.PortRange) (c cover) {
	names, addrs := r.parts(no, ports)
	if r.budget.over("names") {
		return c
	}
	// What decides covers; each is then tried without.
	seen := map[int32]bool{}
	for _, ps := range [][]part{names, addrs} {
		for _, p := range ps {
			if len(p.by) > 0 {
				seen[p.by[0]] = true
			}
		}
	}
	lines := slices.Sorted(maps.Keys(seen))
	for i := len(lines) - 1; i >= 0; i-- {
		fewer := slices.Delete(slices.Clone(lines), i, i+1)
		if _, _, open := uncovered(names, addrs, fewer); !open {
			lines = fewer
		}
	}
	c.lines = lines
	if c.alike = covered(names); r.list.rules[no].Form == acl.FormAddr {
		c.alike = covered(addrs)
	}
	if len(names) > 0 && len(addrs) > 0 {
		c.target = r.example(names, addrs)
	}
	return c
}

// covered reports whether earlier rules match all of the parts.
func covered(ps []part) bool {
	return !slices.ContainsFunc(ps, func(p part) bool { return len(p.by) == 0 })
}

// uncovered finds a target that no line covers: its name none, and its address none, on one port.
func uncovered(names, addrs []part, lines []int32) (n, a *part, open bool) {
	bare := func(ps []part) (out []*part) {
		for i := range ps {
			if !slices.ContainsFunc(ps[i].by, func(r int32) bool { return slices.Contains(lines, r) }) {
				out = append(out, &ps[i])
			}
		}
		return out
	}
	bareNames := bare(names)
	if len(bareNames) == 0 {
		return nil, nil, false
	}
	for _, a := range bare(addrs) {
		for _, n := range bareNames {
			if max(n.from, a.from) <= min(n.to, a.to) {
				return n, a, true
			}
		}
	}
	return nil, nil, false
}

func (r *linter) example(names, addrs []part) Target {
	for i := range names {
		for j := range addrs {
			n, a := &names[i], &addrs[j]
			if from, to := max(n.from, a.from), min(n.to, a.to); from <= to {
				t := Target{Addr: a.addr}
				t.Port = usualPort(from, to)
				if t.Host = acl.HostFromAddr(a.addr); n.name != "" {
					t.Host, _ = acl.ParseHost(n.name)
				}
				return t
			}
		}
	}
	return Target{}
}

// parts are what rule no matches on ports, apart from what the guard denies to an allow rule. Where
// earlier rules cover all its names, addresses don't matter, and the other way round.
func (r *linter) parts(no int32, ports []acl.PortRange) (names, addrs []part) {
	rule := &r.list.rules[no]
	if rule.Form == acl.FormAddr {
		if addrs = r.addrParts(no, ports); covered(addrs) {
			return []part{{from: 1, to: 65535}}, addrs
		}
		return r.nameParts(no, ports), addrs
	}
	if names = r.nameParts(no, ports); covered(names) {
		return names, []part{{from: 1, to: 65535, addr: r.plain()}}
	}
	return names, r.addrParts(no, ports)
}

// somewhere is an address that shows what a rule on names does.
var somewhere = netip.AddrFrom4([4]byte{198, 51, 100, 1})

// plain is somewhere, or another address, of which neither rules nor the guard say anything, if there is one.
func (r *linter) plain() netip.Addr {
	for _, a := range [...]netip.Addr{somewhere, netip.AddrFrom4([4]byte{45, 67, 89, 1}), netip.AddrFrom16([16]byte{0x26, 15: 1})} {
		if len(r.list.ofAddr(a, nil, nil)) == 0 && r.list.p.Guarded(a, 443, netip.Addr{}) == acl.GuardNone {
			return a
		}
	}
	return somewhere
}

// each calls f for the parts of something that rules match, on ports: with those in front of no.
func (r *linter) each(no int32, rules []int32, ports []acl.PortRange, f func(part)) {
	l := r.list
	r.cutBuf = l.cuts(r.cutBuf[:0], rules, false)
	r.spans(func(from, to int32) {
		for _, p := range ports {
			a, b := max(from, int32(p.From)), min(to, int32(p.To))
			if a > b {
				continue
			}
			var by []int32
			for _, e := range rules {
				if e < no && l.rules[e].Wants(uint16(a)) && !(r.lasting && r.ends(e)) {
					by = append(by, e)
				}
			}
			f(part{by: by, from: a, to: b})
		}
	})
}

// nameParts are the names that a rule matches; all of them, and literals, for an address rule.
func (r *linter) nameParts(no int32, ports []acl.PortRange) (names []part) {
	l, rule := r.list, &r.list.rules[no]
	all := rule.Form == acl.FormAddr || rule.Form == acl.FormStar
	var one *list
	r.tree.again()
	r.tree.scope = nil
	if !all {
		one = newList(singly(rule))
		if s := emptyScope(); s.add(rule) {
			r.tree.scope = s
		}
	}
	var buf []int32
	add := func(name string) {
		if r.budget.spent("names") || !all && len(one.ofName(name, nil)) == 0 {
			return
		}
		buf = l.ofName(name, buf)
		r.each(no, buf, ports, func(p part) {
			p.name = name
			names = append(names, p)
		})
	}
	if r.tree.all(add) != nil {
		r.budget.give("names: patterns with * below one domain multiply")
	}
	if all {
		add("")
	}
	return names
}

// addrParts are the addresses that a rule matches; all of them for a rule on names.
func (r *linter) addrParts(no int32, ports []acl.PortRange) (addrs []part) {
	l, rule := r.list, &r.list.rules[no]
	var buf []int32
	for _, a := range r.kindsOf(rule) {
		if r.budget.spent("addresses") {
			break
		}
		if buf = l.ofAddr(a, acl.Embedded(a), buf); rule.Form == acl.FormAddr && !slices.Contains(buf, no) {
			continue
		}
		r.each(no, buf, ports, func(p part) {
			if rule.Deny || l.p.Guarded(a, uint16(p.from), netip.Addr{}) == acl.GuardNone {
				p.addr = a
				addrs = append(addrs, p)
			}
		})
	}
	return addrs
}

// An inner is an address that another one embeds.
type inner struct{ v, in netip.Addr }

// allKinds are the kinds of addresses, sorted.
func (r *linter) allKinds() []netip.Addr {
	if r.sorted == nil {
		r.sorted = slices.Clone(r.kinds)
		slices.SortFunc(r.sorted, netip.Addr.Compare)
		for _, a := range r.sorted {
			for _, v := range acl.Embedded(a) {
				r.inners = append(r.inners, inner{v, a})
			}
		}
		slices.SortFunc(r.inners, func(a, b inner) int { return a.v.Compare(b.v) })
	}
	return r.sorted
}

// kindsOf are the kinds of addresses that a rule may match, all for a rule on names.
func (r *linter) kindsOf(rule *acl.Rule) []netip.Addr {
	r.allKinds()
	if rule.Form != acl.FormAddr {
		return r.sorted
	}
	var out []netip.Addr
	i, _ := slices.BinarySearchFunc(r.sorted, rule.Prefix.Addr(), netip.Addr.Compare)
	for ; i < len(r.sorted) && rule.Prefix.Contains(r.sorted[i]); i++ {
		out = append(out, r.sorted[i])
	}
	if !rule.Deny || rule.Prefix.Addr().Is6() {
		return out
	}
	i, _ = slices.BinarySearchFunc(r.inners, rule.Prefix.Addr(), func(x inner, v netip.Addr) int { return x.v.Compare(v) })
	for ; i < len(r.inners) && rule.Prefix.Contains(r.inners[i].v); i++ {
		out = append(out, r.inners[i].in)
	}
	return out
}

// singly is the policy of one rule.
func singly(r *acl.Rule) *acl.Policy {
	one := *r
	one.Ports, one.Deny = nil, false
	p, _ := acl.Parse(one.Canonical())
	return p
}
