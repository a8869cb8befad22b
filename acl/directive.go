package acl

import (
	"fmt"
	"strings"
	"time"
)

// Directives are what `#@` comments say of a rule: behind it, or, an owner and a ticket, alone
// in front of its block.
type Directives struct {
	Owner, Ticket string // who, and why; "" when nobody says
	// Expires is the day, at 00:00 UTC, through which the rule is valid; zero is for ever.
	Expires time.Time
	// Protocol is what a tunnel has to carry: "tls", "http", "ssh" or "any"; "" when it is not said.
	Protocol string
}

// A note is what stands behind a rule.
type note struct {
	rule ruleNo
	Directives
}

// A block is the rules start..end-1, which a directive alone on its line stands in front of.
type block struct {
	start, end    ruleNo
	line          int // of the directive; 0 is no block
	Owner, Ticket string
}

const (
	msgNotBehind  = "stands alone on its line"
	msgOnlyBehind = "stands behind a rule only"
)

// nearDirective reports whether a comment was probably meant for a directive.
func nearDirective(comment string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(comment, "#"+blanks), "@")
	if !ok {
		return false
	}
	rest = strings.TrimLeft(rest, blanks)
	if word, _, _ := strings.Cut(strings.ReplaceAll(rest, "\t", " "), " "); word == "assert" || rest == "end" {
		return true
	}
	key, _, ok := strings.Cut(rest, "=")
	return ok && (key == "owner" || key == "ticket" || key == "expires" || key == "protocol")
}

// readAlone reads a directive that has a line for itself.
func (b *builder) readAlone(line int, comment, directive string) {
	first, rest, _ := strings.Cut(strings.Trim(directive, blanks), " ")
	switch first, tab, _ := strings.Cut(first, "\t"); first {
	case "end":
		if strings.Trim(tab+rest, blanks) != "" {
			b.wrong(line, comment, "nothing may stand behind end")
			return
		}
		b.end = line
		return
	case "assert":
		b.readAssert(line, comment, tab+" "+rest)
		return
	}
	d, msg := readDirectives(directive)
	switch {
	case msg != "":
	case !d.Expires.IsZero():
		msg = "expires " + msgOnlyBehind
	case d.Protocol != "":
		msg = "protocol " + msgOnlyBehind
	case d.Owner != "" && b.block.Owner != "":
		msg = fmt.Sprintf("owner is given for this block in line %d; a blank line ends a block", b.block.line)
	case d.Ticket != "" && b.block.Ticket != "":
		msg = fmt.Sprintf("ticket is given for this block in line %d; a blank line ends a block", b.block.line)
	}
	if msg != "" {
		b.wrong(line, comment, msg)
		return
	}
	if d.Owner == "" && d.Ticket == "" {
		return // x-… only
	}
	next := block{start: ruleNo(len(b.set.rules)), line: line, Owner: b.block.Owner + d.Owner, Ticket: b.block.Ticket + d.Ticket}
	b.storeBlock()
	b.block = next
}

// closeBlock ends a block: at a blank line, and where the text ends.
func (b *builder) closeBlock() {
	if b.block.line == 0 {
		return
	}
	if b.storeBlock(); int(b.block.start) == len(b.set.rules) {
		b.warnings = append(b.warnings, b.at(b.block.line, "", "no rule follows this directive before a blank line; write it right in front of its rules"))
	}
	b.block = block{}
}

func (b *builder) storeBlock() {
	if end := ruleNo(len(b.set.rules)); b.block.line != 0 && b.block.start < end {
		b.block.end = end
		b.set.blocks = append(b.set.blocks, b.block)
	}
}

// readBehind reads a directive behind a rule, which is the next to be read.
func (b *builder) readBehind(line int, text, directive string) {
	first, _, _ := strings.Cut(strings.TrimLeft(directive, blanks), " ")
	if first = strings.Trim(first, blanks); first == "end" || first == "assert" {
		b.wrong(line, text, first+" "+msgNotBehind)
		return
	}
	d, msg := readDirectives(directive)
	if msg != "" {
		b.wrong(line, text, msg)
	} else if d != (Directives{}) {
		b.set.notes = append(b.set.notes, note{ruleNo(len(b.set.rules)), d})
	}
}

func (b *builder) wrong(line int, text, msg string) {
	b.problems = append(b.problems, b.at(line, text, "Bad directive "+quote(text)+": "+msg))
}

// readDirectives reads `key=value` words. What begins with x- is somebody else's, with all words
// behind it that are none of ours. However those are spelled, it is no error, and no word of ours is lost in them.
func readDirectives(s string) (d Directives, msg string) {
	seen := map[string]bool{}
	foreign := false
	for {
		key, value, rest, msg := cutWord(s)
		foreign = foreign || strings.HasPrefix(key, "x-")
		switch {
		case foreign && key != "" && !ours(key):
			if msg != "" { // word by word
				s = strings.TrimLeft(s, blanks)
				rest = strings.TrimLeftFunc(s, func(c rune) bool { return !strings.ContainsRune(blanks, c) })
			}
		case msg != "":
			return d, msg
		case key == "" && value == "":
			return d, ""
		case !ours(key):
			return d, "unknown directive " + quote(key) + "; write owner=, ticket=, expires= or protocol=, and x-… for what is not Sluice's"
		case seen[key]:
			return d, key + " is given twice"
		default:
			seen[key] = true
			if msg := d.set(key, value); msg != "" {
				return d, msg
			}
		}
		s = rest
	}
}

func ours(key string) bool {
	return key == "owner" || key == "ticket" || key == "expires" || key == "protocol"
}

func (d *Directives) set(key, value string) (msg string) {
	if value == "" {
		return key + ` has no value; write ` + key + `=word, or ` + key + `="some words"`
	}
	switch key {
	case "owner":
		d.Owner = value
	case "ticket":
		d.Ticket = value
	case "expires":
		var err error
		if d.Expires, err = time.Parse(time.DateOnly, value); err != nil {
			return "expires=" + quote(value) + " is no day; write one such as 2027-03-01"
		}
	case "protocol":
		switch d.Protocol = value; value {
		case "tls", "http", "ssh", "any":
		default:
			return "protocol=" + quote(value) + " is none of tls, http, ssh, any"
		}
	}
	return ""
}

// cutWord parts s behind its first word, key or key=value. A comment in it ends it.
func cutWord(s string) (key, value, rest, msg string) {
	s = strings.TrimLeft(s, blanks)
	if strings.HasPrefix(s, "#@") {
		return "", "", "", "a second #@ on the line; write all words behind the first"
	}
	if s == "" || s[0] == '#' {
		return "", "", "", ""
	}
	end := strings.IndexAny(s, "= \t")
	if end < 0 {
		end = len(s)
	}
	key, s = s[:end], s[end:]
	if s == "" || s[0] != '=' {
		return key, "", s, ""
	}
	s = s[1:]
	if strings.HasPrefix(s, `"`) {
		value, rest, ok := strings.Cut(s[1:], `"`)
		if !ok {
			return key, "", "", key + ` has a " without the one that ends it`
		}
		if rest != "" && strings.IndexByte(blanks, rest[0]) < 0 {
			return key, "", "", key + ` has something behind the " that ends it; write a blank between`
		}
		return key, printable(value), rest, ""
	}
	if end = strings.IndexAny(s, blanks); end < 0 {
		end = len(s)
	}
	if strings.IndexByte(s[:end], '"') >= 0 {
		return key, "", s[end:], key + ` has a " inside of its value; write ` + key + `="some words"`
	}
	return key, printable(s[:end]), s[end:], ""
}
