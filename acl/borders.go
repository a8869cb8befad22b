package acl

import (
	"iter"
	"net/netip"
)

// tryAll computes the outlook of segment i exactly, by trying one address of
// every range whose addresses all decisions treat alike. Past the bound it
// leaves the outlook such that names are resolved.
func (l *outlooker) tryAll(i int) {
	port := l.s.segments[i]
	exact := outlook{allow: none, deny: none}
	for a := range l.p.samples() {
		if l.left <= 0 {
			l.outs[i].open(l.p.mode)
			return
		}
		rule, guarded := l.probe(a, port)
		exact.guards = exact.guards || guarded
		if rule != none && l.s.rules[rule].deny() {
			exact.deny = min(exact.deny, rule)
		} else if !guarded {
			exact.allow = min(exact.allow, rule)
		}
		if !guarded {
			exact.full = max(exact.full, rule)
		}
	}
	l.outs[i] = exact
}

// samples returns an address of every range between two borders: of prefixes in
// rules, of guarded ranges, and of the images of both in addresses that embed
// IPv4. Some ranges are sampled twice.
func (p *Policy) samples() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		// Both ends: the range of the prefix itself, and the one behind it.
		border := func(q netip.Prefix) bool {
			for _, a := range [...]netip.Addr{q.Addr(), last(q).Next()} {
				if a.IsValid() && !a.Is4In6() && !yield(a) {
					return false
				}
			}
			return true
		}
		for q := range p.borders() {
			if !border(q) {
				return
			}
			if !q.Addr().Is4() {
				continue
			}
			for i := range embeddings {
				if !border(embeddings[i].image(q)) {
					return
				}
			}
		}
	}
}

// borders returns every prefix that a decision about an address depends on.
func (p *Policy) borders() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		fixed := [...]netip.Prefix{
			netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0),
			notCompatible, embeddings[0].space, embeddings[1].space, embeddings[2].space,
		}
		for _, q := range fixed {
			if !yield(q) {
				return
			}
		}
		for q := range p.guardedPrefixes() {
			if !yield(q) {
				return
			}
		}
		for i := range p.set.addrs.entries {
			if q := p.set.addrs.entries[i].prefix; i > 0 && !yield(q) {
				return
			}
		}
	}
}

// guardedPrefixes returns the ranges that the guard knows, with their
// exemptions.
func (p *Policy) guardedPrefixes() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		for _, r := range standardRanges {
			if !yield(r.prefix) {
				return
			}
		}
		for a := range p.own {
			if !yield(netip.PrefixFrom(a, a.BitLen())) {
				return
			}
		}
		for _, r := range specialRanges {
			if !yield(r.prefix) {
				return
			}
		}
	}
}

// last returns the last address of p.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		if host := i*8 + 8 - p.Bits(); host > 0 {
			b[i] |= 0xff >> max(8-host, 0)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// middle returns the first address of the second half of p, which unlike the
// first and last ones has no special meaning in most networks.
func middle(p netip.Prefix) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return last(netip.PrefixFrom(p.Addr(), p.Bits()+1)).Next()
}
