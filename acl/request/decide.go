package request

import (
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// A Reason is what a decision comes from.
type Reason uint8

const (
	None         Reason = iota // no rule matches, or there are no rules
	ByRule                     // the rule at Line
	Malformed                  // servers may read it in different ways; Detail says why. 400 (RFC 9110 section 15.5.1)
	EncodedSlash               // as None, and there is a %2F, which only a pattern that writes it matches
	EmptySegment               // it has `//`, which [Options] does not let pass
	Trace                      // TRACE shows the client what was put in for it (RFC 9110 section 9.3.8)
)

// A Decision says whether a request may be sent, and why. The zero Decision denies.
type Decision struct {
	Verdict acl.Verdict // [acl.Deny] or [acl.Allow]
	Reason  Reason
	// Of ByRule: the rule's position, from 1, its line and text as written, and the name of
	// the text; see [ParseNamed].
	Rule, Line   int
	Text, Source string
	// Detail says what is wrong; of Malformed only.
	Detail string
}

// String returns the reason in words, for log lines and error pages.
func (d Decision) String() string {
	switch d.Reason {
	case ByRule:
		where := "request rule in line "
		if d.Source != "" {
			where = "request rule " + d.Source + ":"
		}
		return where + itoa(d.Line) + " " + d.Text
	case Malformed:
		return "malformed path: " + d.Detail
	case EncodedSlash:
		return "no request rule allows it; a %2F is matched by a pattern that writes it, or with encodedSlash: segment"
	case EmptySegment:
		return "an empty segment in the path, which emptySegments: keep lets pass"
	case Trace:
		return "TRACE is never sent on"
	default:
		return "no request rule allows it"
	}
}

// Decide judges a request by its method and its target in origin form (RFC 9112 section 3.2.1),
// as they are sent. It may be called concurrently. Rules that are nil deny.
func (r *Rules) Decide(method, target string) Decision {
	var few, low [16]string // of most requests all segments
	path, query, _ := strings.Cut(target, "?")
	q := asked{method: method, query: query}
	var wrong string
	q.segments, wrong = q.read(few[:0], path)
	if wrong == "" {
		q.folded = foldAll(low[:0], q.segments)
	}
	switch {
	case wrong != "":
		return Decision{Reason: Malformed, Detail: wrong}
	case r == nil:
		return Decision{}
	case strings.IndexFunc(method, func(r rune) bool { return 'a' <= r && r <= 'z' }) >= 0:
		return Decision{Reason: Malformed, Detail: "a method that is not in capitals"} // which some servers read as if it were
	case method == "TRACE":
		return Decision{Reason: Trace}
	case q.empty && !r.options.EmptySegments:
		return Decision{Reason: EmptySegment}
	}
	for i := range r.rules {
		if u := &r.rules[i]; u.matches(&q, r.options) {
			d := Decision{Reason: ByRule, Rule: i + 1, Line: u.line, Text: u.text, Source: r.source}
			if !u.deny {
				d.Verdict = acl.Allow
			}
			return d
		}
	}
	if q.slash && !r.options.EncodedSlash {
		return Decision{Reason: EncodedSlash}
	}
	return Decision{}
}

// matches reports whether the rule is for that request.
func (u *rule) matches(q *asked, o Options) bool {
	if u.methods != nil && !slices.Contains(u.methods, q.method) {
		return false
	}
	if u.star {
		return !q.slash || o.EncodedSlash
	}
	if u.query != nil && !u.query.matches(q.query, true) {
		return false
	}
	if u.deny {
		return q.carelessly(u.path)
	}
	return u.path.matches(q.segments, o.EncodedSlash)
}

// asked is a request as it is judged.
type asked struct {
	method, query    string
	path             string   // as sent, without the first slash
	segments, folded []string // decoded; in one case, too

	slash, empty, semicolon bool       // it has %2F, `//` in front of its end, `;` in some spelling
	readings                [][]string // of careless servers, if any of these; nil: not made yet
}

// maxSegments is how many segments a path may have: more would be for the sake of the time that
// judging them takes.
const maxSegments = 512

// read appends the segments of a path to dst, decoded, and says what is malformed in it; ""
// nothing.
func (q *asked) read(dst []string, path string) ([]string, string) {
	if !strings.HasPrefix(path, "/") {
		return nil, "it does not begin with a slash"
	}
	if strings.Count(path, "/") > maxSegments {
		return nil, "more than 512 segments"
	}
	q.path = path[1:]
	for rest, more := path[1:], true; more; {
		var raw string
		raw, rest, more = strings.Cut(rest, "/")
		if raw == "" && more {
			q.empty = true
		}
		seg, wrong := decode(raw)
		if wrong == "" {
			wrong = q.look(seg)
		}
		if wrong != "" {
			return nil, wrong
		}
		dst = append(dst, seg)
	}
	return dst, ""
}

// look notes what a careless server could read in another way, and says what nobody may send.
func (q *asked) look(seg string) string {
	q.slash = q.slash || strings.Contains(seg, "/")
	q.semicolon = q.semicolon || strings.Contains(seg, ";")
	for piece := range strings.SplitSeq(seg, "/") {
		piece, _, _ = strings.Cut(piece, ";")
		if piece == "." || piece == ".." {
			return "a dot segment"
		}
	}
	return ""
}
