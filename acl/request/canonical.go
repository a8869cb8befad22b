package request

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Options returns what the rules were parsed with.
func (r *Rules) Options() Options {
	if r == nil {
		return Options{}
	}
	return r.options
}

// Canonical returns the rules in their order, each in a spelling that is the same for all that
// decide alike by themselves: methods in order, escapes and case as they are judged. It parses to
// rules that decide as these do.
func (r *Rules) Canonical() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range r.Len() {
			if !yield(r.rules[i].canonical()) {
				return
			}
		}
	}
}

func (u *rule) canonical() string {
	if u.star {
		return "*"
	}
	var b strings.Builder
	if u.deny {
		b.WriteByte('!')
	}
	if u.methods == nil {
		b.WriteByte('*')
	} else {
		b.WriteString(strings.Join(slices.Compact(slices.Sorted(slices.Values(u.methods))), ","))
	}
	b.WriteByte(' ')
	for _, s := range u.path {
		b.WriteByte('/')
		if s.many {
			b.WriteString("**")
		}
		for i, part := range s.glob {
			if i > 0 {
				b.WriteByte('*')
			}
			b.WriteString(escape(part))
		}
	}
	if u.query != nil {
		b.WriteByte('?')
		b.WriteString(strings.Join(u.query, "*"))
	}
	return b.String()
}

// escape writes what was decoded such that it is read as the same again.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || strings.IndexByte(`/*%?#\!`, c) >= 0:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
