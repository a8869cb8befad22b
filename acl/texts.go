package acl

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// A Text is a text of rules with its name.
type Text struct {
	Source string // a file, an environment variable; "" when it has no name
	Text   string
	Line   int // of the first line of Text in Source; 0 is 1
}

// ParseTexts reads several texts as one list, in their order, whole or not at all,
// as [Parse] does with one. A rule keeps its line, and its text's name: in problems
// and warnings, and in decisions, where there is more than one text. No text at all
// is a list without rules.
func ParseTexts(texts ...Text) (*Policy, error) {
	s := &ruleSet{}
	if len(texts) == 1 {
		s.text = texts[0].Text // not copied
	} else {
		var b strings.Builder
		for _, t := range texts {
			b.WriteString(t.Text)
			if t.Text != "" && !strings.HasSuffix(t.Text, "\n") {
				b.WriteByte('\n')
			}
			s.parts = append(s.parts, part{source: t.Source, name: printable(t.Source), end: b.Len(), line: t.Line})
		}
		s.text = b.String()
	}
	if len(texts) <= 1 {
		s.parts = append(s.parts, part{end: len(s.text)})
		if len(texts) == 1 {
			s.parts[0].source, s.parts[0].line = texts[0].Source, texts[0].Line
		}
	}
	return parse(s)
}

// A part is one of the texts of a rule set.
type part struct {
	source string
	name   string // for decisions: source without control bytes; "" when there is one text only
	end    int    // offset behind it
	line   int    // of its first line; 0 is 1
	whole  bool   // it ends in the line `#@ end`
}

// partAt is the text that the byte at an offset belongs to.
func (s *ruleSet) partAt(offset int) *part {
	i := 0
	for i < len(s.parts)-1 && offset >= s.parts[i].end {
		i++
	}
	return &s.parts[i]
}

// source is the name of the text that a rule stands in.
func (s *ruleSet) source(r *rule) string { return s.partAt(int(r.start)).source }

// name is source for decisions: it tells texts apart, so that of one alone is "".
func (s *ruleSet) name(r *rule) string {
	if len(s.parts) == 1 {
		return ""
	}
	return s.partAt(int(r.start)).name
}

// place is where a rule stands, for a message about the rule from: "line 3", or
// "line 3 of b.txt" when that is another text.
func (s *ruleSet) place(no, from ruleNo) string {
	r, f := &s.rules[no], &s.rules[from]
	if s.partAt(int(r.start)) == s.partAt(int(f.start)) {
		return fmt.Sprintf("line %d", r.line)
	}
	return fmt.Sprintf("line %d of %s", r.line, s.partAt(int(r.start)).name)
}

// sortByPlace sorts by text, then by line.
func (s *ruleSet) sortByPlace(ps []Problem) {
	rank := func(p Problem) int {
		return slices.IndexFunc(s.parts, func(part part) bool { return part.source == p.Source })
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if len(s.parts) > 1 && a.Source != b.Source {
			return rank(a) - rank(b)
		}
		return a.Line - b.Line
	})
}

// printable is s with a question mark for what is not.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
