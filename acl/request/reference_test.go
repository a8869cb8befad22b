package request

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
)

// reasons are what the reference says for each.
var reasons = map[Reason]string{None: "none", ByRule: "rule", Malformed: "malformed", EncodedSlash: "encoded slash", EmptySegment: "empty segment"}

// What is decided is what regular expressions say.
func TestReference(t *testing.T) {
	seen := map[string]int{}
	allowed, warned := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		o := Options{EncodedSlash: rapid.Bool().Draw(t, "segment"), EmptySegments: rapid.Bool().Draw(t, "keep")}
		var rules []string
		for range rapid.IntRange(0, 4).Draw(t, "rules") {
			rules = append(rules, drawRule(t))
		}
		if rapid.IntRange(0, 4).Draw(t, "star") == 0 {
			rules = append(rules, "*")
		}
		r, err := Parse(strings.Join(rules, "\n"), o)
		if err != nil {
			t.Skip(err)
		}
		method := rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method")
		target := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"/", "/", "a", "b", "A", "%61", "%2F", "%2f", ";", "%3B", "*",
			"s", "%C5%BF", ".", "%2e", "k", "%E2%84%AA"}), 0, 8).Draw(t, "path"), "")
		target += rapid.SampledFrom([]string{"", "", "?", "?a", "?a/b"}).Draw(t, "query")
		allow, reason, line := acltest.Request(rules, o.EncodedSlash, o.EmptySegments, method, target)
		d := r.Decide(method, target)
		for _, w := range r.Warnings() {
			warned++
			if w.Line == d.Line && w.Text != "*" {
				t.Fatalf("%q: %s %s: %v", rules, method, target, w)
			}
		}
		same, err := Parse(strings.Join(slices.Collect(r.Canonical()), "\n"), o)
		require.NoError(t, err)
		again := same.Decide(method, target)
		require.Equal(t, []any{d.Verdict, d.Reason, d.Rule}, []any{again.Verdict, again.Reason, again.Rule}, "%q: %s %s", rules, method, target)
		seen[reason]++
		if allow {
			allowed++
		}
		require.Equal(t, []any{allow, reason, line}, []any{d.Verdict == acl.Allow, reasons[d.Reason], d.Line}, "%q: %s %s", rules, method, target)
	})
	for _, reason := range reasons {
		require.NotZero(t, seen[reason], "%s was never drawn", reason)
	}
	require.NotZero(t, allowed)
	require.NotZero(t, warned)
}

func drawRule(t *rapid.T) string {
	s := rapid.SampledFrom([]string{"GET", "POST", "GET,POST", "*", "!*", "!GET"}).Draw(t, "methods") + " "
	for range rapid.IntRange(1, 4).Draw(t, "segments") {
		s += "/" + rapid.SampledFrom([]string{"", "*", "**", "a", "b", "A", "a*", "*a", "*a*b*", "a**", "*%2F*", "a%2Fb", "a;b", ";", "%2A", "ſ", "S", "K*"}).Draw(t, "segment")
	}
	return s + rapid.SampledFrom([]string{"", "", "", "?", "?a", "?a*", "?*"}).Draw(t, "query")
}
