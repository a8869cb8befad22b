package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// Sources are the addresses that outbound sockets bind to (EGRESS_SOURCE). The
// first of a family is used for every connection of that family; the next only
// when all ports of the one before are taken towards the same destination. With
// no address at all the kernel chooses; with addresses of one family only,
// targets of the other are unreachable, never reached from another address.
//
// The zero value leaves the choice to the kernel. Sources are immutable.
type Sources struct {
	v4, v6  []netip.Addr
	nowhere bool // there are addresses, and another has them
}

// NoSources are those of who has no address for now: every target is unreachable.
func NoSources() Sources { return Sources{nowhere: true} }

// Nowhere reports whether s are NoSources.
func (s Sources) Nowhere() bool { return s.nowhere }

// Held returns those of s that are among held, or NoSources when none is; of the zero
// Sources all that are held.
func (s Sources) Held(held []netip.Addr) Sources {
	all := s.All()
	if len(all) == 0 {
		all = held
	}
	now := NewSources(slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return !slices.Contains(held, a) }))
	if len(now.v4)+len(now.v6) == 0 {
		return NoSources()
	}
	return now
}

// NewSources sorts addrs by family, keeping their order.
func NewSources(addrs []netip.Addr) Sources {
	var s Sources
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			s.v4 = append(s.v4, a)
		} else {
			s.v6 = append(s.v6, a)
		}
	}
	return s
}

// unbound is the source of a socket that is not bound.
var unbound = []netip.Addr{{}}

// For returns the sources to try for dst, in order; an invalid address stands for
// the kernel's choice. None: dst is out of reach.
func (s Sources) For(dst netip.Addr) []netip.Addr {
	switch {
	case s.nowhere:
		return nil
	case len(s.v4) == 0 && len(s.v6) == 0:
		return unbound
	case dst.Is4():
		return s.v4
	}
	return s.v6
}

// All returns the addresses, those of IPv4 first. The caller may keep them.
func (s Sources) All() []netip.Addr { return slices.Concat(s.v4, s.v6) }

// String lists the addresses, or says that the kernel chooses.
func (s Sources) String() string {
	switch {
	case s.nowhere:
		return "none for now: another replica holds it"
	case len(s.v4) == 0 && len(s.v6) == 0:
		return "the kernel's choice"
	}
	var b strings.Builder
	for _, a := range s.All() {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
	}
	return b.String()
}
