package acl

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 1035 section 2.3.4, in octets, as host names are written (the
// 255 octets on the wire count the length bytes as well).
const (
	maxLabel = 63
	maxName  = 253
)

// What a byte of a host name is.
const (
	byteBad = iota
	byteFine
	byteUpper
	byteDot
	byteStar
)

var byteClass = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = byteFine
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byteFine, byteUpper
	}
	t['-'], t['_'], t['.'], t['*'] = byteFine, byteFine, byteDot, byteStar
	return t
}()

// normalise brings a host name, dotted quad or (with stars) glob into the one
// form that rules and requests share: lower case, no trailing dot, and an
// address where the last label is a number. msg is "" on success. A canonical
// s comes back as it is, without a copy.
func normalise(s string, stars bool) (name string, addr netip.Addr, msg string) {
	if len(s) > 1 && s[len(s)-1] == '.' {
		s = s[:len(s)-1]
	}
	if s == "" {
		return "", addr, msgEmptyHost
	}
	start, count, total, upper := 0, 0, len(s), false
	for i := 0; i < len(s); i++ {
		switch byteClass[s[i]] {
		case byteFine:
			count++
		case byteUpper:
			count++
			upper = true
		case byteDot:
			if i == start {
				return "", addr, msgEmptyLabel
			}
			if count > maxLabel {
				return "", addr, msgLongLabel
			}
			start, count = i+1, 0
		case byteStar:
			if !stars {
				return "", addr, msgBadStar
			}
			total--
		default:
			return "", addr, badByte(s, i)
		}
	}
	switch {
	case start == len(s):
		return "", addr, msgEmptyLabel
	case count > maxLabel:
		return "", addr, msgLongLabel
	case total > maxName:
		return "", addr, msgLongName
	case isNumber(s[start:]):
		return dottedQuad(s)
	case upper:
		s = strings.ToLower(s)
	}
	return s, addr, ""
}

// isNumber reports whether a label is a number to some resolver: digits, or 0x
// and hexadecimal digits (WHATWG URL, "ends in a number"; so is a bare 0x).
func isNumber(label string) bool {
	if label == "" || label[0] < '0' || label[0] > '9' {
		return false
	}
	hex := len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x'
	if hex {
		label = label[2:]
	}
	for i := 0; i < len(label); i++ {
		c := label[i]
		if c >= '0' && c <= '9' || hex && c|0x20 >= 'a' && c|0x20 <= 'f' {
			continue
		}
		return false
	}
	return true
}

// dottedQuad reads a name that ends in a number: four decimal numbers without
// leading zeros, or an error. inet_aton's other spellings (RFC 6943 section
// 3.1.1) never come through.
func dottedQuad(s string) (string, netip.Addr, string) {
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() {
		return "", netip.Addr{}, msgNotIPv4
	}
	return "", addr, ""
}

// parseIPv6 reads an IPv6 address without brackets; an IPv4-mapped one is its
// IPv4 address.
func parseIPv6(s string) (netip.Addr, string) {
	if strings.IndexByte(s, '%') >= 0 {
		return netip.Addr{}, msgZone
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is6() {
		return netip.Addr{}, msgNotIPv6
	}
	return addr.Unmap(), ""
}

// lookupProfile is the IDNA 2008 lookup profile with UTS 46 mapping,
// non-transitional. Which ASCII may stand in a label is normalise's to say
// (underscores are usual in DNS), so the profile's own limit is off.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.BidiRule(),
	idna.StrictDomainName(false),
)

// toASCII turns the Unicode name of a rule into A-labels. In a glob each
// literal label is turned alone; a label cannot be Unicode and hold `*`.
func toASCII(s string, stars bool) (ascii, msg string) {
	if !utf8.ValidString(s) {
		return "", msgUTF8 // idna would put U+FFFD in its place
	}
	if !stars {
		ascii, err := lookupProfile.ToASCII(s)
		if err != nil {
			return "", msgIDNA
		}
		return ascii, ""
	}
	labels := strings.Split(s, ".")
	for i, l := range labels {
		if isASCII(l) {
			continue
		}
		if strings.IndexByte(l, '*') >= 0 {
			return "", msgUnicodeStar
		}
		a, err := lookupProfile.ToASCII(l)
		if err != nil {
			return "", msgIDNA
		}
		labels[i] = a
	}
	return strings.Join(labels, "."), ""
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
