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
		try := func(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() || yield(a) }
		for q := range p.borders() {
			for _, a := range ends(q) {
				if !try(a) {
					return
				}
			}
			if !q.Addr().Is4() {
				continue
			}
			for i := range embeddings[:embedFree] {
				for _, a := range ends(embeddings[i].image(q)) {
					if !try(a) {
						return
					}
				}
			}
		}
		frames := p.frames()
		for q := range p.borders() {
			for _, a := range ends(q) {
				for i := range frames {
					if a.Is4() && !try(frames[i].with(a)) {
						return
					}
				}
			}
		}
	}
}

// ends returns where the range of q begins, and the one behind it.
func ends(q netip.Prefix) [2]netip.Addr { return [2]netip.Addr{q.Addr(), last(q).Next()} }

// A frame is an IPv6 address but for the IPv4 address that it embeds, where the bits in
// front of that, or between, may be anything: each prefix has very many images then.
type frame struct {
	how  *embedding
	b    [16]byte
	both bool // Teredo: the server's address is the client's
}

func (f *frame) with(a netip.Addr) netip.Addr {
	b := f.b
	f.how.put(&b, a)
	if f.both {
		embeddings[embedTeredoServer].put(&b, a)
	}
	return netip.AddrFrom16(b)
}

// frames returns the frames that the prefixes of rules and guarded ranges tell from each
// other. Prefixes that have no rule inside a network of 64 bits are alike when the same
// rule is theirs.
func (p *Policy) frames() []frame {
	var out []frame
	seen := map[frame]bool{}
	add := func(f frame) {
		f.how.put(&f.b, netip.IPv4Unspecified())
		if !seen[f] {
			seen[f] = true
			out = append(out, f)
		}
	}
	entries := map[uint32]bool{}
	for q := range p.borders() {
		if _, own := p.own[q.Addr()]; q.Addr().Is4() || own && q.IsSingleIP() {
			continue
		}
		for _, a := range ends(q) {
			if !a.IsValid() {
				continue
			}
			b := a.As16()
			at64 := netip.PrefixFrom(a, 64).Masked()
			for range 2 { // this network, and the one behind it
				n, _ := p.set.addrs.table.LookupPrefix(at64)
				if q.Bits() > 64 || !entries[n] {
					entries[n] = true
					for _, unique := range [...]byte{0, 2} {
						m := at64.Addr().As16()
						m[8], m[10], m[11] = unique, 0x5e, 0xfe
						add(frame{how: &embeddings[embedISATAP], b: m})
					}
				}
				if at64 = netip.PrefixFrom(last(at64).Next(), 64); !at64.IsValid() {
					break
				}
			}
			if e := &embeddings[embedTeredoClient]; e.space.Contains(a) {
				add(frame{how: e, b: b})
				add(frame{how: e, b: b, both: true})
			}
			for _, how := range embedLocals {
				if e := &embeddings[how]; e.space.Contains(a) {
					add(frame{how: e, b: b})
				}
			}
		}
	}
	return out
}

// borders returns every prefix that a decision about an address depends on.
func (p *Policy) borders() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		fixed := [...]netip.Prefix{
			netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0),
			notCompatible,
		}
		for _, q := range fixed {
			if !yield(q) {
				return
			}
		}
		for i := range embeddings {
			if !yield(embeddings[i].space) {
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
