package acltest

import (
	"net/netip"
	"strings"
)

// The guarded ranges once more, on purpose.
const (
	standard = `
unspecified 0.0.0.0/8
unspecified ::/128
loopback 127.0.0.0/8
loopback ::1/128
link-local 169.254.0.0/16
link-local fe80::/10
site-local fec0::/10
multicast 224.0.0.0/4
multicast ff00::/8
broadcast 255.255.255.255/32
metadata 100.100.100.200/32
metadata 168.63.129.16/32
metadata 192.0.0.192/32
metadata fd00:ec2::254/128
metadata fd20:ce::254/128`

	// Behind the range, what inside it is globally reachable.
	special = `
special-purpose 10.0.0.0/8
special-purpose 172.16.0.0/12
special-purpose 192.168.0.0/16
special-purpose 100.64.0.0/10
special-purpose 192.0.0.0/24 192.0.0.9/32 192.0.0.10/32
special-purpose 192.0.2.0/24
special-purpose 198.51.100.0/24
special-purpose 203.0.113.0/24
special-purpose 192.88.99.2/32
special-purpose 198.18.0.0/15
special-purpose 240.0.0.0/4
special-purpose 64:ff9b:1::/48
special-purpose 100::/64
special-purpose 100:0:0:1::/64
special-purpose 2001::/23 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:3::/32 2001:4:112::/48 2001:20::/28 2001:30::/28
special-purpose 2001:db8::/32
special-purpose 3fff::/20
special-purpose 5f00::/16
special-purpose fc00::/7`
)

func guardedRanges(strict bool, own []netip.Addr) []guarded {
	ranges := readRanges(standard)
	var owned []guarded
	for _, a := range own {
		a = a.Unmap().WithZone("")
		inStandard := false
		for _, g := range ranges {
			inStandard = inStandard || g.prefix.Contains(a)
		}
		if !inStandard {
			owned = append(owned, guarded{class: "own address", prefix: netip.PrefixFrom(a, a.BitLen())})
		}
	}
	ranges = append(ranges, owned...)
	if strict {
		ranges = append(ranges, readRanges(special)...)
	}
	return ranges
}

func readRanges(text string) []guarded {
	var out []guarded
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		words := strings.Fields(line)
		g := guarded{class: words[0], prefix: netip.MustParsePrefix(words[1])}
		for _, w := range words[2:] {
			g.exempted = append(g.exempted, netip.MustParsePrefix(w))
		}
		out = append(out, g)
	}
	return out
}

func (g *guarded) contains(a netip.Addr) bool {
	for _, e := range g.exempted {
		if e.Contains(a) {
			return false
		}
	}
	return g.prefix.Contains(a)
}

// guards returns the class of a range that guards a, or "".
func (r *Reference) guards(a netip.Addr, port uint16) string {
	for i := range r.ranges {
		if g := &r.ranges[i]; g.contains(a) && !r.unlocks(g, a, port) {
			return g.class
		}
	}
	for _, in := range embeds(a) {
		for i := range r.ranges {
			if g := &r.ranges[i]; g.contains(in.addr) && !r.unlocks(g, in.addr, port) && !r.unlocksAround(g, a, in.how, port) {
				return g.class
			}
		}
	}
	return ""
}

// unlocks reports whether an allow rule for a lies inside g.
func (r *Reference) unlocks(g *guarded, a netip.Addr, port uint16) bool {
	for i := range r.rules {
		u := &r.rules[i]
		if u.name == nil && !u.deny && u.wants(port) && u.prefix.Contains(a) &&
			g.prefix.Contains(u.prefix.Addr()) && u.prefix.Bits() >= g.prefix.Bits() {
			return true
		}
	}
	return false
}

// unlocksAround reports whether an allow rule for a, which embeds an address of
// g, holds nothing but addresses that embed addresses of g in the same way.
func (r *Reference) unlocksAround(g *guarded, a netip.Addr, how layout, port uint16) bool {
	for i := range r.rules {
		u := &r.rules[i]
		if u.name == nil && !u.deny && u.wants(port) && u.prefix.Contains(a) && u.prefix.Bits() >= how.needs(g.prefix.Bits()) {
			return true
		}
	}
	return false
}
