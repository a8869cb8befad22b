package convert

import (
	"net/netip"
	"strconv"
	"strings"
)

// addresses reads a value of src or dst. why tells when it cannot be said.
func addresses(v string) (ps []netip.Prefix, all bool, why string) {
	switch v {
	case "all", "0/0", "0.0.0.0/0", "0.0.0.0/0.0.0.0":
		return nil, true, ""
	case "ipv4":
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, false, ""
	case "ipv6":
		return []netip.Prefix{netip.MustParsePrefix("::/0")}, false, ""
	}
	body, mask, masked := strings.Cut(v, "/")
	first, last, ranged := strings.Cut(body, "-")
	from, err := netip.ParseAddr(first)
	if err != nil || from.Zone() != "" {
		return nil, false, "a name of a host is looked up once, at squid's start; write its addresses"
	}
	from = from.Unmap()
	to := from
	if ranged {
		if to, err = netip.ParseAddr(last); err != nil || to.Unmap().BitLen() != from.BitLen() {
			return nil, false, "not a range of addresses"
		}
		to = to.Unmap()
	}
	bits := from.BitLen()
	if masked {
		var ok bool
		if bits, ok = maskBits(mask, from.BitLen()); !ok {
			return nil, false, "a mask that is no prefix"
		}
		if bits == 0 { // squid masks nothing then
			bits = from.BitLen()
		}
	}
	if ranged {
		if masked && bits != from.BitLen() {
			return nil, false, "a range of networks"
		}
		return between(from, to), false, ""
	}
	p, err := from.Prefix(bits)
	if err != nil {
		return nil, false, "not a prefix"
	}
	return []netip.Prefix{p}, false, ""
}

func maskBits(mask string, most int) (bits int, ok bool) {
	if n, err := strconv.Atoi(mask); err == nil {
		return n, n >= 0 && n <= most
	}
	m, err := netip.ParseAddr(mask)
	if err != nil || m.BitLen() != most {
		return 0, false
	}
	for _, b := range m.AsSlice() {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
		if b != 0 {
			return 0, false
		}
	}
	p, err := m.Prefix(bits) // ones behind a zero byte
	return bits, err == nil && p.Addr() == m
}

// between are the prefixes of all addresses from..to.
func between(from, to netip.Addr) (all []netip.Prefix) {
	for from.IsValid() && from.Compare(to) <= 0 {
		bits := from.BitLen()
		for bits > 0 {
			p, err := from.Prefix(bits - 1)
			if err != nil || p.Addr() != from || lastOf(p).Compare(to) > 0 {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(from, bits)
		all = append(all, p)
		from = lastOf(p).Next()
	}
	return all
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// portsIn reads N or N-M.
func portsIn(v string) (from, to uint16, ok bool) {
	first, last, ranged := strings.Cut(v, "-")
	if !ranged {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	return uint16(a), uint16(b), err == nil && err2 == nil && a <= b
}
