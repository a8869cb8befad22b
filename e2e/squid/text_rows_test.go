//go:build linux

package squid

import (
	"net/netip"
	"regexp"
	"strings"
)

// taker is who accepts a text that the other refuses.
type taker bool

const (
	squidTakes  taker = false
	sluiceTakes taker = true
)

// A textRow is a reason to accept a text that the other side refuses, as acl.md
// lists it: in its table, or else by the section in parentheses.
type textRow struct {
	name  string
	who   taker
	holds func(text string) bool
}

// textRows are all there are. Whether one holds is decided by the text alone.
var textRows = []textRow{
	{"`10.0.0.300`, `1.2`, `/33`, `010.0.0.1`", squidTakes, anyRule(func(body string) bool {
		return scriptAddress.MatchString(body) && !isHexName(body) && !isStrictAddress(body)
	})},
	{"`cafe.de`, `abc.be`: names of hex digits only", sluiceTakes, anyRule(isHexName)},
	{"a line of the letter `w` alone: `www`", squidTakes, anyLine(func(line string) bool {
		return line != "" && strings.Trim(line, "w") == ""
	})},
	{"a CRLF text", sluiceTakes, func(text string) bool { return strings.Contains(text+"\n", "\r\n") }},
	{"a back-slash", squidTakes, func(text string) bool { return strings.Contains(text, `\`) }},

	{"(Names and addresses) labels, lengths, and names that end in a number", squidTakes, anyRule(isBadName)},
	{"(Names and addresses: IPv4-mapped) a mapped prefix that holds more than IPv4", squidTakes, anyRule(func(body string) bool {
		p, err := netip.ParsePrefix(body)
		return err == nil && p.Addr().Is4In6() && p.Bits() < 96
	})},
	{"(Names and addresses) one trailing dot of an address", sluiceTakes, anyRule(func(body string) bool {
		a, err := netip.ParseAddr(strings.TrimSuffix(body, "."))
		return err == nil && a.Is4() && strings.HasSuffix(body, ".")
	})},
	{"(Names and addresses) underscores, and hyphens in front", sluiceTakes, anyRule(func(body string) bool {
		return strings.Contains(body, "_") || strings.HasPrefix(strings.TrimPrefix(body, "*."), "-")
	})},
	{"(Names and addresses) a Unicode name", sluiceTakes, anyRule(func(body string) bool {
		return strings.ContainsFunc(body, func(r rune) bool { return r >= 0x80 })
	})},
	{"(Text) a name of one letter", sluiceTakes, anyRule(func(body string) bool {
		return len(strings.TrimPrefix(body, "*.")) == 1 && body != "*"
	})},
	{"(Text) globs", sluiceTakes, anyRule(func(body string) bool {
		return strings.Contains(strings.TrimPrefix(body, "*."), "*") && body != "*"
	})},
	{"(Text) ports", sluiceTakes, anyRule(regexp.MustCompile(`^[^:]+:[0-9,-]+$|^\[.*\]:[0-9,-]+$`).MatchString)},
	{"(Text) brackets", sluiceTakes, anyRule(func(body string) bool { return strings.HasPrefix(body, "[") })},
	{"(Text) a comment behind a rule", sluiceTakes, anyLine(regexp.MustCompile(`^[^#].*[ \t]#`).MatchString)},
	{"(Text) white space behind `!`", sluiceTakes, anyLine(regexp.MustCompile(`^![ \t]`).MatchString)},
	{"(Text) a byte-order mark", sluiceTakes, func(text string) bool { return strings.HasPrefix(text, "\uFEFF") }},
	{"(Text) an empty text", sluiceTakes, func(text string) bool { return text == "" }},
	{"(acl.md is silent; doc of package acl) a carriage return inside a line", squidTakes, func(text string) bool {
		return strings.Contains(strings.ReplaceAll(text+"\n", "\r\n", "\n"), "\r")
	}},
}

// anyLine holds for a text with a line, without white space around it, for which
// is holds.
func anyLine(is func(line string) bool) func(string) bool {
	return func(text string) bool {
		for line := range strings.SplitSeq(text, "\n") {
			if is(strings.Trim(line, " \t\r")) {
				return true
			}
		}
		return false
	}
}

// anyRule holds for a text with a rule, without its `!` and a comment behind it,
// for which is holds.
func anyRule(is func(body string) bool) func(string) bool {
	comment := regexp.MustCompile(`[ \t]#.*`)
	return anyLine(func(line string) bool {
		if line == "" || line[0] == '#' {
			return false
		}
		line = comment.ReplaceAllString(line, "")
		return is(strings.Trim(strings.TrimPrefix(line, "!"), " \t"))
	})
}

// isHexName reports whether body is a host name that the script takes for an
// address: its last label is no number.
func isHexName(body string) bool {
	if !scriptAddress.MatchString(body) || !scriptName.MatchString(body) {
		return false // with a colon, a mask, or a dot in front
	}
	return !isNumber(lastLabel(body))
}

// isStrictAddress reports whether body is an address or a CIDR in the one spelling
// that is no riddle.
func isStrictAddress(body string) bool {
	if _, err := netip.ParseAddr(strings.TrimSuffix(body, ".")); err == nil {
		return true
	}
	_, err := netip.ParsePrefix(body)
	return err == nil
}

// isBadName reports whether body is what the script takes for a name, and DNS, or
// acl.md, does not.
func isBadName(body string) bool {
	if scriptAddress.MatchString(body) && !isHexName(body) || !scriptName.MatchString(body) && !scriptDomain.MatchString(body) {
		return false
	}
	name := strings.TrimSuffix(strings.TrimPrefix(body, "*."), ".")
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return true
		}
	}
	return len(name) > 253 || isNumber(lastLabel(body))
}

func lastLabel(name string) string {
	name = strings.TrimSuffix(name, ".")
	return name[strings.LastIndexByte(name, '.')+1:]
}

var number = regexp.MustCompile(`^([0-9]+|0[xX][0-9A-Fa-f]*)$`)

func isNumber(label string) bool { return number.MatchString(label) }
