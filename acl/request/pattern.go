package request

import "strings"

// A path is the pattern of a path: segments, each a glob, or any number of them.
type path []segment

// A segment is what one segment of a path must be; with many any number of segments, also none,
// whatever they are.
type segment struct {
	many bool
	glob
}

// matches reports whether segs are what the pattern says; with slashes a star stands for an
// encoded slash, too.
func (p path) matches(segs []string, slashes bool) bool {
	at, back, from := 0, -1, 0 // in p; behind the last `**`, and what it has taken so far
	for i := 0; i < len(segs); {
		switch {
		case at < len(p) && p[at].many:
			at++
			back, from = at, i
		case at < len(p) && p[at].matches(segs[i], slashes):
			at++
			i++
		case back >= 0 && (slashes || !strings.Contains(segs[from], "/")):
			from++
			at, i = back, from
		default:
			return false
		}
	}
	for at < len(p) && p[at].many {
		at++
	}
	return at == len(p)
}

// A glob is text with stars in it: what is between them, decoded.
type glob []string

// matches reports whether s is what the glob says; a star stands for a slash only with slashes.
func (g glob) matches(s string, slashes bool) bool {
	first, last := g[0], g[len(g)-1]
	if len(g) == 1 {
		return s == first
	}
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	rest := s[len(first) : len(s)-len(last)]
	for _, part := range g[1 : len(g)-1] {
		i := strings.Index(rest, part)
		if i < 0 || !slashes && strings.Contains(rest[:i], "/") {
			return false
		}
		rest = rest[i+len(part):]
	}
	return slashes || !strings.Contains(rest, "/")
}
