package acl

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// Embedded returns the IPv4 addresses that a embeds, as the deny rules and the guard see them;
// none for most addresses.
func Embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() || a.Is4In6() {
		return nil
	}
	var in inners
	in.embedded(a)
	out := make([]netip.Addr, 0, in.n)
	for _, i := range in.list[:in.n] {
		if !slices.Contains(out, i.addr) {
			out = append(out, i.addr)
		}
	}
	return out
}

// Guarded returns the guarded range that an address, which the rules may allow or not, is in on
// that port, and that no rule unlocks there; GuardNone if there is none. own, when it is valid, is
// an address of the host besides those of the guard.
func (p *Policy) Guarded(a netip.Addr, port uint16, own netip.Addr) GuardRange {
	a = a.Unmap()
	if p == nil || !a.IsValid() || p.mode == GuardOff {
		return GuardNone
	}
	return p.guardedAs(a, port, own)
}

// Kinds returns addresses such that any other is as good as one of them to show what the policies
// decide differently, and what decides: in the same prefixes of rules of all of them and in the same
// guarded ranges, and embedding an IPv4 address of which the same is true, as far as that matters
// there. Each is canonical. The own addresses of the guards are looked at; nil policies are not.
func Kinds(ps ...*Policy) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		k := newKinds(ps)
		k.yield, k.on = yield, true
		for _, a := range k.four {
			k.try(a)
		}
		bases := k.bases()
		for _, a := range bases {
			k.behind(a)
		}
	}
}

// kinds is what Kinds goes by.
type kinds struct {
	ps        []*Policy
	four, six []netip.Addr // where ranges begin between two borders, in order
	inner     []netip.Addr // one of four of each kind that matters inside of another address
	seen      map[string]bool
	key       []byte
	yield     func(netip.Addr) bool
	on        bool // yield wants more
}

func newKinds(ps []*Policy) *kinds {
	k := &kinds{seen: map[string]bool{}}
	for _, p := range ps {
		if p == nil {
			continue
		}
		k.ps = append(k.ps, p)
		for q := range p.borders() {
			all := &k.four
			if q.Addr().Is6() {
				all = &k.six
			}
			for _, a := range ends(q) {
				if a.IsValid() {
					*all = append(*all, a)
				}
			}
		}
	}
	for _, all := range []*[]netip.Addr{&k.four, &k.six} {
		slices.SortFunc(*all, netip.Addr.Compare)
		*all = slices.Compact(*all)
	}
	for _, v := range k.four {
		if k.key = k.appendInner(k.key[:0], v); k.fresh() {
			k.inner = append(k.inner, v)
		}
	}
	clear(k.seen)
	return k
}

// fresh reports whether the key is a new one.
func (k *kinds) fresh() bool {
	if k.seen[string(k.key)] {
		return false
	}
	k.seen[string(k.key)] = true
	return true
}

// try yields an address if it is the first of its kind, and reports that.
func (k *kinds) try(a netip.Addr) bool {
	if !k.on || !a.IsValid() || a.Is4In6() {
		return false
	}
	if k.key = k.appendKind(k.key[:0], a); !k.fresh() {
		return false
	}
	k.on = k.yield(a)
	return true
}

// bases tries the IPv6 addresses where something begins, and one for each way to embed an IPv4
// address that says where the bits behind it are free. It returns those that are of a new kind.
func (k *kinds) bases() (out []netip.Addr) {
	try := func(a netip.Addr) {
		if k.try(a) {
			out = append(out, a)
		}
	}
	for _, a := range k.six {
		try(a)
		if embeddings[embedTeredoClient].space.Contains(a) {
			try(a.Prev()) // where bits are inverted, ranges begin at the other end
		}
		if next := last(netip.PrefixFrom(a, 64)).Next(); next.IsValid() {
			try(next) // the network behind, for a may be alone in its own
		}
	}
	for i := range embeddings[:embedFree] {
		e := &embeddings[i]
		if e.guess && !k.parted(e.space) {
			continue // one reading is enough: see behind
		}
		for _, v := range k.line(e.space) {
			try(e.image(netip.PrefixFrom(v, 32)).Addr())
		}
	}
	return out
}

// behind tries the addresses of a's network, or with a's first bits, that embed an IPv4 address in
// the bits that are left.
//
// An address may embed two: in its network, and behind an ISATAP marker. What a policy decides by the
// one it decides of an address that embeds that one twice, or alone, unless rules tell these apart.
func (k *kinds) behind(a netip.Addr) {
	b := a.As16()
	if e := &embeddings[embedTeredoClient]; e.space.Contains(a) {
		if k.parted(e.space) {
			k.along(frame{how: e, b: b})
			k.along(frame{how: e, b: b, both: true})
		} else if a == e.space.Addr() {
			k.along(frame{how: e, b: b, both: true})
		}
	}
	if in := k.space(a); in == nil || k.parted(*in) {
		m := b
		m[8], m[9], m[10], m[11] = 0, 0, 0x5e, 0xfe
		k.along(frame{how: &embeddings[embedISATAP], b: m})
		if m[8] = 2; k.parted(netip.PrefixFrom(a, 64).Masked()) {
			k.along(frame{how: &embeddings[embedISATAP], b: m})
		}
	}
	for _, how := range embedLocals {
		e := &embeddings[how]
		if !e.space.Contains(a) {
			continue
		}
		f := frame{how: e, b: b}
		if !k.parted(e.space) {
			if how == embedLocal96 && a == e.space.Addr() {
				k.along(f) // where the other readings come to nothing
			}
			continue
		}
		for _, v := range k.four { // rules tell the readings apart: each with each
			m := f.with(v)
			if !k.try(m) {
				continue
			}
			for _, other := range embedLocals {
				k.along(frame{how: &embeddings[other], b: m.As16()})
			}
		}
	}
}

// space is the space of an embedding that a is in, other than ISATAP's; nil if it is in none.
func (k *kinds) space(a netip.Addr) *netip.Prefix {
	for i := range embeddings {
		if e := &embeddings[i]; !e.marked && e.space.Contains(a) {
			return &e.space
		}
	}
	return nil
}

// along tries the addresses of a frame.
func (k *kinds) along(f frame) {
	line := netip.PrefixFrom(f.with(netip.IPv4Unspecified()), f.how.at*8).Masked()
	if f.how.guess {
		line = f.how.space
	}
	for _, v := range k.line(line) {
		k.try(f.with(v))
	}
}

// line is which IPv4 addresses to try where addresses of p embed them.
func (k *kinds) line(p netip.Prefix) []netip.Addr {
	if k.parted(p) {
		return k.four
	}
	return k.inner
}

// parted reports whether rules or own addresses tell addresses of p apart by more than what they
// embed.
func (k *kinds) parted(p netip.Prefix) bool {
	for _, pol := range k.ps {
		for q := range pol.set.addrs.table.Subnets(p) {
			if q.Bits() > p.Bits() {
				return true
			}
		}
		for a := range pol.own {
			if p.Contains(a) {
				return true
			}
		}
	}
	return false
}

// appendKind appends what matters of an address.
func (k *kinds) appendKind(b []byte, a netip.Addr) []byte {
	for _, p := range k.ps {
		n, _ := p.set.addrs.table.Lookup(a)
		b = append32(b, n)
		if _, own := p.own[a]; own {
			b = append(b, 'o')
		}
	}
	b = appendRanges(b, a)
	if !a.Is6() {
		return b
	}
	var in inners
	in.embedded(a)
	for _, i := range in.list[:in.n] {
		b = append(b, byte(i.how.at), '.')
		b = k.appendInner(b, i.addr)
	}
	return b
}

// appendInner appends what matters of an IPv4 address that another one embeds: which deny rules
// match it, whether it is guarded, and which rules unlock that.
func (k *kinds) appendInner(b []byte, v netip.Addr) []byte {
	guarded := rangeOf(standardRanges, v) != nil || rangeOf(specialRanges, v) != nil
	for _, p := range k.ps {
		x := &p.set.addrs
		n, _ := x.table.Lookup(v)
		denying := n
		for denying != 0 && x.entries[denying].deny == 0 {
			denying = x.entries[denying].up
		}
		b = append32(b, denying)
		_, own := p.own[v]
		switch single := n != 0 && x.entries[n].prefix.IsSingleIP() && x.entries[n].allow != 0; {
		case guarded || own || single && x.entries[n].allow >= cellSteps:
			b = append32(b, n)
		case single:
			b = append32(b, ^uint32(0)) // it unlocks the address, should that be the host's own
		default:
			b = append32(b, 0)
		}
		if own {
			b = append(b, 'o')
		}
	}
	return appendRanges(b, v)
}

// appendRanges appends in which guarded ranges an address is.
func appendRanges(b []byte, a netip.Addr) []byte {
	for i := range standardRanges {
		if standardRanges[i].prefix.Contains(a) {
			b = append(b, 's', byte(i))
		}
	}
	for i := range specialRanges {
		if specialRanges[i].prefix.Contains(a) {
			return append(b, 'S', byte(i))
		}
	}
	return b
}

func append32(b []byte, n uint32) []byte {
	return append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}

// SameGuard reports whether two policies have the same guard: mode, and addresses of the host.
func (p *Policy) SameGuard(q *Policy) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.mode == q.mode && maps.Equal(p.own, q.own)
}

// WithGuardOf returns p with the guard of q.
func (p *Policy) WithGuardOf(q *Policy) *Policy {
	if p == nil || q == nil {
		return p
	}
	r := &Policy{set: p.set, mode: q.mode, own: q.own}
	r.outlooks = newOutlooker(r, maxProbes).run()
	return r
}
