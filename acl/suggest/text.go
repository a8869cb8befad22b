package suggest

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// maxBeside bounds the lines of what is not allowed in the text of a list.
const maxBeside = 100

// String is the list as [acl.Parse] takes it: the rules, with how they were used, and behind them, as
// comments, what they do not allow.
func (s *Suggestion) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, of which these rules allow what was reached. Read them before they are in force.\n", count(s.Requests, "recorded request"))
	if s.Unread > 0 {
		fmt.Fprintf(&b, "# %d of them had no target that a rule could be for.\n", s.Unread)
	}
	wide := 0
	for _, r := range s.Rules {
		wide = max(wide, min(len(r.Text), 40))
	}
	for _, r := range s.Rules {
		fmt.Fprintf(&b, "%-*s # %s\n", wide, r.Text, r.used(len(r.Names)))
	}
	if len(s.Rules) == 0 {
		b.WriteString("# Nothing was reached: no rule.\n")
	}
	writeBesides(&b, "denied", s.Denied)
	writeBesides(&b, "guarded", s.Guarded)
	writeBesides(&b, "failed", s.Failed)
	b.WriteString("#@ end\n")
	return b.String()
}

func writeBesides(b *strings.Builder, what string, all []Beside) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "\n# %s:\n", what)
	for i := range all[:min(len(all), maxBeside)] {
		x := &all[i]
		why := ""
		if x.Why != "" {
			why = ": " + oneLine(x.Why)
		}
		fmt.Fprintf(b, "#   %s  %s%s\n", x.Target, x.used(0), why)
	}
	if more := len(all) - maxBeside; more > 0 {
		fmt.Fprintf(b, "#   and %d more\n", more)
	}
}

// used says it to people; names are how many a rule is for.
func (u *Use) used(names int) string {
	s := count(u.Requests, "request")
	if names > 1 {
		s += fmt.Sprintf(" for %d names", names)
	}
	first, last := u.First.UTC().Format(time.RFC3339), u.Last.UTC().Format(time.RFC3339)
	switch {
	case u.First.IsZero():
	case first == last:
		s += ", " + first
	default:
		s += ", " + first + " to " + last
	}
	if u.ShadowDenied > 0 {
		s += fmt.Sprintf(", %d not allowed by the shadow rules", u.ShadowDenied)
	}
	return s
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// oneLine is s without what would end a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
