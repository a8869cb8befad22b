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
	if in, _ := embedded(a); in.IsValid() {
		n, _ = x.table.Lookup(in)
		best = min(best, x.denying(steps, n, port))
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

// How IPv6 addresses embed an IPv4 address: where its four bytes stand.
type embedding struct {
	space netip.Prefix
	at    int
}

var embeddings = [...]embedding{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052 section 2.1
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056 section 2
	{netip.MustParsePrefix("::/96"), 12},        // IPv4-compatible, RFC 4291 section 2.5.5.1
}

// notCompatible are the two addresses of ::/96 that embed nothing: unspecified
// and loopback (RFC 4291 sections 2.5.2 and 2.5.3).
var notCompatible = netip.MustParsePrefix("::/127")

// embedded returns the IPv4 address that a embeds, and by how many bits a
// prefix grows when the same thing is said about a; the zero Addr when a embeds
// none.
func embedded(a netip.Addr) (in netip.Addr, shift int) {
	if !a.Is6() {
		return netip.Addr{}, 0
	}
	b := a.As16()
	if b[0] != 0 && b[0] != 0x20 {
		return netip.Addr{}, 0 // the usual case, fast
	}
	for i := range embeddings {
		if e := &embeddings[i]; e.space.Contains(a) && !notCompatible.Contains(a) {
			return netip.AddrFrom4([4]byte(b[e.at:])), e.at * 8
		}
	}
	return netip.Addr{}, 0
}

// image returns the addresses that embed those of p, an IPv4 prefix.
func (e *embedding) image(p netip.Prefix) netip.Prefix {
	b, in := e.space.Addr().As16(), p.Addr().As4()
	copy(b[e.at:], in[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), e.at*8+p.Bits())
}
