package fuzz

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
	"github.com/sluiceproxy/sluice/acl/request"
)

// FuzzRequestRules: whatever text of request rules is accepted decides as regular expressions on
// whole paths do; of what is refused nothing is returned.
func FuzzRequestRules(f *testing.F) {
	f.Add("GET,HEAD /repos/acme/**\n!* /user/keys**\n*", "GET", "/repos/acme/x?page=2", false, false)
	f.Add("GET /**/info/refs?service=git-upload-pack", "GET", "/a/b/info/refs?service=git-upload-pack", false, false)
	f.Add("!* /admin/*\nGET /api/%2F*", "GET", "/%61DMIN;x/%2f", true, false)
	f.Add("!GET /a//b\n* /*a*b*/**/c", "POST", "/xaxb/..;/c", false, true)
	f.Add("!* /\u212a\n*", "PUT", "/%E2%84%AA", false, false)
	f.Fuzz(func(t *testing.T, text, method, target string, encodedSlash, emptySegments bool) {
		r, err := request.Parse(text, request.Options{EncodedSlash: encodedSlash, EmptySegments: emptySegments})
		if err != nil {
			var all *acl.ParseError
			if r != nil || !errors.As(err, &all) || len(all.Problems) == 0 {
				t.Fatalf("%v, %v", r, err)
			}
			return
		}
		d := r.Decide(method, target)
		if method == "TRACE" || strings.Count(target, "/") > 512 || d.Reason == request.Malformed && d.Verdict == acl.Allow {
			if d.Verdict != acl.Deny {
				t.Fatalf("%+v", d)
			}
			return
		}
		if len(text) > 1000 || strings.Count(text, "*") > 30 { // the reference takes long
			return
		}
		rules := plain(text)
		allow, reason, rule := acltest.Request(rules, encodedSlash, emptySegments, method, target)
		if allow != (d.Verdict == acl.Allow) || rule != d.Rule || (reason == "malformed") != (d.Reason == request.Malformed) {
			t.Fatalf("%q: %s %q: %+v, and the reference says %v by %s, rule %d", rules, method, target, d, allow, reason, rule)
		}
	})
}

// plain are the rules of a text that is right, without comments and superfluous white space.
func plain(text string) (rules []string) {
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		for i, s := range fields {
			if strings.HasPrefix(s, "#") {
				fields = fields[:i]
				break
			}
		}
		if len(fields) > 2 { // ! METHODS PATTERN
			fields = []string{fields[0] + fields[1], fields[2]}
		}
		if len(fields) > 0 {
			rules = append(rules, strings.Join(fields, " "))
		}
	}
	return rules
}
