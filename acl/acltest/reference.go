// Package acltest holds what tests of acl measure it by: a reference that reads
// the rules and walks over them one by one, as the specification does in words,
// and generators of rules and requests that meet often. It shares no code with
// acl and is slow; nothing but tests should import it.
package acltest

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// An Answer is what the reference decides.
type Answer struct {
	Verdict string // "allow", "deny", "depends"
	Rule    int    // position of the deciding rule, from 1; 0 is none
	Guard   string // class of the guarded range that denied, "" when none did
}

// A Reference is a list of rules and a guard.
type Reference struct {
	rules  []rule
	ranges []guarded // in the order in which they are reported
	where  []netip.Addr
}

type rule struct {
	deny   bool
	name   *regexp.Regexp // nil for an address rule
	text   string         // of a name rule, normalised
	prefix netip.Prefix
	ports  [][2]int // nil is any
}

type guarded struct {
	class    string
	prefix   netip.Prefix
	exempted []netip.Prefix
}

// New reads rules that acl accepts and that hold ASCII only outside comments.
// guard is "default", "strict" or "off".
func New(text, guard string, own []netip.Addr) (*Reference, error) {
	r := &Reference{}
	for _, line := range strings.Split(strings.TrimPrefix(text, "\uFEFF"), "\n") {
		line = comment.ReplaceAllString(strings.TrimSuffix(line, "\r"), "")
		line = strings.Trim(line, " \t")
		if line == "" {
			continue
		}
		rule, err := parseRule(line)
		if err != nil {
			return nil, fmt.Errorf("reference: %q: %w", line, err)
		}
		r.rules = append(r.rules, rule)
	}
	if guard != "off" {
		r.ranges = guardedRanges(guard == "strict", own)
	}
	r.where = r.representatives()
	return r, nil
}

var (
	comment = regexp.MustCompile(`(^|[ \t])#.*`)
	portSet = regexp.MustCompile(`^(.*):([0-9,-]+)$`)
)

func parseRule(s string) (rule, error) {
	var r rule
	if rest, deny := strings.CutPrefix(s, "!"); deny {
		r.deny, s = true, strings.Trim(rest, " \t")
	}
	// An IPv6 form carries ports only behind its bracket.
	if m := portSet.FindStringSubmatch(s); m != nil && (strings.Count(s, ":") == 1 || strings.HasSuffix(m[1], "]")) {
		s = m[1]
		for _, part := range strings.Split(m[2], ",") {
			from, to, found := strings.Cut(part, "-")
			if !found {
				to = from
			}
			a, err := strconv.Atoi(from)
			if err != nil {
				return r, err
			}
			b, err := strconv.Atoi(to)
			if err != nil {
				return r, err
			}
			r.ports = append(r.ports, [2]int{a, b})
		}
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if p, ok := parsePrefix(s); ok {
		r.prefix = p
		return r, nil
	}
	r.text = strings.TrimSuffix(strings.ToLower(s), ".")
	r.name = nameMatcher(r.text)
	return r, nil
}

// parsePrefix reads an address or CIDR.
func parsePrefix(s string) (netip.Prefix, bool) {
	s = strings.TrimSuffix(s, ".")
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return p, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

func nameMatcher(s string) *regexp.Regexp {
	if s == "*" {
		return regexp.MustCompile(`^.*$`)
	}
	below := ""
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		s, below = rest, `([^.]+\.)*`
	}
	return regexp.MustCompile("^" + below + strings.ReplaceAll(regexp.QuoteMeta(s), `\*`, `[^.]*`) + "$")
}

func (r *rule) wants(port uint16) bool {
	if r.ports == nil {
		return true
	}
	for _, p := range r.ports {
		if p[0] <= int(port) && int(port) <= p[1] {
			return true
		}
	}
	return false
}

// DecideAddr decides about one address of a request for name, which is "" when
// the request names the address itself.
func (r *Reference) DecideAddr(name string, port uint16, a netip.Addr) Answer {
	a = a.Unmap()
	for i := range r.rules {
		u := &r.rules[i]
		if !u.wants(port) || !u.matches(name, a) {
			continue
		}
		if u.deny {
			return Answer{Verdict: "deny", Rule: i + 1}
		}
		if class := r.guards(a, port); class != "" {
			return Answer{Verdict: "deny", Guard: class}
		}
		return Answer{Verdict: "allow", Rule: i + 1}
	}
	return Answer{Verdict: "deny"}
}

// matches reports whether the rule, whose port fits, matches.
func (u *rule) matches(name string, a netip.Addr) bool {
	if u.name != nil {
		// `*` matches everything, so the missing name of a literal too.
		return u.name.MatchString(name) && (name != "" || u.name.String() == `^.*$`)
	}
	for _, in := range embeds(a) {
		if u.deny && u.prefix.Contains(in.addr) {
			return true
		}
	}
	return u.prefix.Contains(a)
}

// DecideHost decides about a name by deciding about an address of every kind
// that any rule, guarded range or embedding tells from others.
func (r *Reference) DecideHost(name string, port uint16) Answer {
	first := r.DecideAddr(name, port, r.where[0])
	for _, a := range r.where[1:] {
		if r.DecideAddr(name, port, a).Verdict != first.Verdict {
			return Answer{Verdict: "depends"}
		}
	}
	return first
}

// Where returns the addresses that DecideHost tries.
func (r *Reference) Where() []netip.Addr { return r.where }

// representatives returns both ends of every range, and their neighbours; of
// IPv4 ones also in all ways to embed them.
func (r *Reference) representatives() []netip.Addr {
	prefixes := []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("::/96"),
		netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
		netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("::ffff:0:0:0/96"),
		netip.MustParsePrefix("::ffff:0:0/96"), netip.MustParsePrefix("::/127"),
	}
	templates := map[netip.Addr]bool{netip.MustParseAddr("4000::"): true}
	for _, u := range r.rules {
		if u.name != nil {
			continue
		}
		prefixes = append(prefixes, u.prefix)
		if u.prefix.Addr().Is6() {
			for _, a := range Ends(u.prefix)[1:] {
				if !a.IsValid() {
					continue
				}
				templates[a] = true
				if next := last(netip.PrefixFrom(a, 64)).Next(); next.IsValid() {
					templates[next] = true // the next network
				}
			}
		}
	}
	for _, g := range r.ranges {
		prefixes = append(append(prefixes, g.prefix), g.exempted...)
	}
	seen := map[netip.Addr]bool{}
	var all []netip.Addr
	add := func(a netip.Addr) {
		if a.IsValid() && !a.Is4In6() && !seen[a] {
			seen[a] = true
			all = append(all, a)
		}
	}
	for _, p := range prefixes {
		for _, a := range Ends(p) {
			if !a.Is4() || seen[a] {
				add(a)
				continue
			}
			add(a)
			for _, six := range Embed(a) {
				add(six)
			}
			for t := range templates {
				eachWritten(t, a, add)
			}
		}
	}
	return all
}

// eachWritten yields the addresses that embed a and leave something to a template, where it can be one of them.
func eachWritten(t, a netip.Addr, yield func(netip.Addr)) {
	for _, l := range layouts {
		if !strings.Contains(string(l), ".") {
			continue
		}
		if x := l.write(t, a); strings.HasPrefix(string(l), ".") || near(x, t, 32) {
			yield(x)
		}
	}
}

func last(p netip.Prefix) netip.Addr { return Ends(p)[2] }

// near reports whether a and b begin with the same bits.
func near(a, b netip.Addr, bits int) bool { return netip.PrefixFrom(a, bits).Masked().Contains(b) }

// Ends returns the address before p, its first and last ones, and the one
// behind it. The zero Addr stands for those that do not exist.
func Ends(p netip.Prefix) []netip.Addr {
	first := p.Masked().Addr()
	b := first.AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return []netip.Addr{first.Prev(), first, last, last.Next()}
}
