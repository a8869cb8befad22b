//go:build linux

package squid

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A behaviour is one thing that squid, or the script, does and Sluice does not.
type behaviour uint

const (
	anyAddressDenies behaviour = 1 << iota // a name is denied whole when one of its addresses matches
	anyAddressAllows                       // a name is allowed whole when one of its addresses matches
	reverseLookup                          // name rules match the PTR of an IP literal, or "none"
	hexNamesFrozen                         // cafe.de stands for the addresses it had at the start
	wLinesDropped                          // a line of the letter w is no rule
	zeroBitsExact                          // /0 matches one address, 0.0.0.0/0 everything
	backslashJoins                         // a back-slash at the end of a comment makes the next line part of it
	failureSkips                           // address rules do not match a name that does not resolve
	unguarded                              // there is no guard
	dottedNeverMatch                       // a name rule with a trailing dot matches nothing
	notLookedInto                          // an embedded IPv4 address does not matter
	mappedMatchAll                         // ::ffff:10.0.0.0/104 matches everything
	shortHoldsIPv4                         // ::/80, and every IPv6 prefix around ::ffff:0:0/96, matches all of IPv4
	oddHostsMended                         // 127.1 is asked for as 127.0.0.1

	everything = oddHostsMended<<1 - 1 // squid
)

// rowOf are the rows of the table in acl.md, "What deliberately differs from
// squid", by their first column. What the table leaves out follows from the
// section of acl.md that is named instead.
var rowOf = map[behaviour]string{
	anyAddressDenies: "a name with several addresses, one of them in a denied CIDR",
	anyAddressAllows: "a name with several addresses, one in an allowed CIDR",
	reverseLookup:    "IP literal against a name rule",
	hexNamesFrozen:   "`cafe.de`, `abc.be`: names of hex digits only",
	wLinesDropped:    "a line of the letter `w` alone: `www`",
	zeroBitsExact:    "`::/0`, and any `/0`",
	backslashJoins:   "a back-slash",
	failureSkips:     "an address rule that fails to resolve its target",
	unguarded:        "loopback, link-local, own addresses under `*`",
	dottedNeverMatch: "(section Names and addresses: one trailing dot is dropped) a rule with a trailing dot",
	notLookedInto:    "(section Decision, 5) an address that embeds an IPv4 address",
	mappedMatchAll:   "(section Names and addresses: IPv4-mapped) a CIDR such as ::ffff:10.0.0.0/104",
	shortHoldsIPv4:   "(section Names and addresses: IPv4-mapped) a short IPv6 prefix such as ::/8, for IPv4",
	oddHostsMended:   "(section Names and addresses: refused as targets) a host such as 127.1",
}

// verdict is what becomes of a request.
type verdict uint8

const (
	denied     verdict = iota
	unresolved         // fails, since the name does not resolve
	refused            // as no host at all
	allowed
)

func (v verdict) String() string {
	return [...]string{"denied", "DNS error", "refused as a bad target", "allowed"}[v]
}

// answer is a verdict with the addresses that may be dialled, sorted.
type answer struct {
	verdict verdict
	addrs   []netip.Addr
}

func newAnswer(addrs []netip.Addr) answer {
	if len(addrs) == 0 {
		return answer{verdict: denied}
	}
	addrs = slices.Clone(addrs)
	slices.SortFunc(addrs, netip.Addr.Compare)
	return answer{allowed, addrs}
}

func (a answer) equal(b answer) bool {
	return a.verdict == b.verdict && slices.Equal(a.addrs, b.addrs)
}

// holds reports whether squid's reply is one that a predicts.
func (a answer) holds(r reply) bool {
	return a.verdict == r.verdict && (r.verdict != allowed || slices.Contains(a.addrs, r.dialled))
}

func (a answer) String() string {
	if a.verdict == allowed {
		return fmt.Sprint("allowed, may dial ", a.addrs)
	}
	return a.verdict.String()
}

// scenario is a question to a list of rules, in a world.
type scenario struct {
	world *world
	list  list
	host  string     // in lower case without a trailing dot
	addr  netip.Addr // when the host is an IP literal
	odd   bool       // the host is neither, but squid finds something in it
}

func newScenario(w *world, l list, q question) scenario {
	mended, odd := oddHosts[q.host]
	if odd {
		q.host = mended
	}
	return scenario{w, l, strings.TrimSuffix(strings.ToLower(q.host), "."), q.literal(), odd}
}

// answer walks the list as Sluice does but for the behaviours b.
func (s scenario) answer(b behaviour) answer {
	switch {
	case s.odd && b&oddHostsMended == 0:
		return answer{verdict: refused}
	case s.addr.IsValid():
		return newAnswer(s.walk(b, []netip.Addr{s.addr}))
	}
	if addrs := s.world.lookup(s.host); addrs != nil {
		return newAnswer(s.walk(b, addrs))
	}
	// Without an address, squid goes by the names alone. Sluice says no only when
	// no address whatever could have been allowed.
	possible := s.allowedByName(b)
	if b&failureSkips == 0 {
		possible = slices.ContainsFunc(s.everyKindOfAddress(), func(a netip.Addr) bool {
			return len(s.walk(b, []netip.Addr{a})) > 0
		})
	}
	if possible {
		return answer{verdict: unresolved}
	}
	return answer{verdict: denied}
}

// walk returns those of addrs that the list allows.
func (s scenario) walk(b behaviour, pending []netip.Addr) (passed []netip.Addr) {
	for _, r := range s.list.rules {
		matched, rest := s.split(b, r, pending)
		if len(matched) == 0 {
			continue
		}
		whole := anyAddressAllows
		if r.deny {
			whole = anyAddressDenies
		}
		if b&whole != 0 {
			matched, rest = pending, nil
		}
		if !r.deny {
			passed = append(passed, matched...)
		}
		pending = rest
	}
	if s.list.star {
		passed = append(passed, pending...)
	}
	if b&unguarded == 0 {
		passed = slices.DeleteFunc(passed, func(a netip.Addr) bool { return s.guarded(b, a) })
	}
	return passed
}

// allowedByName is the verdict of the rules for names.
func (s scenario) allowedByName(b behaviour) bool {
	for _, r := range s.list.rules {
		if !r.unseen(b) && s.matchesName(b, r) {
			return !r.deny
		}
	}
	return s.list.star
}

// split parts addrs at what r matches.
func (s scenario) split(b behaviour, r rule, addrs []netip.Addr) (matched, rest []netip.Addr) {
	for _, a := range addrs {
		if !r.unseen(b) && (s.matchesName(b, r) || s.matchesAddr(b, r, a)) {
			matched = append(matched, a)
		} else {
			rest = append(rest, a)
		}
	}
	return matched, rest
}

// unseen reports whether the script never sees the rule.
func (r rule) unseen(b behaviour) bool {
	return b&backslashJoins != 0 && r.joined || b&wLinesDropped != 0 && strings.Trim(r.text, "w") == ""
}

// frozen reports whether the rule is a name that the script takes for an address.
func (r rule) frozen(b behaviour) bool {
	return b&hexNamesFrozen != 0 && !r.below && slices.Contains(hexNames, r.name)
}

func (s scenario) matchesName(b behaviour, r rule) bool {
	host := s.host
	switch {
	case r.name == "", r.frozen(b), r.dotted && b&dottedNeverMatch != 0:
		return false
	case s.addr.IsValid() && b&reverseLookup == 0:
		return false
	case s.addr.IsValid():
		if host = s.world.ptr[s.addr]; host == "" {
			host = "none"
		}
	}
	return host == r.name || r.below && strings.HasSuffix(host, "."+r.name)
}

func (s scenario) matchesAddr(b behaviour, r rule, a netip.Addr) bool {
	switch {
	case r.frozen(b):
		return slices.Contains(s.world.addrs[r.name], a)
	case r.name != "":
		return false
	case r.prefix.Bits() == 0 && b&zeroBitsExact != 0:
		base := netip.MustParsePrefix(strings.TrimPrefix(r.text, "!"))
		return base.String() == "0.0.0.0/0" || base.Addr() == a
	case r.mapped && b&mappedMatchAll != 0:
		return true
	case r.prefix.Addr().Is6() && a.Is4() && b&shortHoldsIPv4 != 0:
		return r.prefix.Contains(netip.AddrFrom16(a.As16()))
	case r.prefix.Contains(a):
		return true
	}
	return r.deny && b&notLookedInto == 0 && r.prefix.Contains(embedded(a))
}
