package acl

import (
	"net/netip"
	"slices"
	"time"
)

// A Policy is a list of rules with a guard. It never changes, so all of its
// methods may be called concurrently. A nil Policy denies everything, and has
// no rules.
type Policy struct {
	set  *ruleSet // shared by every policy that differs only in its guard
	mode GuardMode
	own  map[netip.Addr]struct{}
	// outlooks tells what addresses can change about a name, for each of
	// set.segments.
	outlooks []outlook
}

// A ruleSet is what a text of rules becomes; it does not know the guard.
type ruleSet struct {
	text  string // of all parts
	parts []part // at least one
	rules []rule
	star  cell // the `*` rules
	steps stepTable
	names nameIndex
	addrs addrIndex
	// segments are the first ports of the ranges in which all ports are equal
	// to every address rule.
	segments []uint16
	warnings []Problem
	notes    []note      // what stands behind rules, in their order
	blocks   []block     // owners and tickets of blocks, in their order
	asserts  []Assertion // in the order of the text
	at       time.Time   // see [Policy.At]
}

// A rule remembers where in the text it stands.
type rule struct {
	line  uint32
	start uint32
	size  uint32 // in bytes, with ruleDeny and ruleAddr
}

const (
	ruleDeny = 1 << 31
	ruleAddr = 1 << 30
	ruleSize = ruleAddr - 1
)

func newRule(line, from, to int, f *form) rule {
	r := rule{line: uint32(line), start: uint32(from), size: uint32(to - from)}
	if f.deny {
		r.size |= ruleDeny
	}
	if f.kind == formAddr {
		r.size |= ruleAddr
	}
	return r
}

func (r *rule) text(s *ruleSet) string { return s.text[r.start : r.start+r.size&ruleSize] }
func (r *rule) deny() bool             { return r.size&ruleDeny != 0 }

// SameText reports whether p and q are made of the same texts, byte by byte.
func (p *Policy) SameText(q *Policy) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.set.text == q.set.text && slices.Equal(p.set.parts, q.set.parts)
}

// DecideHost decides as far as the name goes, and never causes a look-up. For
// a name the verdict is NeedAddr exactly when some addresses would be allowed
// and others denied; otherwise it is what [Policy.DecideAddr] says of every
// address, with the rule that matches the name (or the default) as its reason.
// Only where address rules in front of that rule deny, or allow, every address
// is it the first of these. For an address it is the whole decision.
//
// Past a bound on the work of [Parse] and [Policy.WithGuard], which only lists
// with very many overlapping address rules on very many different ports reach,
// NeedAddr may be the answer although every address would be denied, or allowed.
func (p *Policy) DecideHost(t Target) Decision {
	if p == nil || !t.valid() {
		return Decision{}
	}
	if t.Host.IsAddr() {
		return p.decide(t, t.Host.addr)
	}
	return p.foresee(p.set.nameRule(t), t.Port)
}

// DecideAddr decides about one address of the target: one that its name
// resolved to, or its own. It never gives NeedAddr. An invalid target or
// address, an address with a zone, and an address that is not the one a literal
// target names, are denied by default.
func (p *Policy) DecideAddr(t Target, a netip.Addr) Decision {
	a = a.Unmap()
	if p == nil || !t.valid() || !a.IsValid() || a.Zone() != "" {
		return Decision{}
	}
	if t.Host.IsAddr() && t.Host.addr != a {
		return Decision{}
	}
	return p.decide(t, a)
}

// decide applies the ordered rules, then the guard. a is canonical.
func (p *Policy) decide(t Target, a netip.Addr) Decision {
	s := p.set
	best := s.steps.at(s.star, t.Port)
	if t.Host.name != "" {
		best = s.names.earliest(s.steps, t.Host.name, t.Port, best)
	}
	d := s.decision(min(best, s.addrs.earliest(s.steps, a, t.Port)))
	if d.Verdict == Allow {
		if g := p.guarded(a, t.Port); g != GuardNone {
			return Decision{Kind: ReasonGuard, Guard: g, ByAddr: true}
		}
	}
	return d
}

// nameRule returns the earliest rule that matches the name, or none.
func (s *ruleSet) nameRule(t Target) ruleNo {
	return s.names.earliest(s.steps, t.Host.name, t.Port, s.steps.at(s.star, t.Port))
}

// decision is what a rule decides; none is the default.
func (s *ruleSet) decision(no ruleNo) Decision {
	if no == none {
		return Decision{}
	}
	r := &s.rules[no]
	d := Decision{
		Verdict: Allow,
		Kind:    ReasonRule,
		Rule:    int(no) + 1,
		Line:    int(r.line),
		Text:    r.text(s),
		Source:  s.name(r),
		ByAddr:  r.size&ruleAddr != 0,
	}
	if r.deny() {
		d.Verdict = Deny
	}
	return d
}

// WithGuard returns a policy of the same rules with the given guard instead of
// its own. The rules are shared, not compiled again, so it is cheap enough to
// call whenever the addresses of the host change. On a nil policy it returns nil.
func (p *Policy) WithGuard(g Guard) *Policy {
	if p == nil {
		return nil
	}
	q := &Policy{set: p.set, mode: g.Mode, own: ownSet(g.Own)}
	q.outlooks = newOutlooker(q, maxProbes).run()
	return q
}

// Warnings returns what is doubtful about the rules, in the order of the lines:
// host bits that were masked, repeated `*`, rules that never decide since
// earlier rules for the same destination cover their ports, and deny rules behind an
// allow rule that covers them. The slice is the policy's own, and must not be changed. Package
// acl/audit finds far more.
func (p *Policy) Warnings() []Problem {
	if p == nil {
		return nil
	}
	return p.set.warnings
}

// Whole reports whether the text of the rules, each of several, ends in the line `#@ end`,
// and so is not cut off.
func (p *Policy) Whole() bool {
	return p != nil && !slices.ContainsFunc(p.set.parts, func(t part) bool { return !t.whole })
}

// Unended names the first text of p that does not end in the line `#@ end`, and reports whether there is one.
func (p *Policy) Unended() (source string, some bool) {
	if p == nil {
		return "", false
	}
	for _, t := range p.set.parts {
		if !t.whole {
			return t.source, true
		}
	}
	return "", false
}

// LostEnd names the first text of p that does not end in the line `#@ end` although the
// text of that source in before did: it may be cut off. A text without a source is one with
// another without.
func (p *Policy) LostEnd(before *Policy) (source string, lost bool) {
	if p == nil || before == nil {
		return "", false
	}
	for _, t := range p.set.parts {
		had := func(b part) bool { return b.source == t.source && b.whole }
		if !t.whole && slices.ContainsFunc(before.set.parts, had) {
			return t.source, true
		}
	}
	return "", false
}

// String returns the rules in their canonical spelling, one a line, without
// comments, directives and what has expired. Parse reads it back to a policy that, with the
// same guard, decides alike. A nil policy is "".
func (p *Policy) String() string {
	if p == nil {
		return ""
	}
	out := make([]byte, 0, len(p.set.text))
	var reader formReader
	for i := range p.set.rules {
		if p.set.expired(ruleNo(i)) {
			continue
		}
		// The text was good when it was parsed.
		f, _ := reader.read(p.set.rules[i].text(p.set))
		out = append(f.appendTo(out), '\n')
	}
	return string(out)
}
