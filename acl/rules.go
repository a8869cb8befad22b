package acl

import (
	"iter"
	"net/netip"
	"slices"
	"time"
)

// A Form is what a rule is written as.
type Form uint8

const (
	FormAddr   Form = iota + 1 // an address or a CIDR
	FormName                   // one name
	FormDomain                 // `*.name`: the name and every name below it
	FormGlob                   // a name with `*` in it
	FormStar                   // `*`
)

// String returns "address", "name", "domain", "glob" or "everything".
func (f Form) String() string {
	switch f {
	case FormAddr:
		return "address"
	case FormName:
		return "name"
	case FormDomain:
		return "domain"
	case FormGlob:
		return "glob"
	case FormStar:
		return "everything"
	default:
		return "none"
	}
}

// PortRange is the ports From..To, both included.
type PortRange struct{ From, To uint16 }

// A Rule is one rule of a policy: as written, and as read.
type Rule struct {
	Pos  int    // position among the rules, from 1
	Line int    // line in its text, from 1
	Text string // as written, without comment and surrounding white space
	// Source is the name of its text, where there are several; see [ParseTexts].
	Source string
	Deny   bool // written with `!`

	Form   Form
	Prefix netip.Prefix // of FormAddr, masked; an address is a prefix of its whole length
	// Name is normalised: of FormName and FormGlob whole, of FormDomain without its `*.`,
	// of the others "".
	Name string
	// Ports are sorted and apart from each other; nil is any port.
	Ports []PortRange

	Directives
	// Expired reports whether the rule does not match any more: see [Policy.At].
	Expired bool
}

// Canonical returns the rule in its canonical spelling, without directives.
func (r Rule) Canonical() string {
	f := r.form()
	return string(f.appendTo(nil))
}

func (r *Rule) form() form {
	f := form{deny: r.Deny, kind: formKind(r.Form), prefix: r.Prefix, name: r.Name}
	for _, p := range r.Ports {
		f.ports = append(f.ports, portRange{p.From, p.To})
	}
	return f
}

func exportPorts(rs []portRange) (out []PortRange) {
	for _, r := range rs {
		out = append(out, PortRange{r.from, r.to})
	}
	return out
}

// Wants reports whether the rule is for that port.
func (r *Rule) Wants(port uint16) bool {
	return r.Ports == nil || slices.ContainsFunc(r.Ports, func(p PortRange) bool { return p.From <= port && port <= p.To })
}

// Len returns the number of rules.
func (p *Policy) Len() int {
	if p == nil {
		return 0
	}
	return len(p.set.rules)
}

// Rules returns the rules in their order. Each is read again from the text, which a walk over
// many takes time for.
func (p *Policy) Rules() iter.Seq[Rule] {
	return func(yield func(Rule) bool) {
		var reader formReader
		for i := range p.Len() {
			if !yield(p.set.rule(ruleNo(i), &reader)) {
				return
			}
		}
	}
}

// Rule returns the rule at a position, from 1, such as [Decision.Rule] is; the zero Rule if
// there is none.
func (p *Policy) Rule(pos int) Rule {
	if pos < 1 || pos > p.Len() {
		return Rule{}
	}
	return p.set.rule(ruleNo(pos-1), &formReader{})
}

// Problem is something to say about the rule at a position, from 1, with its place.
func (p *Policy) Problem(pos int, msg string) Problem {
	if pos < 1 || pos > p.Len() {
		return Problem{Msg: msg}
	}
	r := &p.set.rules[pos-1]
	return Problem{Source: p.set.source(r), Line: int(r.line), Text: r.text(p.set), Msg: msg}
}

func (s *ruleSet) rule(no ruleNo, reader *formReader) Rule {
	r := &s.rules[no]
	out := Rule{Pos: int(no) + 1, Line: int(r.line), Text: r.text(s), Source: s.name(r), Deny: r.deny()}
	f, _ := reader.read(out.Text) // it was good when it was parsed
	out.Form, out.Prefix, out.Name = Form(f.kind), f.prefix, f.name
	out.Ports = exportPorts(f.ports)
	out.Directives = s.directives(no)
	out.Expired = s.expired(no)
	return out
}

// directives are those of a rule, its own in front of its block's.
func (s *ruleSet) directives(no ruleNo) Directives {
	var d Directives
	if n := s.noteOf(no); n != nil {
		d = n.Directives
	}
	i, _ := slices.BinarySearchFunc(s.blocks, no, func(b block, no ruleNo) int {
		if b.end > no {
			return 1
		}
		return -1
	}) // the first that ends behind it
	if i < len(s.blocks) && s.blocks[i].start <= no {
		if d.Owner == "" {
			d.Owner = s.blocks[i].Owner
		}
		if d.Ticket == "" {
			d.Ticket = s.blocks[i].Ticket
		}
	}
	return d
}

// Protocol is what a tunnel has to carry that this policy's decision d admits: "tls", "http",
// "ssh" or "any"; "" when no rule decided, or its line does not say it. It does not allocate.
func (p *Policy) Protocol(d Decision) string {
	if p == nil || d.Rule < 1 || d.Rule > len(p.set.rules) {
		return ""
	}
	if n := p.set.noteOf(ruleNo(d.Rule - 1)); n != nil {
		return n.Protocol
	}
	return ""
}

// noteOf is what stands behind a rule, nil if nothing does.
func (s *ruleSet) noteOf(no ruleNo) *note {
	i, ok := slices.BinarySearchFunc(s.notes, no, func(n note, no ruleNo) int { return int(n.rule) - int(no) })
	if !ok {
		return nil
	}
	return &s.notes[i]
}

// expired reports whether a rule does not match any more at the time that s is for.
func (s *ruleSet) expired(no ruleNo) bool {
	n := s.noteOf(no)
	return n != nil && !s.rules[no].deny() && n.over(s.at)
}

// over reports whether what stands behind a rule ended before t. Nothing has at the zero time.
func (d *Directives) over(t time.Time) bool {
	return !d.Expires.IsZero() && !t.IsZero() && !t.Before(d.Expires.AddDate(0, 0, 1))
}

// At returns the policy of the rules that are in force at t: an allow rule whose expires= day
// has passed, in UTC, does not match any more, and takes part in nothing; a deny rule stays.
// What expires can only close. The guard is p's; what is returned is p itself when nothing has
// changed since the time that p is for. Parse gives a policy of no time, in which nothing has
// expired. The zero time gives that again. On a nil policy At returns nil.
//
// It parses the text again when there is a difference.
func (p *Policy) At(t time.Time) *Policy {
	if p == nil {
		return nil
	}
	same := true
	for i := range p.set.notes {
		n := &p.set.notes[i]
		if !p.set.rules[n.rule].deny() && n.over(t) != n.over(p.set.at) {
			same = false
			break
		}
	}
	if same {
		return p
	}
	s := &ruleSet{text: p.set.text, parts: slices.Clone(p.set.parts), at: t}
	q, err := parse(s)
	if err != nil {
		return nil // it was read before; and nil denies everything
	}
	q.mode, q.own = p.mode, p.own
	q.outlooks = newOutlooker(q, maxProbes).run()
	return q
}

// NextExpiry returns the first moment after t at which a rule expires; ok is false when none does.
func (p *Policy) NextExpiry(t time.Time) (next time.Time, ok bool) {
	if p == nil {
		return time.Time{}, false
	}
	for i := range p.set.notes {
		n := &p.set.notes[i]
		if n.Expires.IsZero() || p.set.rules[n.rule].deny() {
			continue
		}
		if end := n.Expires.AddDate(0, 0, 1); end.After(t) && (!ok || end.Before(next)) {
			next, ok = end, true
		}
	}
	return next, ok
}
