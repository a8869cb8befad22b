//go:build linux

package squid

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
)

// A rule is one line of a list, with its meaning. It knows its meaning from the
// generator, not from a parser.
type rule struct {
	text   string // as written, with its `!`
	deny   bool
	name   string       // of a name or domain rule, in lower case without a trailing dot
	below  bool         // a domain: the names below match too
	prefix netip.Prefix // of an address rule, masked
	mapped bool         // a CIDR, written around an IPv4-mapped address in dotted form
	dotted bool         // the name is written with a trailing dot
	joined bool         // the comment in front ends in a back-slash
}

// list is a list of rules and its text.
type list struct {
	rules []rule
	star  bool
	text  string
}

// newList generates a list that the script accepts and Sluice too.
func newList(r *rand.Rand) list {
	var l list
	var lines []string
	for range 1 + r.IntN(9) {
		lines = append(lines, decoration(r)...)
		ru := newRule(r)
		if len(lines) > 0 && strings.HasSuffix(lines[len(lines)-1], `\`) {
			ru.joined = true
		}
		lines = append(lines, strings.Repeat(" ", r.IntN(2))+ru.text+strings.Repeat("\t", r.IntN(2)))
		l.rules = append(l.rules, ru)
	}
	if l.star = r.IntN(2) == 0; l.star {
		lines = append(lines, []string{"*", "*\n\n# end", " * \n*"}[r.IntN(3)])
	}
	l.text = strings.Join(lines, "\n")
	return l
}

// decoration are lines without a rule.
func decoration(r *rand.Rand) []string {
	switch r.IntN(60) {
	case 0:
		return []string{`# joins \`}
	case 1, 2:
		return []string{"", "  # not a rule: *"}
	case 3, 4:
		return []string{"#!example.com", "\t"}
	}
	return nil
}

func newRule(r *rand.Rand) rule {
	ru := rule{deny: r.IntN(2) == 0}
	var body string
	switch k := r.IntN(100); {
	case k < 30:
		ru.name = ruleNames[r.IntN(len(ruleNames))]
		body = spelled(r, ru.name)
	case k < 50:
		ru.name, ru.below = ruleNames[r.IntN(len(ruleNames))], true
		body = "*." + spelled(r, ru.name)
	case k < 90:
		body = rulePrefixes[r.IntN(len(rulePrefixes))]
		if r.IntN(3) == 0 {
			body = addrPool[r.IntN(len(addrPool))].String()
		}
	default:
		body = ru.setRare(r)
	}
	if ru.name == "" {
		ru.prefix = readPrefix(body)
	}
	if ru.text = body; ru.deny {
		ru.text = "!" + body
	}
	return ru
}

// setRare makes ru one of the rules that squid or the script reads in a way of its
// own, and returns its text.
func (ru *rule) setRare(r *rand.Rand) string {
	switch r.IntN(10) {
	case 0:
		ru.name = hexNames[r.IntN(len(hexNames))]
		return ru.name
	case 1:
		ru.name, ru.deny = "www", false
		return ru.name
	case 2:
		ru.name, ru.dotted = ruleNames[r.IntN(len(ruleNames))], true
		if ru.below = r.IntN(2) == 0; ru.below {
			return "*." + ru.name + "."
		}
		return ru.name + "."
	case 3:
		ru.name = "none"
		return ru.name
	case 4:
		ru.mapped = true
		return mappedPrefixes[r.IntN(len(mappedPrefixes))]
	case 5:
		return shortPrefixes[r.IntN(len(shortPrefixes))]
	default:
		return zeroPrefixes[r.IntN(len(zeroPrefixes))]
	}
}

// spelled changes the case of some names.
func spelled(r *rand.Rand, name string) string {
	switch r.IntN(6) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return strings.ToUpper(name[:1]) + name[1:]
	}
	return name
}

// readPrefix reads an address or CIDR of the pools.
func readPrefix(s string) netip.Prefix {
	if !strings.Contains(s, "/") {
		a := netip.MustParseAddr(s).Unmap()
		return netip.PrefixFrom(a, a.BitLen())
	}
	p := netip.MustParsePrefix(s)
	if p.Addr().Is4In6() {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// A question is a request for a host, as the client spells it.
type question struct {
	host    string
	connect bool // CONNECT instead of GET
}

func (q question) String() string {
	if q.connect {
		return "CONNECT " + q.host + ":80"
	}
	return "GET http://" + q.host + "/"
}

// literal is the address that the host is, the zero Addr when it is a name.
func (q question) literal() netip.Addr {
	a, err := netip.ParseAddr(strings.Trim(q.host, "[]."))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// newQuestions are the hosts to ask a list about, half of them hosts that its
// rules are about.
func newQuestions(r *rand.Rand, l list) []question {
	var hosts []string
	for _, ru := range l.rules {
		switch {
		case ru.name == "":
			hosts = append(hosts, literal(near(r, ru.prefix)))
		case ru.below:
			hosts = append(hosts, ru.name, nameBelow(r, ru.name))
		default:
			hosts = append(hosts, ru.name)
		}
	}
	for range 12 {
		hosts = append(hosts, hostNames[r.IntN(len(hostNames))])
	}
	for range 4 {
		hosts = append(hosts, literal(pickAddr(r)))
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	for i, h := range hosts {
		hosts[i] = spelledHost(r, h)
	}
	if r.IntN(2) == 0 {
		odd := slices.Sorted(maps.Keys(oddHosts))
		hosts = append(hosts, odd[r.IntN(len(odd))])
	}
	questions := make([]question, len(hosts))
	for i, h := range hosts {
		questions[i] = question{host: h, connect: r.IntN(4) == 0}
	}
	return questions
}

// near is an address of the pool inside p when there is one, else any.
func near(r *rand.Rand, p netip.Prefix) netip.Addr {
	for _, i := range r.Perm(len(addrPool)) {
		if p.Contains(addrPool[i]) {
			return addrPool[i]
		}
	}
	return pickAddr(r)
}

// nameBelow is a name of the world below name when there is one.
func nameBelow(r *rand.Rand, name string) string {
	for _, i := range r.Perm(len(hostNames)) {
		if strings.HasSuffix(hostNames[i], "."+name) {
			return hostNames[i]
		}
	}
	return "absent." + name
}

// spelledHost spells a host in one of the ways that must not matter.
func spelledHost(r *rand.Rand, host string) string {
	q := question{host: host}
	a := q.literal()
	switch k := r.IntN(8); {
	case k == 0 && a.IsValid() && a.Is4():
		return "[::ffff:" + host + "]"
	case k <= 1 && a.IsValid() && a.Is6():
		return "[" + a.StringExpanded() + "]"
	case k == 0:
		return strings.ToUpper(host)
	case k == 1 && !a.Is6():
		return host + "."
	}
	return host
}
