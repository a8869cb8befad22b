package request

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sluiceproxy/sluice/acl"
)

// Options say what a host makes of what others read in different ways. The zero Options refuse.
type Options struct {
	// EncodedSlash takes %2F for a part of its segment, as GitLab's API does: stars stand for it,
	// too. Otherwise only a pattern that writes it matches it.
	EncodedSlash bool
	// EmptySegments lets `//` in a path pass, which stars then stand for as for any segment.
	EmptySegments bool
}

// Rules are request rules in their order. They never change, and may be used concurrently; nil
// denies everything.
type Rules struct {
	rules   []rule
	options Options
	source  string
}

// A rule is one line.
type rule struct {
	line    int
	text    string
	deny    bool
	star    bool     // `*`, the last rule
	methods []string // nil: any
	path    path     // of a deny rule folded
	query   glob     // nil: any
}

// Parse reads a text of request rules, whole or not at all: on any problem the rules are nil,
// and the error an [*acl.ParseError] with every bad line. A text without rules is legal and
// denies everything.
func Parse(text string, o Options) (*Rules, error) { return ParseNamed("", 1, text, o) }

// ParseNamed is [Parse] for a text that begins at a line, from 1, of what is called source.
func ParseNamed(source string, line int, text string, o Options) (*Rules, error) {
	r := &Rules{options: o, source: source}
	var problems []acl.Problem
	star := 0
	for at := range strings.SplitSeq(text, "\n") {
		s, wrong := strip(at)
		if wrong == "" && s != "" {
			if star > 0 {
				wrong = fmt.Sprintf("`*` must be the last rule, and line %d follows; move it to the end", line)
				problems = append(problems, acl.Problem{Source: source, Line: star, Text: "*", Msg: wrong})
				wrong, star = "", 0
			}
			var u rule
			if u, wrong = parseRule(s, o); wrong == "" {
				u.line, u.text = line, strings.Clone(s) // or a line in a log would keep the whole text
				r.rules = append(r.rules, u)
				if u.star {
					star = line
				}
			}
		}
		if wrong != "" {
			problems = append(problems, acl.Problem{Source: source, Line: line, Text: s, Msg: "Bad request rule " + quote(s) + ": " + wrong})
		}
		line++
	}
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b acl.Problem) int { return a.Line - b.Line })
		return nil, &acl.ParseError{Problems: problems}
	}
	return r, nil
}

// Len returns the number of rules.
func (r *Rules) Len() int {
	if r == nil {
		return 0
	}
	return len(r.rules)
}

const blanks = " \t"

// strip returns a line without its comment and the white space around it, or what is wrong with it.
func strip(line string) (string, string) {
	line = strings.TrimSuffix(line, "\r")
	if strings.Contains(line, "\r") {
		return line, "a carriage return inside the line; end lines with LF or CRLF"
	}
	for i := range len(line) {
		if line[i] != '#' || i > 0 && !strings.ContainsRune(blanks, rune(line[i-1])) {
			continue
		}
		if after, ok := strings.CutPrefix(line[i:], "#@"); ok && !strings.HasPrefix(strings.Trim(after, blanks), "x-") {
			return strings.Trim(line, blanks), "directives (#@) are for the rules of hosts; write a comment without the @"
		}
		line = line[:i]
		break
	}
	return strings.Trim(line, blanks), ""
}

func parseRule(s string, o Options) (u rule, wrong string) {
	if s == "*" {
		return rule{star: true}, ""
	}
	if rest, ok := strings.CutPrefix(s, "!"); ok {
		u.deny, s = true, strings.TrimLeft(rest, blanks)
	}
	i := strings.IndexAny(s, blanks)
	if i < 0 {
		return u, "it wants methods and a path, as in `GET,HEAD /v1/**`"
	}
	methods, pattern := s[:i], strings.TrimLeft(s[i:], blanks)
	if strings.ContainsAny(pattern, blanks) {
		return u, "white space in the path; write %20"
	}
	if u.methods, wrong = parseMethods(methods); wrong != "" {
		return u, wrong
	}
	if !strings.HasPrefix(pattern, "/") {
		return u, "the path begins with a slash"
	}
	written, query, asked := strings.Cut(pattern[1:], "?")
	if asked {
		if wrong := raws(query); wrong != "" {
			return u, "the query has " + wrong + ", which no request has"
		}
		u.query = strings.Split(query, "*")
	}
	u.path, wrong = parsePath(written, u.deny, o)
	return u, wrong
}

// parseMethods reads methods (tokens of RFC 9110 section 5.6.2) with commas between them; nil is any.
func parseMethods(s string) ([]string, string) {
	if s == "*" {
		return nil, ""
	}
	all := strings.Split(s, ",")
	for _, m := range all {
		switch {
		case m == "":
			return nil, "an empty method; write them with commas and without blanks: `GET,HEAD`"
		case strings.Trim(m, tokens) != "":
			return nil, "a method that is none: " + quote(m)
		case strings.ToUpper(m) != m:
			return nil, "methods are case-sensitive; write " + strings.ToUpper(m)
		case m == "CONNECT" || m == "TRACE":
			return nil, m + " is never sent on; leave it out"
		}
	}
	return all, ""
}

const tokens = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// parsePath reads the pattern of a path, without its first slash.
func parsePath(s string, deny bool, o Options) (p path, wrong string) {
	all := strings.Split(s, "/")
	for i, written := range all {
		if written == "" && i < len(all)-1 && !deny && !o.EmptySegments {
			return nil, "`//` is never let through without emptySegments: keep"
		}
		many := strings.HasSuffix(written, "**")
		whole := written == "**"
		written = strings.TrimSuffix(written, "**")
		if strings.Contains(written, "**") || many && strings.HasSuffix(written, "*") {
			return nil, "`**` is a segment of its own, or ends one"
		}
		if !whole {
			g, wrong := parseSegment(written, deny)
			if wrong != "" {
				return nil, wrong
			}
			if many {
				g = append(g, "")
			}
			p = append(p, segment{glob: g})
		}
		if many && (len(p) == 0 || !p[len(p)-1].many) {
			p = append(p, segment{many: true})
		}
	}
	return p, ""
}

// parseSegment reads the pattern of a segment.
func parseSegment(s string, folded bool) (glob, string) {
	var g glob
	for part := range strings.SplitSeq(s, "*") {
		if !utf8.ValidString(part) {
			return nil, "bytes that are no UTF-8"
		}
		if wrong := raws(strings.Map(ascii, part)); wrong != "" {
			return nil, wrong + ", which no request has"
		}
		text, wrong := unescape(part)
		if wrong != "" {
			return nil, wrong
		}
		if folded {
			text = fold(text)
		}
		g = append(g, text)
	}
	if piece, _, _ := strings.Cut(g[0], ";"); len(g) == 1 && (piece == "." || piece == "..") {
		return nil, "a dot segment, which no request has"
	}
	return g, ""
}

// ascii stands letters of other scripts in a pattern for one that a request may have.
func ascii(r rune) rune {
	if r >= 0x80 {
		return 'x'
	}
	return r
}

func itoa(n int) string { return strconv.Itoa(n) }

// quote is how a rule is shown: printable, and not longer than 200 bytes.
func quote(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	q := strconv.Quote(s)
	return "'" + q[1:len(q)-1] + "'"
}
