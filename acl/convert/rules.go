package convert

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

type formKind uint8

const (
	anything formKind = iota
	oneName
	domain // the name, and every name below it
	network
)

// form is a set of destinations that one rule can say.
type form struct {
	kind   formKind
	name   string
	prefix netip.Prefix
}

// below reports whether name is d or lies below it.
func below(name, d string) bool {
	return name == d || strings.HasSuffix(name, d) && name[len(name)-len(d)-1] == '.'
}

// and is what lies in both; ok is false when nothing does. What is a name and an address at
// once no rule can say: exact is false then, and the result is f.
func (f form) and(g form) (both form, ok, exact bool) {
	switch {
	case f.kind == anything:
		return g, true, true
	case g.kind == anything:
		return f, true, true
	case (f.kind == network) != (g.kind == network):
		return f, true, false
	case f.kind == network:
		if !f.prefix.Overlaps(g.prefix) {
			return form{}, false, true
		}
		if f.prefix.Bits() >= g.prefix.Bits() {
			return f, true, true
		}
		return g, true, true
	case f.in(g):
		return f, true, true
	case g.in(f):
		return g, true, true
	}
	return form{}, false, true
}

// in reports whether all of f lies in g.
func (f form) in(g form) bool {
	switch g.kind {
	case anything:
		return true
	case network:
		return f.kind == network && f.prefix.Bits() >= g.prefix.Bits() && f.prefix.Overlaps(g.prefix)
	case oneName:
		return f.kind == oneName && f.name == g.name
	}
	return (f.kind == oneName || f.kind == domain) && below(f.name, g.name)
}

// term is a form on some ports, less the forms of not.
type term struct {
	form
	ports ports
	not   []form
}

// and is what lies in both terms, as form.and has it.
func (t term) and(u term) (both term, ok, exact bool) {
	both.form, ok, exact = t.form.and(u.form)
	both.ports = t.ports.and(u.ports)
	both.not = slices.Concat(t.not, u.not)
	return both, ok && both.ports != nil, exact
}

// rule is a line of the result.
type rule struct {
	form
	ports ports
	allow bool
	line  place // that it comes from
}

// rules decide by the first that matches. The last is always for anything on every port.
type rules []rule

// always is the list of one verdict.
func always(allow bool, line place) rules { return rules{{ports: allPorts, allow: allow, line: line}} }

// errTooLarge is of lists that hold each other's exceptions by the million.
var errTooLarge = errors.New("the rules would be more than a million: lists that except each other multiply")

const maxRules = 1_000_000

// builder puts lists together. What no list can say it says narrower where that allows, and
// wider where it denies, and keeps the lines where it did.
type builder struct {
	line     place // that is put in front
	narrowed map[place]bool
	work     int
}

// restrict is what l says of the destinations in f on p: rules that decide all of them.
func (b *builder) restrict(l rules, f form, p ports) (part rules, err error) {
	for _, r := range l {
		if b.work++; b.work > 50*maxRules {
			return nil, errTooLarge
		}
		g, ok, exact := f.and(r.form)
		q := p.and(r.ports)
		if !ok || q == nil {
			continue
		}
		if !exact {
			b.narrowed[b.line] = true
			if r.allow {
				continue // what it allowed is decided by later rules, which allow no more
			}
			g = f
		}
		part = append(part, rule{g, q, r.allow, r.line})
		if p = b.rest(p, q, g, f); p == nil {
			break
		}
	}
	return part, nil
}

// rest are the ports of f on which nothing is decided yet, behind a rule for g on q.
func (b *builder) rest(p, q ports, g, f form) ports {
	if g != f {
		return p
	}
	return p.and(q.not())
}

// either is: if a destination lies in one of terms, as yes decides, else as no does.
func (b *builder) either(terms []term, yes, no rules) (rules, error) {
	for end := len(terms); end > 0; {
		start := end - 1
		for start > 0 && len(terms[start].not) == 0 && len(terms[start-1].not) == 0 {
			start--
		}
		var front rules
		for _, t := range terms[start:end] {
			for _, n := range t.not {
				both, ok, exact := t.form.and(n)
				if !ok || !exact {
					continue // names less addresses: nothing lies in both that a rule could say
				}
				part, err := b.restrict(no, both, t.ports)
				if err != nil {
					return nil, err
				}
				front = append(front, part...)
			}
			part, err := b.restrict(yes, t.form, t.ports)
			if err != nil {
				return nil, err
			}
			front = append(front, part...)
		}
		if no = append(front, no...); len(no) > maxRules {
			return nil, errTooLarge
		}
		end = start
	}
	return no, nil
}

// tidy leaves out what never decides, or decides as what comes behind it does.
func tidy(l rules) rules {
	seen := map[form]ports{}
	var live rules
	for _, r := range l {
		covered := seen[form{}]
		for f := r.form; ; {
			covered = covered.or(seen[f])
			g, more := f.wider()
			if !more {
				break
			}
			f = g
		}
		if !r.allow || r.kind != network { // an address that is allowed lifts the guard as well
			if r.ports = r.ports.and(covered.not()); r.ports == nil {
				continue
			}
		}
		live = append(live, r)
		seen[r.form] = seen[r.form].or(r.ports)
	}
	last := len(live) - 1
	verdict := live[last].allow
	for last > 0 && live[last-1].allow == verdict && !(verdict && live[last-1].kind == network) {
		last--
	}
	end := live[len(live)-1]
	end.form, end.ports = form{}, allPorts
	return append(live[:last], end)
}

// wider is the next form that holds all of f, but for anything.
func (f form) wider() (form, bool) {
	switch f.kind {
	case oneName:
		return form{kind: domain, name: f.name}, true
	case domain:
		_, parent, ok := strings.Cut(f.name, ".")
		return form{kind: domain, name: parent}, ok
	case network:
		if f.prefix.Bits() > 0 {
			p, err := f.prefix.Addr().Prefix(f.prefix.Bits() - 1)
			return form{kind: network, prefix: p}, err == nil
		}
	}
	return form{}, false
}

// text writes the rules, with a comment for the lines that they come from.
func (l rules) text() string {
	var b strings.Builder
	var line place
	l = tidy(l)
	for i, r := range l {
		if i == len(l)-1 && !r.allow {
			break // the default
		}
		if r.line != line {
			line = r.line
			b.WriteString("# " + line.comment() + "\n")
		}
		last := i >= len(l)-2 && r.allow && !l[len(l)-1].allow || i == len(l)-1
		for _, f := range r.spellings(last) {
			if !r.allow {
				b.WriteByte('!')
			}
			b.WriteString(f + r.ports.suffix() + "\n")
		}
	}
	return b.String()
}

// spellings are the rules' texts less the port set: one, but for what is anything and not last.
func (r rule) spellings(last bool) []string {
	switch r.kind {
	case oneName:
		return []string{r.name}
	case domain:
		return []string{"*." + r.name}
	case network:
		s := r.prefix.String()
		if r.prefix.IsSingleIP() {
			s = r.prefix.Addr().String()
		}
		if r.prefix.Addr().Is6() && r.ports.suffix() != "" {
			s = "[" + s + "]"
		}
		return []string{s}
	}
	if last {
		return []string{"*"}
	}
	if r.ports.suffix() != "" {
		return []string{"0.0.0.0/0", "[::/0]"}
	}
	return []string{"0.0.0.0/0", "::/0"}
}
