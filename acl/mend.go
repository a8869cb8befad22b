package acl

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What can be wrong with a host, a port or a rule, each with its mend. Requests
// and rules share the first group.
const (
	msgEmptyHost    = "no host; write a name or an address"
	msgEmptyLabel   = "an empty label (two dots, or a dot in front); write the name without it"
	msgLongLabel    = "a label longer than 63 octets; no such name exists in DNS"
	msgLongName     = "a name longer than 253 octets; no such name exists in DNS"
	msgNotIPv4      = "not an IPv4 address; write four numbers from 0 to 255 without leading zeros"
	msgNotIPv6      = "not an IPv6 address; check its groups"
	msgZone         = "an IPv6 zone is refused; write the address without `%` and what follows"
	msgBrackets     = "brackets are for IPv6 addresses; write the host without them"
	msgOpenBracket  = "a `[` without its `]`; write IPv6 as [2001:db8::1]"
	msgAfterBracket = "something other than `:` and ports behind `]`; write [2001:db8::1]:443"
	msgBareIPv6     = "more than one colon; an IPv6 address that carries a port needs brackets: [2001:db8::1]:443"
	msgNoPort       = "no port; write a number from 1 to 65535 behind the colon"
	msgBadPort      = "the port is not a number; write a number from 1 to 65535"
	msgBigPort      = "a port above 65535; write a number from 1 to 65535"
	msgPortZero     = "port 0 cannot be connected to; write a number from 1 to 65535"
	msgPortZeros    = "a port with leading zeros; write it without them"
	msgBadStar      = "`*` is not allowed in the name of a host"
	msgUnicode      = "a host in other than ASCII; write it in A-labels, such as xn--bcher-kva.example"

	msgLoneBang     = "nothing to deny; write what to deny behind the `!`"
	msgTwoBangs     = "more than one `!`; write a single `!` to deny"
	msgDenyStar     = "`!*` is not needed: what no rule allows is denied; remove the line"
	msgDoubleStar   = "`**` has no meaning here; write *.example.com for a domain with every name below it"
	msgUnicodeStar  = "a Unicode label with `*` in it cannot become an A-label; write the label in ASCII, or `*` alone"
	msgIDNA         = "IDNA (RFC 5891, UTS 46) refuses this name; write a valid name, or its A-labels"
	msgStarAddress  = "a pattern of an address; write a CIDR such as 192.0.2.0/24"
	msgDomainNumber = "a name below an address or number does not exist; write an address, or a name whose last label is not a number"
	msgEmptyPorts   = "an empty port or port list; write :443, :8000-8999 or :80,443, or leave the colon away for any port"
	msgPortOrder    = "a port range that ends before it starts; write the smaller port first"
	msgPortRange    = "a port set that cannot be read; write :443, :8000-8999 or :80,443,8000-8999"
	msgMaybePort    = "not an IPv6 address; if it ends in a port, write brackets: [2001:db8::1]:443"
	msgUnicodeAddr  = "an address in other than ASCII; write it in ASCII digits"
	msgSlashIPv4    = "not an IPv4 prefix; write four numbers from 0 to 255 without leading zeros, then / and a length from 0 to 32"
	msgSlashIPv6    = "not an IPv6 prefix; write an IPv6 address, then / and a length from 0 to 128"
	msgSlashMapped  = "an IPv4-mapped prefix needs a length from 96 to 128; write it as an IPv4 CIDR"
	msgSlashOutside = "the prefix length stands inside the brackets: [2001:db8::/32]:443"

	msgBackslash  = "a back-slash has no meaning here and joins no lines; remove it"
	msgNUL        = "a NUL byte; is this a text file in UTF-8?"
	msgUTF8       = "not UTF-8; save the text as UTF-8"
	msgScheme     = "a scheme is refused; write only the host and port, without http:// or the like"
	msgUserInfo   = "user information is refused; write only the host and port, without `@`"
	msgPath       = "a path is refused; rules decide on hosts and ports, so write only these"
	msgQuery      = "`?` has no meaning here: `*` is the only wildcard; write only the host and port"
	msgGlobSyntax = "`{`, `}`, `[` and `]` have no meaning in a name: `*` is the only wildcard; write one rule for each name"
	msgHash       = "a comment needs white space in front of its `#`"
	msgSpace      = "white space inside a rule; write one rule a line, and a comment behind `#`"
	msgDotFront   = "a dot in front; write *.example.com for a domain with every name below it"
	msgAddrRange  = "a range of addresses; write CIDRs, one a line"
	msgComma      = "a comma between destinations; write one rule a line"
	msgBareCR     = "a carriage return that ends no line; save the text with LF or CRLF line ends"

	msgStarNotLast  = "Wildcard must be last rule, if present"
	msgEndNotLast   = "'#@ end' must be the last line"
	msgBadPrefix    = "Bad destination "
	msgTextTooLarge = "more than 1 GiB of rules; split the list"
)

// badByte says what is wrong with the byte at s[i], which no host may hold.
func badByte(s string, i int) string {
	if s[i] >= utf8.RuneSelf {
		return msgUnicode
	}
	return fmt.Sprintf("the character %q at byte %d is not allowed in a host; write letters, digits, `-`, `_` and dots", s[i], i+1)
}

// mend finds the likeliest mistake in the body of a rule (what stands behind
// `!`) that could not be read. msg is what the reader stumbled over, which
// stands when nothing better is found.
func mend(body, msg string) string {
	if m := mendText(body); m != "" {
		return m
	}
	host, _, _ := strings.Cut(body, ":")
	slash := strings.IndexByte(body, '/')
	switch {
	case strings.Contains(body, "://"):
		return msgScheme
	case strings.IndexByte(body, '@') >= 0:
		return msgUserInfo
	case body[0] == '!':
		return msgTwoBangs
	case strings.IndexByte(body, '?') >= 0:
		return msgQuery
	case slash >= 0 && !looksNumeric(body[:slash]) && strings.Count(body[:slash], ":") < 2:
		return msgPath
	case strings.ContainsAny(body, "{}"), strings.IndexByte(body, '[') > 0 && strings.IndexByte(body, ':') < 0:
		return msgGlobSyntax
	case strings.IndexByte(body, '%') >= 0 && strings.Count(body, ":") >= 2:
		return msgZone
	case slash < 0 && strings.IndexByte(host, ',') >= 0:
		return msgComma
	case slash < 0 && strings.Count(body, ":") < 2 && len(host) > 1 && host[0] == '.' && host[1] != '.':
		return msgDotFront
	case likeAddrRange(host):
		return msgAddrRange
	}
	return msg
}

// mendText finds what is wrong with the bytes themselves.
func mendText(body string) string {
	switch {
	case strings.IndexByte(body, 0) >= 0:
		return msgNUL
	case !utf8.ValidString(body):
		return msgUTF8
	case strings.IndexByte(body, '\\') >= 0:
		return msgBackslash
	}
	for _, r := range body {
		switch {
		case r == ' ' || r == '\t':
			if strings.IndexByte(body, '!') > 0 {
				return msgSpace + "; a `!` stands at the start of its rule"
			}
			return msgSpace
		case unicode.IsSpace(r):
			return fmt.Sprintf("the white space %U; write plain spaces", r)
		case unicode.IsControl(r):
			return fmt.Sprintf("the control character %U; remove it", r)
		case unicode.Is(unicode.Cf, r):
			return fmt.Sprintf("the invisible character %U; remove it", r)
		}
	}
	if strings.IndexByte(body, '#') >= 0 {
		return msgHash
	}
	return ""
}

// looksNumeric reports whether s is digits and dots, as an IPv4 address is.
func looksNumeric(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.") == ""
}

// likeAddrRange reports whether s resembles `10.0.0.1-10`.
func likeAddrRange(s string) bool {
	return strings.IndexByte(s, '-') > 0 && strings.IndexByte(s, '.') > 0 &&
		strings.Trim(s, "0123456789.-") == ""
}
