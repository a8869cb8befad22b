package audit

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/sluiceproxy/sluice/acl"
)

// none stands behind every rule: no rule matches.
const none = int32(1)<<30 - 1

// A list is a policy with an index that finds every rule that matches, where the engine has only
// the first. Rules are counted from 0; those that have expired match nothing.
type list struct {
	p      *acl.Policy
	rules  []acl.Rule
	exact  map[string][]int32
	domain map[string][]int32 // by the name without `*.`
	globs  map[string][]*glob // by the literal labels at their end
	addrs  *bart.Table[[]int32]
	star   []int32
	allow  []bool // which of the rules allow: looked at so often that it lies close together
	// What is looked for, where that is no verdict: rules of the old list that say yes, or of the
	// new one that say no. The others say nothing.
	picked   []bool // nil: the verdict is looked for
	pickedNo bool
}

// A glob is the pattern of a rule: its labels, the last one first.
type glob struct {
	rule   int32
	labels []string
	below  bool // names below match too
}

func newList(p *acl.Policy) *list {
	l := &list{p: p, exact: map[string][]int32{}, domain: map[string][]int32{}, globs: map[string][]*glob{}, addrs: new(bart.Table[[]int32])}
	if p != nil {
		l.rules, l.allow = make([]acl.Rule, 0, p.Len()), make([]bool, 0, p.Len())
	}
	for r := range p.Rules() {
		l.rules, l.allow = append(l.rules, r), append(l.allow, !r.Deny)
		if r.Expired {
			continue
		}
		no := int32(len(l.rules) - 1)
		switch r.Form {
		case acl.FormAddr:
			l.addrs.Modify(r.Prefix, func(have []int32, _ bool) ([]int32, bool) { return append(have, no), false })
		case acl.FormName:
			l.exact[r.Name] = append(l.exact[r.Name], no)
		case acl.FormDomain:
			l.domain[r.Name] = append(l.domain[r.Name], no)
		case acl.FormGlob:
			g := newGlob(r.Name, no)
			l.globs[g.suffix()] = append(l.globs[g.suffix()], g)
		case acl.FormStar:
			l.star = append(l.star, no)
		}
	}
	return l
}

func newGlob(pattern string, rule int32) *glob {
	g := &glob{rule: rule}
	pattern, g.below = strings.CutPrefix(pattern, "*.")
	g.labels = strings.Split(pattern, ".")
	slices.Reverse(g.labels)
	return g
}

// suffix is the literal labels at the end of the pattern; "" if there are none.
func (g *glob) suffix() string {
	n := 0
	for n < len(g.labels) && strings.IndexByte(g.labels[n], '*') < 0 {
		n++
	}
	tail := slices.Clone(g.labels[:n])
	slices.Reverse(tail)
	return strings.Join(tail, ".")
}

// matches reports whether the pattern matches a name.
func (g *glob) matches(name string) bool {
	for i, pattern := range g.labels {
		dot := strings.LastIndexByte(name, '.')
		if !matchLabel(pattern, name[dot+1:]) {
			return false
		}
		if dot < 0 {
			return i == len(g.labels)-1
		}
		name = name[:dot]
	}
	return g.below
}

// matchLabel reports whether a pattern with `*` matches a label.
func matchLabel(pattern, label string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == label
	}
	label, ok := strings.CutPrefix(label, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(label, p)
		if i < 0 {
			return false
		}
		label = label[i+len(p):]
	}
	return strings.HasSuffix(label, last)
}

// ofName returns the rules that match a name, in order; of a literal, which has none, those
// that match everything. The slice is into buf.
func (l *list) ofName(name string, buf []int32) []int32 {
	out := append(buf[:0], l.star...)
	if name == "" {
		return out
	}
	out = append(out, l.exact[name]...)
	for rest := name; ; {
		out = append(out, l.domain[rest]...)
		for _, g := range l.globs[rest] {
			if g.matches(name) {
				out = append(out, g.rule)
			}
		}
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			break
		}
		rest = rest[dot+1:]
	}
	for _, g := range l.globs[""] {
		if g.matches(name) {
			out = append(out, g.rule)
		}
	}
	slices.Sort(out)
	return out
}

// ofAddr returns the address rules that match an address, in order: those for it, and deny
// rules for what it embeds. The slice is into buf.
func (l *list) ofAddr(a netip.Addr, embedded []netip.Addr, buf []int32) []int32 {
	out := buf[:0]
	for _, rules := range l.addrs.Supernets(netip.PrefixFrom(a, a.BitLen())) {
		out = append(out, rules...)
	}
	for _, v := range embedded {
		for _, rules := range l.addrs.Supernets(netip.PrefixFrom(v, 32)) {
			for _, r := range rules {
				if l.rules[r].Deny {
					out = append(out, r)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// allows reports whether a rule, or none, allows.
func (l *list) allows(rule int32) bool { return rule < none && l.allow[rule] }

// yes reports whether a rule, or none, says yes to what is looked for: it allows.
func (l *list) yes(rule int32) bool {
	if l.picked != nil {
		return !l.pickedNo && rule < none && l.picked[rule]
	}
	return l.allows(rule)
}

// no reports whether it says no: it does not allow.
func (l *list) no(rule int32) bool {
	if l.picked != nil {
		return l.pickedNo && rule < none && l.picked[rule]
	}
	return !l.allows(rule)
}

// first returns the first of the rules that is for a port, or none.
func (l *list) first(rules []int32, port uint16) int32 {
	for _, r := range rules {
		if l.rules[r].Wants(port) {
			return r
		}
	}
	return none
}

// second returns the first that is for a port behind the one that first returns, or none.
func (l *list) second(rules []int32, port uint16) int32 {
	for i, r := range rules {
		if l.rules[r].Wants(port) {
			return l.first(rules[i+1:], port)
		}
	}
	return none
}

// cuts appends the ports from which on some of the rules begin or cease to be meant. With short,
// only as far as the first of them can change.
func (l *list) cuts(out []int32, rules []int32, short bool) []int32 {
	for _, r := range rules {
		if l.rules[r].Ports == nil && short {
			break
		}
		for _, p := range l.rules[r].Ports {
			out = append(out, int32(p.From), int32(p.To)+1)
		}
	}
	return out
}
