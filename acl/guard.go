package acl

import (
	"fmt"
	"net/netip"
)

// A GuardMode says what is denied whatever the rules allow.
type GuardMode uint8

const (
	// GuardDefault guards loopback, unspecified, link-local, site-local, multicast
	// and broadcast addresses, those of the metadata services of clouds, and those
	// of the host itself.
	GuardDefault GuardMode = iota
	// GuardStrict adds every range that the IANA special-purpose registries
	// call not globally reachable.
	GuardStrict
	// GuardOff guards nothing.
	GuardOff
)

// ParseGuardMode reads "default" (or ""), "strict" or "off".
func ParseGuardMode(s string) (GuardMode, error) {
	switch s {
	case "", "default":
		return GuardDefault, nil
	case "strict":
		return GuardStrict, nil
	case "off":
		return GuardOff, nil
	}
	return GuardStrict, fmt.Errorf("bad guard %s: write default, strict or off", quote(s))
}

// String returns what ParseGuardMode reads. A mode that does not exist is
// treated, and written, as "strict".
func (m GuardMode) String() string {
	switch m {
	case GuardDefault:
		return "default"
	case GuardOff:
		return "off"
	default:
		return "strict"
	}
}

// A Guard is what a policy denies besides its rules. The zero Guard is the
// standard guard, for a host without addresses of its own.
type Guard struct {
	// Mode is how much is guarded.
	Mode GuardMode
	// Own are the addresses assigned to the host. A zone is dropped, an
	// IPv4-mapped address is its IPv4 address, the zero Addr is skipped.
	Own []netip.Addr
}

// A GuardRange is the class of a guarded range.
type GuardRange uint8

const (
	GuardNone        GuardRange = iota // not guarded
	GuardLoopback                      // 127.0.0.0/8, ::1
	GuardUnspecified                   // 0.0.0.0/8, ::
	GuardLinkLocal                     // 169.254.0.0/16, fe80::/10
	GuardSiteLocal                     // fec0::/10
	GuardMetadata                      // metadata services of clouds that are not link-local
	GuardMulticast                     // 224.0.0.0/4, ff00::/8
	GuardBroadcast                     // 255.255.255.255
	GuardOwn                           // an address of the host
	GuardSpecial                       // with GuardStrict only
)

// String returns "loopback", "own address" and so on, "none" for GuardNone.
func (g GuardRange) String() string {
	switch g {
	case GuardLoopback:
		return "loopback"
	case GuardUnspecified:
		return "unspecified"
	case GuardLinkLocal:
		return "link-local"
	case GuardSiteLocal:
		return "site-local"
	case GuardMetadata:
		return "metadata"
	case GuardMulticast:
		return "multicast"
	case GuardBroadcast:
		return "broadcast"
	case GuardOwn:
		return "own address"
	case GuardSpecial:
		return "special-purpose"
	default:
		return "none"
	}
}

// guarded returns the class of a guarded range that contains a and that no rule
// unlocks for port, or GuardNone.
func (p *Policy) guarded(a netip.Addr, port uint16) GuardRange {
	if p.mode == GuardOff {
		return GuardNone
	}
	return p.guardedAs(a, port, netip.Addr{})
}

// guardedAs is guarded where own, when it is valid, is an address of the host too, and
// the guard is not off.
func (p *Policy) guardedAs(a netip.Addr, port uint16, own netip.Addr) GuardRange {
	g := p.guardedIn(a, netip.Addr{}, nil, port, own)
	if g != GuardNone || !a.Is6() {
		return g
	}
	var in inners
	in.embedded(a)
	for i := 0; g == GuardNone && i < in.n; i++ {
		g = p.guardedIn(in.list[i].addr, a, in.list[i].how, port, own)
	}
	return g
}

// guardedIn looks a up in the guarded ranges. When a is embedded in outer, which how
// says, a range is unlocked by a rule inside it, or by one inside its image around
// outer.
func (p *Policy) guardedIn(a, outer netip.Addr, how *embedding, port uint16, extra netip.Addr) GuardRange {
	locked := func(bits int) bool {
		s := p.set
		return !s.addrs.allows(s.steps, a, bits, port) &&
			!(how != nil && s.addrs.allows(s.steps, outer, how.depth(bits), port))
	}
	if r := rangeOf(standardRanges, a); r != nil {
		if locked(r.prefix.Bits()) {
			return r.class
		}
	} else if p.isOwn(a, extra) && locked(a.BitLen()) {
		return GuardOwn
	}
	if p.mode != GuardDefault {
		if r := rangeOf(specialRanges, a); r != nil && r.class != GuardNone && locked(r.prefix.Bits()) {
			return r.class
		}
	}
	return GuardNone
}

// LiftsAsMuch reports whether an allow rule for q lifts the guard, in whatever mode and on whatever host, from all that
// one for r does. It says so only where that is plain: of IPv6 when they are the same.
func LiftsAsMuch(q, r netip.Prefix) bool {
	a := r.Addr()
	switch {
	case q == r:
		return true
	case a.Is6() || q.Bits() > r.Bits() || !q.Contains(a):
		return false
	case r.IsSingleIP() && rangeOf(standardRanges, a) == nil:
		return false // it may be the host's own, which only a rule for it alone unlocks
	}
	for _, ranges := range [...][]guardedRange{standardRanges, specialRanges} {
		for i := range ranges {
			if g := ranges[i].prefix; g.Contains(a) && q.Bits() < g.Bits() && g.Bits() <= r.Bits() {
				return false
			}
		}
	}
	return true
}

// isOwn reports whether a is an address of the host, or extra.
func (p *Policy) isOwn(a, extra netip.Addr) bool {
	_, own := p.own[a]
	return own || a == extra
}

// ownSet turns the addresses of the host into a set of canonical ones.
func ownSet(addrs []netip.Addr) map[netip.Addr]struct{} {
	if len(addrs) == 0 {
		return nil
	}
	set := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		if a.IsValid() {
			set[a.Unmap().WithZone("")] = struct{}{}
		}
	}
	return set
}
