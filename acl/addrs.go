package acl

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// An addrIndex finds the earliest rule for an address: the longest prefix by
// one look-up in a table, the shorter ones by links.
type addrIndex struct {
	table   bart.Table[uint32] // prefix to entry
	entries []entry            // entries[0] stands for no prefix
	rules   []addrRule         // every address rule, in order
}

// An entry is one prefix.
type entry struct {
	prefix netip.Prefix
	allow  cell   // allow rules for the prefix
	deny   cell   // deny rules for the prefix
	up     uint32 // nearest shorter prefix that contains this one; 0 is none
}

// An addrRule is an address rule, kept to find out which rules have an effect.
type addrRule struct {
	rule  ruleNo
	entry uint32
	ports []portRange
	deny  bool
}

// earliest returns the earliest rule that matches a, or none. By rule 5 of the
// language, an address that embeds an IPv4 address is matched by the deny rules
// for that address too.
func (x *addrIndex) earliest(steps stepTable, a netip.Addr, port uint16) ruleNo {
	n, _ := x.table.Lookup(a)
	best := x.matching(steps, n, port)
	if a.Is6() {
		var in inners
		in.embedded(a)
		for i := range in.list[:in.n] {
			n, _ = x.table.Lookup(in.list[i].addr)
			best = min(best, x.denying(steps, n, port))
		}
	}
	return best
}

// matching returns the earliest rule for entry n and all that contain it.
func (x *addrIndex) matching(steps stepTable, n uint32, port uint16) ruleNo {
	best := none
	for n != 0 {
		e := &x.entries[n]
		best = min(best, steps.at(e.allow, port), steps.at(e.deny, port))
		n = e.up
	}
	return best
}

// denying returns the earliest deny rule for entry n and all that contain it.
func (x *addrIndex) denying(steps stepTable, n uint32, port uint16) ruleNo {
	best := none
	for n != 0 {
		e := &x.entries[n]
		best = min(best, steps.at(e.deny, port))
		n = e.up
	}
	return best
}

// allows reports whether some allow rule for a, wherever it stands, has a prefix
// of at least bits.
func (x *addrIndex) allows(steps stepTable, a netip.Addr, bits int, port uint16) bool {
	n, _ := x.table.Lookup(a)
	for n != 0 && x.entries[n].prefix.Bits() >= bits {
		if steps.at(x.entries[n].allow, port) != none {
			return true
		}
		n = x.entries[n].up
	}
	return false
}

// add adds an address rule while the index is built.
func (x *addrIndex) add(b *builder, f *form, rule ruleNo, ports []portRange) {
	n, ok := x.table.Get(f.prefix)
	if !ok {
		if len(x.entries) == 0 {
			x.entries = append(x.entries, entry{})
		}
		n = uint32(len(x.entries))
		x.entries = append(x.entries, entry{prefix: f.prefix})
		x.table.Insert(f.prefix, n)
	}
	e := &x.entries[n]
	own, other := &e.allow, e.deny
	if f.deny {
		own, other = &e.deny, e.allow
	}
	fresh := *own == 0
	if b.add(own, rule, ports) && fresh && other != 0 && other < cellSteps && ports == nil {
		b.dead(rule, ruleNo(other)-1)
	}
	x.rules = append(x.rules, addrRule{rule: rule, entry: n, ports: ports, deny: f.deny})
}

// finish links the entries when all rules are there.
func (x *addrIndex) finish(b *builder) {
	for i := range x.entries {
		e := &x.entries[i]
		b.finishPair(&e.allow, &e.deny)
		if p := e.prefix; p.Bits() > 0 {
			e.up, _ = x.table.LookupPrefix(netip.PrefixFrom(p.Addr(), p.Bits()-1))
		}
	}
}
