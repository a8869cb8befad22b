package request

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

func parse(t testing.TB, text string, o Options) *Rules {
	t.Helper()
	r, err := Parse(text, o)
	require.NoError(t, err)
	return r
}

func TestDecide(t *testing.T) {
	keep, segment := Options{EmptySegments: true}, Options{EncodedSlash: true}
	for _, c := range []struct {
		want, rules string
		o           Options
		request     string
	}{
		{"deny", "", Options{}, "GET /"},
		{"allow 1", "*", Options{}, "GET /"},
		{"trace", "*", Options{}, "TRACE /"},
		{"allow 1", "GET /", Options{}, "GET /"},
		{"allow 1", "GET /", Options{}, "GET /?a=b"},
		{"deny", "GET /", Options{}, "HEAD /"},
		{"malformed", "GET /", Options{}, "get /"},
		{"malformed", "!DELETE /**\n*", Options{}, "delete /a"},
		{"malformed", "*", Options{}, "trace /a"},
		{"allow 1", "GET,HEAD /a", Options{}, "HEAD /a"},
		{"deny", "GET /a", Options{}, "GET /a/"},
		{"deny", "GET /a", Options{}, "GET /A"},
		{"allow 1", "GET /a", Options{}, "GET /%61"},

		{"allow 1", "GET /repos/acme/**", Options{}, "GET /repos/acme/x/y"},
		{"allow 1", "GET /repos/acme/**", Options{}, "GET /repos/acme"},
		{"allow 1", "GET /repos/acme/**", Options{}, "GET /repos/acme/"},
		{"deny", "GET /repos/acme/**", Options{}, "GET /repos/acmeevil/x"},
		{"allow 1", "POST /repos/*/*/issues", Options{}, "POST /repos/a/b/issues"},
		{"deny", "POST /repos/*/*/issues", Options{}, "POST /repos/a/b/c/issues"},
		{"deny", "POST /repos/*/*/issues", Options{}, "POST /repos/a/b/issues/1"},

		{"allow 1", "GET /**/info/refs?service=git-upload-pack", Options{}, "GET /a/b.git/info/refs?service=git-upload-pack"},
		{"allow 1", "GET /**/info/refs?service=git-upload-pack", Options{}, "GET /info/refs?service=git-upload-pack"},
		{"deny", "GET /**/info/refs?service=git-upload-pack", Options{}, "GET /a/info/refs?service=git-receive-pack"},
		{"deny", "GET /**/info/refs?service=git-upload-pack", Options{}, "GET /a/info/refs?service=git-upload-pack&service=git-receive-pack"},
		{"deny", "GET /**/info/refs?service=git-upload-pack", Options{}, "GET /a/info/refs?service=git%2Dupload-pack"},
		{"deny", "GET /**/info/refs?service=git-upload-pack", Options{}, "GET /a/info/refs"},
		{"allow 1", "GET /a?", Options{}, "GET /a"},
		{"deny", "GET /a?", Options{}, "GET /a?b"},
		{"allow 1", "GET /a?x=*&y=2", Options{}, "GET /a?x=1/2&y=2"},

		// The first match decides, in each order.
		{"deny 1", "!* /user/keys**\n*", Options{}, "POST /user/keys"},
		{"allow 1", "* /user/**\n!* /user/keys**", Options{}, "POST /user/keys"},
		{"deny 1", "!* /user/keys**\n*", Options{}, "POST /user/keys/1/2"},
		{"deny 1", "!* /user/keys**\n*", Options{}, "POST /user/keysmith"},
		{"allow 2", "!* /user/keys**\n*", Options{}, "POST /user/key"},

		// What a careless server would make of it.
		{"deny 1", "!* /admin/**\n*", Options{}, "GET /ADMIN/x"},
		{"deny 1", "!* /admin/**\n*", Options{}, "GET /%61dmin/x"},
		{"deny 1", "!* /admin/**\n*", Options{}, "GET /admin;x=1/x"},
		{"deny 1", "!* /admin/**\n*", Options{}, "GET /admin%3Bx=1/x"},
		{"deny 1", "!* /admin/**\n*", segment, "GET /admin%2Fx"},
		{"deny 1", "!* /admin/**\n*", keep, "GET //admin/x"},
		{"deny 1", "!* /a/admin/**\n*", segment, "GET /a%2Fadmin;b%2Fc"},
		{"deny 1", "!* /kelvin\n*", Options{}, "GET /%E2%84%AAelvin"},
		{"allow 1", "* /admin/*", Options{}, "GET /admin/a;b"},
		{"deny", "* /admin/*", Options{}, "GET /admin;b/a"},

		// Encoded slashes, and none.
		{"slash", "GET /api/v4/**", Options{}, "GET /api/v4/projects/group%2Fname"},
		{"allow 1", "GET /api/v4/**", segment, "GET /api/v4/projects/group%2Fname"},
		{"slash", "*", Options{}, "GET /a%2fb"},
		{"allow 1", "*", segment, "GET /a%2fb"},
		{"allow 1", "GET /projects/group%2F*", Options{}, "GET /projects/group%2fname"},
		{"slash", "GET /projects/group%2F*", Options{}, "GET /projects/group%2fname%2fother"},
		{"slash", "GET /projects/group/name", Options{}, "GET /projects/group%2Fname"},
		{"empty", "*", Options{}, "GET /a//b"},
		{"empty", "*", Options{}, "GET //"},
		{"allow 1", "*", keep, "GET /a//b"},
		{"allow 1", "GET /a/*/b", keep, "GET /a//b"},
		{"deny", "GET /a/b", keep, "GET /a//b"},
		{"allow 1", "GET /a/%2A", Options{}, "GET /a/*"},
		{"deny", "GET /a/%2A", Options{}, "GET /a/b"},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		d := parse(t, c.rules, c.o).Decide(method, target)
		got := map[Reason]string{None: "deny", Malformed: "malformed", EncodedSlash: "slash", EmptySegment: "empty", Trace: "trace"}[d.Reason]
		if d.Reason == ByRule {
			got = strings.ToLower(d.Verdict.String()) + " " + itoa(d.Line)
		}
		assert.Equal(t, c.want, got, "%q: %s", c.rules, c.request)
		assert.True(t, d.Verdict == acl.Deny || d.Reason == ByRule, "%q: %s", c.rules, c.request)
	}
}

// What servers read in different ways is refused, also where all is allowed.
func TestMalformed(t *testing.T) {
	const dot = "a dot segment"
	all := parse(t, "*", Options{EncodedSlash: true, EmptySegments: true})
	for path, want := range map[string]string{
		"": "it does not begin with a slash", "*": "it does not begin with a slash", "http://a/": "it does not begin with a slash",
		"/..": dot, "/.": dot, "/a/..": dot, "/a/../b": dot, "/v1/%2e%2e/admin": dot, "/%2E": dot, "/.%2e/a": dot,
		"/.;/a": dot, "/..;a=b/c": dot, "/..%3Ba/b": dot, "/a/..%2Fb": dot, "/a%2f..%2Fb": dot, "/a%2F.": dot, "/;/..": dot,
		"/a\\b": "a backslash", "/a%5cb": "an escaped backslash", "/..\\b": "a backslash",
		"/a#b": "a fragment", "/a b": "a space", "/a\tb": "a control byte", "/a\x7fb": "a control byte", "/\x00": "a control byte",
		"/é": "a byte that is not ASCII", "/a\xff": "a byte that is not ASCII",
		"/%00": "an escaped control byte", "/%1F": "an escaped control byte", "/%0d%0aHost:b": "an escaped control byte", "/%7f": "an escaped control byte",
		"/%": "an escape that is none", "/%4": "an escape that is none", "/%zz": "an escape that is none", "/a%2": "an escape that is none", "/%u002e": "an escape that is none",
		"/%ff": "escapes that are no UTF-8", "/%c0%ae%c0%ae/": "escapes that are no UTF-8", "/%c0%af": "escapes that are no UTF-8",
		"/%ed%a0%80": "escapes that are no UTF-8", "/%e2%84/%aa": "escapes that are no UTF-8",
		strings.Repeat("/a", 514): "more than 512 segments",
	} {
		for _, query := range []string{"", "?a"} {
			d := all.Decide("GET", path+query)
			assert.Equal(t, Decision{Reason: Malformed, Detail: want}, d, "%q", path+query)
		}
		assert.Equal(t, Malformed, (*Rules)(nil).Decide("GET", path).Reason)
	}
	for _, path := range []string{"/...", "/a..", "/..a", "/.a/b", "/%C3%A9", "/a%20b", "/%25", "/a;b", "/%3F%23", "/a?/../\\%"} {
		assert.Equal(t, acl.Allow, all.Decide("GET", path).Verdict, path)
	}
}

func TestParseProblems(t *testing.T) {
	for text, want := range map[string]string{
		"GET":               `rules:7: Bad request rule 'GET': it wants methods and a path, as in ` + "`GET,HEAD /v1/**`",
		"/v1/**":            `rules:7: Bad request rule '/v1/**': it wants methods and a path, as in ` + "`GET,HEAD /v1/**`",
		"!*":                `rules:7: Bad request rule '!*': it wants methods and a path, as in ` + "`GET,HEAD /v1/**`",
		"get /a":            `rules:7: Bad request rule 'get /a': methods are case-sensitive; write GET`,
		"GET, HEAD /a":      `rules:7: Bad request rule 'GET, HEAD /a': white space in the path; write %20`,
		"GET,,HEAD /a":      `rules:7: Bad request rule 'GET,,HEAD /a': an empty method; write them with commas and without blanks: ` + "`GET,HEAD`",
		"G(T /a":            `rules:7: Bad request rule 'G(T /a': a method that is none: 'G(T'`,
		"CONNECT /a":        `rules:7: Bad request rule 'CONNECT /a': CONNECT is never sent on; leave it out`,
		"GET a":             `rules:7: Bad request rule 'GET a': the path begins with a slash`,
		"GET https://a/":    `rules:7: Bad request rule 'GET https://a/': the path begins with a slash`,
		"GET /a/../b":       `rules:7: Bad request rule 'GET /a/../b': a dot segment, which no request has`,
		"GET /a%5Cb":        `rules:7: Bad request rule 'GET /a%5Cb': an escaped backslash`,
		"GET /a#b":          `rules:7: Bad request rule 'GET /a#b': a fragment, which no request has`,
		"GET /a**b":         `rules:7: Bad request rule 'GET /a**b': ` + "`**` is a segment of its own, or ends one",
		"GET /***":          `rules:7: Bad request rule 'GET /***': ` + "`**` is a segment of its own, or ends one",
		"GET /a//b":         `rules:7: Bad request rule 'GET /a//b': ` + "`//` is never let through without emptySegments: keep",
		"GET /a?é":          `rules:7: Bad request rule 'GET /a?é': the query has a byte that is not ASCII, which no request has`,
		"GET /a #@ owner=b": `rules:7: Bad request rule 'GET /a #@ owner=b': directives (#@) are for the rules of hosts; write a comment without the @`,
		"GET /a\rGET /b":    `rules:7: Bad request rule 'GET /a\rGET /b': a carriage return inside the line; end lines with LF or CRLF`,
		"*\nGET /a\n*":      "rules:7: `*` must be the last rule, and line 8 follows; move it to the end",
		"get /a\n\nx":       "rules:7: Bad request rule 'get /a': methods are case-sensitive; write GET\nrules:9: Bad request rule 'x': it wants methods and a path, as in `GET,HEAD /v1/**`",
	} {
		r, err := ParseNamed("rules", 7, text, Options{})
		assert.EqualError(t, err, want, "%q", text)
		assert.Nil(t, r)
	}
}

func TestParseText(t *testing.T) {
	r := parse(t, "# comment\r\n\r\n  GET   /a  # why\r\n!\tPOST /é/** #@ x-ours\r\n", Options{})
	require.Equal(t, 2, r.Len())
	assert.Equal(t, "GET   /a", r.Decide("GET", "/a").Text)
	d := r.Decide("POST", "/%C3%89/x")
	assert.Equal(t, Decision{Reason: ByRule, Rule: 2, Line: 4, Text: "!\tPOST /é/**"}, d)
	assert.Equal(t, "request rule in line 4 !\tPOST /é/**", d.String())
	assert.Zero(t, (*Rules)(nil).Len())
	assert.Equal(t, acl.Deny, (*Rules)(nil).Decide("GET", "/").Verdict)
}

func TestWarnings(t *testing.T) {
	for text, want := range map[string][]string{
		"GET /a\n!GET /b\nPOST /**": nil,
		"GET,HEAD /a/**\nGET /a/b?x\nGET /a/*/c\nGET /a%2Fb": {
			"line 2: request rule 'GET /a/b?x': it never decides: line 1, 'GET,HEAD /a/**', does before",
			"line 3: request rule 'GET /a/*/c': it never decides: line 1, 'GET,HEAD /a/**', does before"},
		"* /a/*\nGET /a/b\nGET /a/b%2Fc": {"line 2: request rule 'GET /a/b': it never decides: line 1, '* /a/*', does before"},
		"GET /a\n!GET /a":                {"line 2: request rule '!GET /a': it denies other spellings only: what it says is allowed by line 1, 'GET /a', before; put it in front"},
		"GET /a/*\n!GET /a/Secret":       {"line 2: request rule '!GET /a/Secret': it denies other spellings only: what it says is allowed by line 1, 'GET /a/*', before; put it in front"},
		"GET /Admin\n!GET /admin":        nil,
		"GET /a/b\n!GET /a/*":            nil,
		"GET /a/**\n!GET,POST /a/b":      {"line 2: request rule '!GET,POST /a/b': it denies other spellings only, by GET: what it says is allowed by line 1, 'GET /a/**', before; put it in front"},
		"GET,HEAD /a/**\n!* /a/b/**":     {"line 2: request rule '!* /a/b/**': it denies other spellings only, by GET,HEAD: what it says is allowed by line 1, 'GET,HEAD /a/**', before; put it in front"},
		"GET /a/**\n!POST /a/b":          nil,
		"!GET /a/b\nGET /a/**\n!* /a/b":  nil, // by GET it is denied in front
		"GET /a/**\n!GET /a//b":          nil, // which no request has that is allowed
		"!* /A\nGET /a":                  {"line 2: request rule 'GET /a': it never decides: line 1, '!* /A', does before"},
		"!GET /a\n* /a":                  nil,
		"!* /user/keys**\n*":             {"line 2: request rule '*': it allows all that nobody has thought of to deny; list what is allowed, and leave it out"},
		"GET /a\n!* /b\n*":               {"line 3: request rule '*': it allows all that nobody has thought of to deny; list what is allowed, and leave it out"},
		"!* /b\n* /**":                   {"line 2: request rule '* /**': it allows all that nobody has thought of to deny; list what is allowed, and leave it out"},
		"!* /b\nGET /**":                 nil,
		"*":                              nil,
	} {
		var got []string
		for _, w := range parse(t, text, Options{}).Warnings() {
			got = append(got, w.Error())
		}
		assert.Equal(t, want, got, "%q", text)
	}
	assert.Empty(t, (*Rules)(nil).Warnings())
}

// What decides alike is spelt alike.
func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"POST,GET,GET   /a%20b/%7e/*x**": "GET,POST /a%20b/~/*x*/**",
		"!*\t/\u00dcser/KEYS/**?a=*&b":   "!* /%C3%9Cser/keys/**?a=*&b",
		"GET /":                          "GET /",
		"GET /a%2Fb/%2A/**":              "GET /a%2Fb/%2A/**",
		"*":                              "*",
	} {
		got := slices.Collect(parse(t, text, Options{}).Canonical())
		assert.Equal(t, []string{want}, got, text)
		assert.Equal(t, got, slices.Collect(parse(t, got[0], Options{}).Canonical()), text)
	}
	assert.Empty(t, slices.Collect((*Rules)(nil).Canonical()))
}

// The common case allocates nothing.
func TestAllocDecide(t *testing.T) {
	r := parse(t, "!* /user/keys**\nGET /repos/acme/**\n*", Options{})
	assert.Zero(t, testing.AllocsPerRun(100, func() { r.Decide("GET", "/repos/acme/sluice/issues?page=2") }))
}

func BenchmarkDecide(b *testing.B) {
	r := parse(b, "!* /user/keys**\nPOST /repos/*/*/issues\nGET /repos/acme/**\n", Options{})
	b.ReportAllocs()
	for b.Loop() {
		r.Decide("GET", "/repos/acme/sluice/issues?page=2")
	}
}
