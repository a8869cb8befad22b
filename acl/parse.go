package acl

import (
	"fmt"
	"slices"
	"strings"
)

// blanks are the white space of the language, besides line ends.
const blanks = " \t"

const (
	byteOrderMark = "\uFEFF"
	maxText       = 1 << 30
)

// Parse reads a text of rules, whole or not at all: on any problem the policy
// is nil, and the error a [*ParseError] with every bad line. A text without
// rules is legal and denies everything. The policy has the default guard; it
// keeps text.
func Parse(text string) (*Policy, error) { return ParseNamed("", text) }

// ParseNamed is [Parse] for a text whose name (a file, an environment variable)
// is put in front of every problem.
func ParseNamed(source, text string) (*Policy, error) {
	return ParseTexts(Text{Source: source, Text: text})
}

// parse makes a policy of a set that has its texts only.
func parse(s *ruleSet) (*Policy, error) {
	if len(s.text) >= maxText {
		return nil, &ParseError{[]Problem{{Source: s.parts[0].source, Msg: msgTextTooLarge}}}
	}
	b := &builder{set: s}
	b.readTexts()
	if len(b.problems) == 0 {
		b.build()
	}
	if len(b.problems) > 0 {
		s.sortByPlace(b.problems)
		return nil, &ParseError{b.problems}
	}
	s.sortByPlace(b.warnings)
	b.set.warnings = b.warnings
	return (&Policy{set: b.set}).WithGuard(Guard{}), nil
}

// A builder turns a text into a ruleSet.
type builder struct {
	set      *ruleSet
	source   string // of the text that is being read
	steps    stepBuilder
	reader   formReader
	names    []nameRule
	stars    []ruleNo // `*` rules that no other rule follows yet
	end      int      // the line of `#@ end` in this text, 0 for none
	block    block    // that is being read; see directive.go
	problems []Problem
	warnings []Problem
}

// readTexts reads every line.
func (b *builder) readTexts() {
	s := b.set
	lines := strings.Count(s.text, "\n") + 1
	s.rules = make([]rule, 0, lines)
	start := 0
	for i := range s.parts {
		p := &s.parts[i]
		b.source, b.end, b.block = p.source, 0, block{}
		b.readText(start, p.end, max(p.line, 1))
		start, p.whole = p.end, b.end > 0
	}
	if len(s.rules) < cap(s.rules)/4*3 {
		s.rules = slices.Clone(s.rules) // many comments: give the room back
	}
}

// readText reads the lines of text[start:limit], the first of which has the number line.
func (b *builder) readText(start, limit, line int) {
	text := b.set.text[:limit]
	if strings.HasPrefix(text[start:], byteOrderMark) {
		start += len(byteOrderMark)
	}
	for ; start < limit; line++ {
		end := limit
		if i := strings.IndexByte(text[start:], '\n'); i >= 0 {
			end = start + i
		}
		b.readLine(line, start, end)
		start = end + 1
	}
	b.closeBlock()
}

// readLine reads the line text[start:end].
func (b *builder) readLine(line, start, end int) {
	text := b.set.text
	from, to, comment := b.trim(line, start, end)
	switch directive, ok := strings.CutPrefix(comment, "#@"); {
	case b.end > 0 && (from < to || comment != ""):
		b.problems = append(b.problems, b.at(b.end, "", fmt.Sprintf("%s: line %d follows; move it to the end", msgEndNotLast, line)))
		b.end = 0
	case from == to && comment == "":
		b.closeBlock()
	case ok && from == to:
		b.readAlone(line, comment, directive)
	case ok:
		b.readBehind(line, text[from:to]+" "+comment, directive)
	case nearDirective(comment):
		b.warnings = append(b.warnings, b.at(line, "", quote(comment)+" is a comment, and looks like a directive; that begins with #@ and nothing between"))
	}
	if from < to {
		b.readRule(line, from, to)
	}
}

// trim finds the rule in the line text[from:to], without white space and a CR at its end,
// and the comment behind it. Where there is no rule, from is to.
func (b *builder) trim(line, from, to int) (int, int, string) {
	text := b.set.text
	if to > from && text[to-1] == '\r' {
		to--
	}
	if strings.IndexByte(text[from:to], '\r') >= 0 {
		// Even in a comment: all of an old Macintosh text might be one.
		b.problems = append(b.problems, b.at(line, text[from:to], badDestination(text[from:to], msgBareCR)))
		return 0, 0, "#"
	}
	comment := ""
	for i := strings.IndexByte(text[from:to], '#'); i >= 0; {
		at := from + i
		if at == from || text[at-1] == ' ' || text[at-1] == '\t' {
			comment = strings.TrimRight(text[at:to], blanks)
			to = at
			break
		}
		next := strings.IndexByte(text[at+1:to], '#')
		if next < 0 {
			break
		}
		i += next + 1
	}
	for from < to && (text[from] == ' ' || text[from] == '\t') {
		from++
	}
	for to > from && (text[to-1] == ' ' || text[to-1] == '\t') {
		to--
	}
	return from, max(from, to), comment
}

// readRule reads the rule text[from:to].
func (b *builder) readRule(line, from, to int) {
	s := b.set
	text := s.text[from:to]
	f, msg := b.reader.read(text)
	if msg != "" {
		msg = badDestination(text, msg)
		b.problems = append(b.problems, b.at(line, text, msg))
	}
	no := ruleNo(len(s.rules))
	s.rules = append(s.rules, newRule(line, from, to, &f))
	if f.kind != formStar {
		b.starsNotLast(no)
	}
	if msg != "" || len(b.problems) > 0 {
		if f.kind == formStar {
			b.stars = append(b.stars, no)
		}
		return
	}
	if f.masked {
		f.masked = false
		b.warn(no, fmt.Sprintf("%s has host bits set, and is read as %s", quote(text), f.appendTo(nil)))
	}
	if f.kind == formName && likeAddrRange(f.name) {
		b.warn(no, quote(text)+" looks like a range of addresses, but is read as a host name; write CIDRs, one a line")
	}
	b.keep(no, &f)
}

// keep takes a good rule into the set.
func (b *builder) keep(no ruleNo, f *form) {
	if b.set.expired(no) {
		return // it has its place, and decides nothing
	}
	ports := slices.Clone(f.ports)
	switch f.kind {
	case formStar:
		if len(b.stars) > 0 {
			b.warn(no, "a repeated `*`; one is enough")
		}
		b.stars = append(b.stars, no)
		b.steps.add(&b.set.star, no, ports)
	case formAddr:
		b.set.addrs.add(b, f, no, ports)
	default:
		b.names = append(b.names, nameRule{name: f.name, rule: no, kind: f.kind, ports: ports})
	}
}

// starsNotLast reports the `*` rules so far: the rule by follows them.
func (b *builder) starsNotLast(by ruleNo) {
	for _, no := range b.stars {
		r := &b.set.rules[no]
		text := r.text(b.set)
		b.problems = append(b.problems, b.of(no, fmt.Sprintf(
			"%s: %s follows %s; move the `*` to the end", msgStarNotLast, b.set.place(by, no), quote(text))))
	}
	b.stars = b.stars[:0]
}

// build makes the indexes when every line is good.
func (b *builder) build() {
	s := b.set
	b.steps.finish(&s.star)
	s.addrs.finish(b)
	s.names.build(b, b.names)
	s.steps = slices.Clone(b.steps.steps)
	s.addrs.rules = slices.Clip(s.addrs.rules)
	s.segments = s.portSegments()
	b.warnOfLate()
}

// add adds a rule to a cell, and warns when it comes too late.
func (b *builder) add(c *cell, rule ruleNo, ports []portRange) bool {
	if b.steps.add(c, rule, ports) {
		return true
	}
	b.dead(rule, ruleNo(*c)-1)
	return false
}

// finish turns the pending rules of a cell into steps, and warns of those that
// come too late.
func (b *builder) finish(c *cell) {
	if *c >= cellSteps {
		b.steps.idle(b.dead, *c)
		b.steps.finish(c)
	}
}

// finishPair is finish for two cells of the same form.
func (b *builder) finishPair(c, d *cell) {
	if *c >= cellSteps || *d >= cellSteps {
		b.steps.idle(b.dead, *c, *d)
		b.steps.finish(c)
		b.steps.finish(d)
	}
}

// dead warns of a rule that never decides: by has the same form.
func (b *builder) dead(no, by ruleNo) {
	b.warn(no, fmt.Sprintf("%s never decides: %s, for the same destination, comes first",
		quote(b.set.rules[no].text(b.set)), b.set.place(by, no)))
}

func (b *builder) warn(no ruleNo, msg string) {
	b.warnings = append(b.warnings, b.of(no, msg))
}

func (b *builder) problem(no ruleNo, msg string) {
	b.problems = append(b.problems, b.of(no, badDestination(b.set.rules[no].text(b.set), msg)))
}

// at is a problem of the text that is being read.
func (b *builder) at(line int, text, msg string) Problem {
	return Problem{Source: b.source, Line: line, Text: text, Msg: msg}
}

// of is a problem of a rule.
func (b *builder) of(no ruleNo, msg string) Problem {
	r := &b.set.rules[no]
	return Problem{Source: b.set.source(r), Line: int(r.line), Text: r.text(b.set), Msg: msg}
}

func badDestination(text, msg string) string { return msgBadPrefix + quote(text) + ": " + msg }
