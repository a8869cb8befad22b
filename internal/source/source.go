// Package source reads EGRESS_SOURCE, which the network set-up and the commands that
// connect from it share: one grammar, and one wording of what is wrong.
package source

import (
	"fmt"
	"net/netip"
	"strings"
)

// Use is what a source address is read for.
type Use uint8

const (
	// Bind: sockets are bound to the address, whoever has brought it here. Its length
	// says nothing then, and loopback, which no host elsewhere can have, will do.
	Bind Use = iota
	// Bring: the address is brought to a link, where its length is that of the network,
	// and hosts elsewhere are to answer to it.
	Bring
)

// Wrong begins every message about EGRESS_SOURCE, in the words of the egress router.
const Wrong = "EGRESS_SOURCE unspecified or invalid"

// Parse takes a word of EGRESS_SOURCE, ADDR or ADDR/LEN; without a length the prefix has
// that of a host. Words stand between commas and white space.
func Parse(word string, use Use) (netip.Prefix, error) {
	wrong := func(format string, args ...any) (netip.Prefix, error) {
		return netip.Prefix{}, fmt.Errorf(Wrong+": "+format, args...)
	}
	prefix, err := netip.ParsePrefix(word)
	if !strings.Contains(word, "/") {
		var addr netip.Addr
		addr, err = netip.ParseAddr(word)
		prefix = netip.PrefixFrom(addr.WithZone(""), addr.BitLen())
		if err == nil && addr.Zone() != "" {
			if use == Bring {
				return wrong("%q has a zone; EGRESS_INTERFACE names the interface", word)
			}
			return wrong("%q has a zone", word)
		}
	}
	addr := prefix.Addr()
	switch {
	case err != nil:
		return wrong("%q is not ADDR or ADDR/LEN", word)
	case addr.Is4In6():
		return wrong("%q is an IPv4 address in IPv6 clothes; write %s", word, addr.Unmap())
	case use == Bring:
		if why := unfit(prefix); why != "" {
			return wrong(why, word)
		}
	case !ofOneHost(addr):
		return wrong("nothing can be sent from %q", word)
	}
	return prefix, nil
}

// unfit says why an address cannot be brought to a link, with %q for it; "" if it can.
func unfit(p netip.Prefix) string {
	addr := p.Addr()
	switch {
	case p.Bits() == 0:
		return "%q: no network has the length 0"
	case !ofOneHost(addr), addr.IsLoopback(), addr.IsLinkLocalUnicast() && addr.Is6():
		return "nothing can be sent to the outside from %q"
	case addr.Is4() && p.Bits() < 31 && (addr == p.Masked().Addr() || addr == broadcast(p)):
		return "%q is the network itself, or all its hosts; name one host"
	}
	return ""
}

// ofOneHost reports whether a host can have the address.
func ofOneHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
