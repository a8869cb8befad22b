package acltest

import (
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// encoded stands for an encoded slash in a path that has been decoded.
const encoded = "\x01"

var (
	dots      = regexp.MustCompile(`(?i)(^|/|%2f)(\.|%2e)(\.|%2e)?(;|%3b|/|%2f|$)`)
	forbidden = regexp.MustCompile(`(?i)[\\# \x00-\x1f\x7f]|[^\x00-\x7f]|%5c|%[01][0-9a-f]|%7f`)
	lowerCase = regexp.MustCompile(`[a-z]`)
	params    = regexp.MustCompile(`;[^/]*`)
	slashes   = regexp.MustCompile(`/+`)
)

func undoEscapes(raw string) string {
	s := regexp.MustCompile(`(?i)%2f`).ReplaceAllString(raw, encoded)
	s, err := url.PathUnescape(s)
	if err != nil {
		panic(err)
	}
	return s
}

// Request decides a request by regular expressions on whole paths, where package request walks
// segments; TRACE and lengths aside.
//
// rules are right, without comments and superfluous white space. The rule is its position, from 1;
// the reason one of "rule", "none", "malformed", "encoded slash", "empty segment".
func Request(rules []string, encodedSlash, emptySegments bool, method, target string) (allowed bool, reason string, rule int) {
	path, query, _ := strings.Cut(target, "?")
	unescaped, err := url.PathUnescape(path)
	if lowerCase.MatchString(method) || !strings.HasPrefix(path, "/") || err != nil || !utf8.ValidString(unescaped) || dots.MatchString(path[1:]) || forbidden.MatchString(path) {
		return false, "malformed", 0
	}
	// Each segment is UTF-8 by itself.
	for s := range strings.SplitSeq(path, "/") {
		if u, _ := url.PathUnescape(s); !utf8.ValidString(u) {
			return false, "malformed", 0
		}
	}
	if strings.Contains(path, "//") && !emptySegments {
		return false, "empty segment", 0
	}
	for i, text := range rules {
		deny := strings.HasPrefix(text, "!")
		methods, pattern, _ := strings.Cut(strings.TrimPrefix(text, "!"), " ")
		if methods != "*" && !strings.Contains(","+methods+",", ","+method+",") {
			continue
		}
		hit := false
		switch {
		case text == "*":
			hit = encodedSlash || !strings.Contains(undoEscapes(path), encoded)
		case !deny:
			hit = requestMatches(pattern, encodedSlash, false, undoEscapes(path), query)
		default:
			for n := range 16 {
				p := path
				if n&1 > 0 {
					p = params.ReplaceAllString(p, "")
				}
				p = undoEscapes(p)
				if n&2 > 0 {
					p = strings.ReplaceAll(p, encoded, "/")
				}
				if n&4 > 0 {
					p = params.ReplaceAllString(p, "")
				}
				if n&8 > 0 {
					p = slashes.ReplaceAllString(p, "/")
				}
				hit = hit || requestMatches(pattern, true, true, p, query)
			}
		}
		switch {
		case hit && deny:
			return false, "rule", i + 1
		case hit:
			return true, "rule", i + 1
		}
	}
	if strings.Contains(undoEscapes(path), encoded) && !encodedSlash {
		return false, "encoded slash", 0
	}
	return false, "none", 0
}

func requestMatches(pattern string, slash, fold bool, path, query string) bool {
	pattern, wanted, asked := strings.Cut(pattern, "?")
	if asked {
		var parts []string
		for part := range strings.SplitSeq(wanted, "*") {
			parts = append(parts, regexp.QuoteMeta(part))
		}
		if !regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(query) {
			return false
		}
	}
	one := `[^/` + encoded + `]*`
	if slash {
		one = `[^/]*`
	}
	expr := `(?s)^`
	if fold {
		expr = `(?is)^`
	}
	for seg := range strings.SplitSeq(pattern[1:], "/") {
		text, many := strings.CutSuffix(seg, "**")
		if !many || text != "" {
			var parts []string
			for part := range strings.SplitSeq(text, "*") {
				parts = append(parts, regexp.QuoteMeta(undoEscapes(part)))
			}
			expr += "/" + strings.Join(parts, one)
			if many {
				expr += one
			}
		}
		if many {
			expr += `(?:/` + one + `)*`
		}
	}
	return regexp.MustCompile(expr + `$`).MatchString(path)
}
