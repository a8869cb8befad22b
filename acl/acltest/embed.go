package acltest

import (
	"encoding/hex"
	"net/netip"
	"strings"
)

// A layout is how an IPv6 address embeds an IPv4 one, in hexadecimal digits: those of
// the IPv4 address are v, or i when inverted, and a dot is any.
type layout string

// NAT64 of local use has four, since only who runs a translator knows how long its prefix is.
const (
	local48 layout = "0064ff9b0001" + "vvvv" + ".." + "vvvv" + ".........."
	local56 layout = "0064ff9b0001" + ".." + "vv" + ".." + "vvvvvv" + "........"
	local64 layout = "0064ff9b0001" + "...." + ".." + "vvvvvvvv" + "......"
	local96 layout = "0064ff9b0001" + "............" + "vvvvvvvv"

	teredoServer layout = "20010000" + "vvvvvvvv" + "................"
	teredoClient layout = "20010000" + "................" + "iiiiiiii"
)

var layouts = []layout{
	"0064ff9b" + "0000000000000000" + "vvvvvvvv", // NAT64
	local48, local56, local64, local96,
	"2002" + "vvvvvvvv" + "....................", // 6to4
	teredoServer, teredoClient,
	"000000000000000000000000" + "vvvvvvvv",      // IPv4-compatible
	"0000000000000000ffff0000" + "vvvvvvvv",      // IPv4-translated
	"................" + "00005efe" + "vvvvvvvv", // ISATAP
	"................" + "02005efe" + "vvvvvvvv",
}

// read returns the IPv4 address that a embeds, if it has the layout.
func (l layout) read(a netip.Addr) (netip.Addr, bool) {
	if !fixed[l].match(a) {
		return netip.Addr{}, false // what follows is slow
	}
	digits := hex.EncodeToString(a.AsSlice())
	var v []byte
	for i, c := range []byte(l) {
		switch {
		case c == 'v':
			v = append(v, digits[i])
		case c == 'i':
			v = append(v, invert(digits[i]))
		case c != '.' && c != digits[i]:
			return netip.Addr{}, false
		}
	}
	b, _ := hex.DecodeString(string(v))
	in, ok := netip.AddrFromSlice(b)
	return in, ok
}

// misread reports whether the layout is one of several, and a what the wrong one finds.
func (l layout) misread(a netip.Addr) bool {
	return strings.HasPrefix(string(l), "0064ff9b0001") && a.As4()[0] == 0
}

// fixed holds the digits of each layout that are always the same.
var fixed = func() map[layout]pattern {
	m := map[layout]pattern{}
	for _, l := range layouts {
		digit := func(keep, drop string) (b [16]byte) {
			text := strings.Map(func(c rune) rune {
				if strings.ContainsRune(".vi", c) {
					return rune(drop[0])
				} else if keep != "" {
					return rune(keep[0])
				}
				return c
			}, string(l))
			_, _ = hex.Decode(b[:], []byte(text))
			return b
		}
		m[l] = pattern{want: digit("", "0"), mask: digit("f", "0")}
	}
	return m
}()

type pattern struct{ want, mask [16]byte }

func (p pattern) match(a netip.Addr) bool {
	for i, c := range a.As16() {
		if c&p.mask[i] != p.want[i] {
			return false
		}
	}
	return true
}

// write returns template with the digits of the layout, and of v in their places.
func (l layout) write(template, v netip.Addr) netip.Addr {
	digits, of := []byte(hex.EncodeToString(template.AsSlice())), hex.EncodeToString(v.AsSlice())
	for i, c := range []byte(l) {
		switch c {
		case '.':
			continue
		case 'v':
			c, of = of[0], of[1:]
		case 'i':
			c, of = invert(of[0]), of[1:]
		}
		digits[i] = c
	}
	b, _ := hex.DecodeString(string(digits))
	a, _ := netip.AddrFromSlice(b)
	return a
}

// needs is how many bits from the front a prefix has to fix, so that all in it have the
// layout and embed addresses that begin with the same bits.
func (l layout) needs(bits int) int {
	need, seen := 0, 0
	for i, c := range []byte(l) {
		switch {
		case c == 'v' || c == 'i':
			if seen < bits {
				need = i*4 + min(4, bits-seen)
			}
			seen += 4
		case c != '.':
			need = i*4 + 4
		}
	}
	return need
}

func invert(digit byte) byte {
	const digits = "0123456789abcdef"
	return digits[15-strings.IndexByte(digits, digit)]
}

// An embedded is an IPv4 address inside another one.
type embedded struct {
	addr netip.Addr
	how  layout
}

// embeds returns the IPv4 addresses inside a.
func embeds(a netip.Addr) (all []embedded) {
	if a.Is4() || a == netip.IPv6Unspecified() || a == netip.IPv6Loopback() {
		return nil
	}
	for _, l := range layouts {
		if in, ok := l.read(a); ok && !l.misread(in) {
			all = append(all, embedded{in, l})
		}
	}
	return all
}

// Embed returns IPv6 addresses that embed an IPv4 one, in every way.
func Embed(v netip.Addr) (all []netip.Addr) {
	for _, s := range []string{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		for _, l := range layouts {
			all = append(all, l.write(netip.MustParseAddr(s), v))
		}
	}
	// Teredo with the same server and client.
	return append(all, teredoServer.write(teredoClient.write(netip.IPv6Unspecified(), v), v))
}
