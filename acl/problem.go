package acl

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Problem is one thing that is wrong, or doubtful, in a text of rules.
type Problem struct {
	// Source names the text, as given to [ParseNamed]; "" when it has no name.
	Source string
	// Line is the line in the text, from 1; 0 when the whole text is meant.
	Line int
	// Text is the rule as written, whole, "" when no single rule is meant. It
	// may hold any bytes.
	Text string
	// Msg says what is wrong and how to mend it. It is printable, and quotes
	// the rule, shortened visibly when it is very long.
	Msg string
}

// Error returns "rules.txt:3: …", or "line 3: …" for a text without a name.
func (p Problem) Error() string {
	switch {
	case p.Source == "" && p.Line == 0:
		return p.Msg
	case p.Source == "":
		return "line " + strconv.Itoa(p.Line) + ": " + p.Msg
	case p.Line == 0:
		return p.Source + ": " + p.Msg
	default:
		return p.Source + ":" + strconv.Itoa(p.Line) + ": " + p.Msg
	}
}

// A ParseError holds everything that is wrong with a text, in the order of its
// lines. There is at least one Problem.
type ParseError struct {
	Problems []Problem
}

// maxShown is how many problems Error prints: enough to work through, and few
// enough for a log line or a termination message. Problems has them all.
const maxShown = 100

// Error returns one line a problem; behind the first 100 it says how many more
// there are.
func (e *ParseError) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == maxShown {
			b.WriteString("… and " + strconv.Itoa(len(e.Problems)-maxShown) + " more problems")
			break
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

// maxQuoted is how much of a text, in bytes, an error message shows.
const maxQuoted = 200

// quote returns s in single quotes, with everything that is not printable
// escaped as in Go. A long s is cut, and its length told.
func quote(s string) string {
	cut := s
	if len(s) > maxQuoted {
		cut = s[:maxQuoted]
		for len(cut) > 0 && !utf8.RuneStart(s[len(cut)]) {
			cut = cut[:len(cut)-1]
		}
	}
	b := make([]byte, 0, len(cut)+2)
	b = append(b, '\'')
	for i := 0; i < len(cut); {
		r, n := utf8.DecodeRuneInString(cut[i:])
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			q := strconv.AppendQuoteToASCII(nil, cut[i:i+n])
			b = append(b, q[1:len(q)-1]...)
		} else {
			b = append(b, cut[i:i+n]...)
		}
		i += n
	}
	b = append(b, '\'')
	if len(cut) < len(s) {
		b = append(b, "… ("+strconv.Itoa(len(s))+" bytes)"...)
	}
	return string(b)
}
