//go:build linux

package squid

import (
	"net/netip"
	"slices"
)

// guardedPrefixes are the standard guard of acl.md.
var guardedPrefixes = func() (list []netip.Prefix) {
	for _, s := range []string{
		"127.0.0.0/8", "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",
		"::1/128", "::/128", "fe80::/10", "ff00::/8",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	for _, a := range ownAddrs {
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	return list
}()

// guarded reports whether the guard denies a although the rules allow it.
func (s scenario) guarded(b behaviour, a netip.Addr) bool {
	return s.locked(b, a, a) || s.locked(b, embedded(a), a)
}

// locked reports whether inner, which is a or embedded in it, is in a guarded range
// that no allow rule lies in which covers it.
func (s scenario) locked(b behaviour, inner, a netip.Addr) bool {
	for _, g := range guardedPrefixes {
		if !g.Contains(inner) {
			continue
		}
		return !slices.ContainsFunc(s.list.rules, func(r rule) bool {
			if r.name != "" || r.deny || r.unseen(b) {
				return false
			}
			inside := r.prefix.Bits() >= g.Bits() && r.prefix.Contains(inner)
			// Or it lies inside the image of the range around inner.
			return inside || inner != a && r.prefix.Contains(a) && r.prefix.Bits() >= imageBits(a, g.Bits())
		})
	}
	return false
}

// carryingPrefixes are where IPv6 addresses hold IPv4 addresses.
var carryingPrefixes = []netip.Prefix{
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("::ffff:0:0/96"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2002::/16"),
}

// embedded is the IPv4 address that NAT64, 6to4 or IPv4-compatible a carries, or
// the zero Addr, which no prefix contains.
func embedded(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case !a.Is6():
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a),
		netip.MustParsePrefix("::/96").Contains(a) && a.Compare(netip.MustParseAddr("::1")) > 0:
		return netip.AddrFrom4([4]byte(b[12:]))
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(b[2:]))
	}
	return netip.Addr{}
}

// imageBits is the length of the prefix that holds what embeds an IPv4 prefix.
func imageBits(a netip.Addr, bits int) int {
	if netip.MustParsePrefix("2002::/16").Contains(a) {
		return 16 + bits
	}
	return 96 + bits
}

// everyKindOfAddress are addresses, at least one of every kind that the list and the
// guard can tell apart: both ends of every range and their neighbours outside, and
// what embeds them.
func (s scenario) everyKindOfAddress() (kinds []netip.Addr) {
	prefixes := slices.Concat(guardedPrefixes, carryingPrefixes)
	for _, r := range s.list.rules {
		if r.name == "" {
			prefixes = append(prefixes, r.prefix)
		} else {
			for _, a := range s.world.addrs[r.name] { // should it be frozen
				prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	for _, p := range prefixes {
		first, last := p.Addr(), lastOf(p)
		for _, a := range []netip.Addr{first, last, first.Prev(), last.Next()} {
			if !a.IsValid() || a.Is4In6() {
				continue
			}
			kinds = append(kinds, a)
			if a.Is4() {
				kinds = append(kinds, embeddings(a)...)
			}
		}
	}
	return kinds
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// embeddings are addresses that carry a.
func embeddings(a netip.Addr) []netip.Addr {
	in := a.As4()
	nat64 := netip.MustParseAddr("64:ff9b::").As16()
	sixToFour := netip.MustParseAddr("2002::").As16()
	var compatible [16]byte
	copy(nat64[12:], in[:])
	copy(sixToFour[2:], in[:])
	copy(compatible[12:], in[:])
	return []netip.Addr{netip.AddrFrom16(nat64), netip.AddrFrom16(sixToFour), netip.AddrFrom16(compatible)}
}
