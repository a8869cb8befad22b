package request

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// A Doubt is what is doubtful about a rule.
type Doubt struct {
	Kind DoubtKind
	Line int // of the rule
	Text string
	By   Place  // the rule that decides before it; the zero Place: none
	Msg  string // for people; it names the rule
}

// A Place is a rule in its text. The zero Place is none.
type Place struct {
	Line int
	Text string
}

// DoubtKind is what is doubtful.
type DoubtKind string

const (
	NeverDecides DoubtKind = "never-decides" // an earlier rule is for all that it is for
	HalfDead     DoubtKind = "half-dead"     // it denies, and an earlier rule allows all of that as it is written
	DenyList     DoubtKind = "deny-list"     // it allows what none of the deny rules in front of it is for
)

// Opens reports whether more may be open than was meant.
func (d *Doubt) Opens() bool { return d.Kind == DenyList || d.Kind == HalfDead }

// Doubts are rules that an earlier one keeps from ever deciding, and rules that deny in front of one
// that allows the rest. What it says of a rule is so for every request; it does not find every rule
// that never decides. Of nil there are none.
func (r *Rules) Doubts() (all []Doubt) {
	if r == nil {
		return nil
	}
	doubt := func(k DoubtKind, u *rule, by Place, format string, args ...any) {
		all = append(all, Doubt{k, u.line, u.text, by, fmt.Sprintf("request rule "+quote(u.text)+": "+format, args...)})
	}
	denies := 0
	for i := range r.rules {
		u := &r.rules[i]
		if before := r.before(i, u); before != nil {
			doubt(NeverDecides, u, Place{before.line, before.text}, "it never decides: line %d, %s, does before", before.line, quote(before.text))
		} else if before := r.before(i, u.asAllowed(r.options)); u.deny && before != nil {
			doubt(HalfDead, u, Place{before.line, before.text}, "it denies other spellings only: what it says is allowed by line %d, %s, before; put it in front", before.line, quote(before.text))
		} else if before, methods := r.beforeSome(i, u); before != nil {
			doubt(HalfDead, u, Place{before.line, before.text}, "it denies other spellings only, by %s: what it says is allowed by line %d, %s, before; put it in front", methods, before.line, quote(before.text))
		}
		if u.deny {
			denies++
		}
		if u.everything() && denies > 0 {
			doubt(DenyList, u, Place{}, "it allows all that nobody has thought of to deny; list what is allowed, and leave it out")
		}
	}
	return all
}

// before is an earlier rule than the one at i that is for all that v is for, or nil.
func (r *Rules) before(i int, v *rule) *rule {
	for j := range i {
		if v != nil && r.rules[j].covers(v, r.options) {
			return &r.rules[j]
		}
	}
	return nil
}

// beforeSome is an earlier rule that allows what the deny rule u, at i, says, by some of its methods, which are named; or nil.
func (r *Rules) beforeSome(i int, u *rule) (before *rule, methods string) {
	v := u.asAllowed(r.options)
	if v == nil {
		return nil, ""
	}
	for j := range i {
		w := *v
		w.methods = slices.DeleteFunc(slices.Clone(r.rules[j].methods), func(m string) bool { return v.methods != nil && !slices.Contains(v.methods, m) })
		if before := r.before(i, &w); len(w.methods) > 0 && before == &r.rules[j] && !before.deny {
			return before, strings.Join(w.methods, ",")
		}
	}
	return nil, ""
}

// everything reports whether u allows all that no rule in front of it is for.
func (u *rule) everything() bool {
	return u.star || !u.deny && u.methods == nil && u.query == nil && len(u.path) == 1 && u.path[0].many
}

// asAllowed is a deny rule as if it allowed what it denies: that is only what is written. It is nil of an allow rule, and
// where none could say that.
func (u *rule) asAllowed(o Options) *rule {
	if !u.deny {
		return nil
	}
	v, wrong := parseRule(strings.TrimLeft(u.text[1:], blanks), o)
	if wrong != "" {
		return nil
	}
	return &v
}

// Warnings are the doubts, as problems of a configuration.
func (r *Rules) Warnings() (all []acl.Problem) {
	for _, d := range r.Doubts() {
		all = append(all, acl.Problem{Source: r.source, Line: d.Line, Text: d.Text, Msg: d.Msg})
	}
	return all
}

// covers reports whether u is for every request that v is for, as far as can be told at a glance. A
// deny rule is for more than what is written, so an allow rule does not cover one.
func (u *rule) covers(v *rule, o Options) bool {
	switch {
	case v.star, v.deny && !u.deny:
		return false
	case u.methods != nil && (v.methods == nil || slices.ContainsFunc(v.methods, func(m string) bool { return !slices.Contains(u.methods, m) })):
		return false
	case u.query != nil && !slices.Equal(u.query, v.query):
		return false
	}
	return u.pathCovers(u.path, v.path, o)
}

func (u *rule) pathCovers(a, b path, o Options) bool {
	switch {
	case len(a) == 0 || len(b) == 0:
		return len(a) == len(b) || len(a) == 1 && a[0].many
	case a[0].many && len(a) == 1:
		return u.deny || o.EncodedSlash || !slices.ContainsFunc(b, func(s segment) bool { return slices.ContainsFunc(s.glob, hasSlash) })
	case a[0].many || b[0].many:
		return a[0].many && b[0].many && u.pathCovers(a[1:], b[1:], o)
	}
	return u.globCovers(a[0].glob, b[0].glob, o) && u.pathCovers(a[1:], b[1:], o)
}

func (u *rule) globCovers(a, b glob, o Options) bool {
	if u.deny {
		b = glob(foldAll(nil, b)) // as a is
	}
	if len(a) == 2 && a[0]+a[1] == "" {
		return u.deny || o.EncodedSlash || !slices.ContainsFunc(b, hasSlash)
	}
	return slices.Equal(a, b)
}

func hasSlash(s string) bool { return strings.Contains(s, "/") }
