package acl_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

// TestTextsAreOneList: the texts decide as they would one behind the other, and
// each rule says which text, and which line of that, it is.
func TestTextsAreOneList(t *testing.T) {
	t.Parallel()
	texts := []acl.Text{
		{Source: "a.txt", Text: "# ours\n!a.test\n*.b.test"}, // no line end
		{Source: "", Text: ""},
		{Source: "b\n.txt", Text: "\uFEFF!*.b.test\r\n\r\nc.test\r\n"},
		{Source: "c.txt", Text: "10.0.0.0/8\n*\n"},
	}
	p, err := acl.ParseTexts(texts...)
	require.NoError(t, err)
	require.Len(t, p.Warnings(), 1, "a rule that never decides, across the texts")
	for target, want := range map[string]string{
		"a.test:80":       "deny line 2 of a.txt !a.test",
		"x.b.test:80":     "allow line 3 of a.txt *.b.test",
		"c.test:80":       "allow line 3 of b?.txt c.test",
		"10.1.1.1:80":     "allow line 1 of c.txt 10.0.0.0/8",
		"other.test:80":   "allow line 2 of c.txt *",
		"169.254.1.1:443": "deny guard link-local",
	} {
		tt, err := acl.ParseTarget(target)
		require.NoError(t, err)
		d := p.DecideAddr(tt, tt.Host.Addr())
		if tt.Host.IsName() {
			d = p.DecideAddr(tt, netip.MustParseAddr("198.51.100.3"))
		}
		require.Equal(t, want, d.Verdict.String()+" "+d.Reason(), target)
	}
	var rules []string
	for r := range p.Rules() {
		rules = append(rules, r.Source+" "+r.Text)
	}
	require.Equal(t, []string{"a.txt !a.test", "a.txt *.b.test", "b?.txt !*.b.test", "b?.txt c.test", "c.txt 10.0.0.0/8", "c.txt *"}, rules)
	one, err := acl.Parse(p.String())
	require.NoError(t, err)
	require.Equal(t, one.String(), p.String())

	// One text, and none, are as they were.
	p, err = acl.ParseTexts(acl.Text{Source: "a.txt", Text: "!a.test"})
	require.NoError(t, err)
	tt, err := acl.ParseTarget("a.test:80")
	require.NoError(t, err)
	require.Equal(t, "line 1 !a.test", p.DecideHost(tt).Reason())
	p, err = acl.ParseTexts()
	require.NoError(t, err)
	require.Equal(t, acl.Decision{}, p.DecideHost(tt))
}

// TestProblemsOfTexts: a problem names its text and the line in it, and where two
// texts contradict each other, both; they come in the order of the texts.
func TestProblemsOfTexts(t *testing.T) {
	t.Parallel()
	_, err := acl.ParseTexts(acl.Text{Source: "b.txt", Text: "\n*\n"}, acl.Text{Source: "a.txt", Text: "# none\n10.0.0.300\n\nok.test\n"}, acl.Text{Source: "c.txt", Text: "*\nlate.test\r\nx\ry"})
	require.EqualError(t, err, strings.Join([]string{
		"b.txt:2: Wildcard must be last rule, if present: line 2 of a.txt follows '*'; move the `*` to the end",
		"a.txt:2: Bad destination '10.0.0.300': " + "not an IPv4 address; write four numbers from 0 to 255 without leading zeros",
		"c.txt:1: Wildcard must be last rule, if present: line 2 follows '*'; move the `*` to the end",
		`c.txt:3: Bad destination 'x\ry': a carriage return that ends no line; save the text with LF or CRLF line ends`,
	}, "\n"))

	p, err := acl.ParseTexts(acl.Text{Source: "b.txt", Text: "a.test\n"}, acl.Text{Source: "a.txt", Text: "10.0.0.1/8\n\na.test\na.test\n*\n"}, acl.Text{Source: "c.txt", Text: "*"})
	require.NoError(t, err)
	var all []string
	for _, w := range p.Warnings() {
		all = append(all, w.Error())
	}
	require.Equal(t, []string{
		"a.txt:1: '10.0.0.1/8' has host bits set, and is read as 10.0.0.0/8",
		"a.txt:3: 'a.test' never decides: line 1 of b.txt, for the same destination, comes first",
		"a.txt:4: 'a.test' never decides: line 1 of b.txt, for the same destination, comes first",
		"c.txt:1: a repeated `*`; one is enough",
	}, all[:4], "%q", all)
}

// A deny rule of one text that an allow rule of another covers is warned of with both places,
// whatever else stands in lines of the same number.
func TestLateAcrossTexts(t *testing.T) {
	p, err := acl.ParseTexts(acl.Text{Source: "a.txt", Text: "10.0.0.1/8\n*.example.com\n"}, acl.Text{Source: "b.txt", Text: "!ads.example.com\n"})
	require.NoError(t, err)
	var all []string
	for _, w := range p.Warnings() {
		all = append(all, w.Error())
	}
	require.Contains(t, all, "b.txt:1: '!ads.example.com' comes too late: line 2 of a.txt, '*.example.com', allows all of it before; write it in front of that line")
}

// Text that stands inside of another keeps the lines of that.
func TestTextFromLine(t *testing.T) {
	p, err := acl.ParseTexts(acl.Text{Source: "f.yaml", Text: "a.test\n\n*\n", Line: 7})
	require.NoError(t, err)
	var lines []int
	for r := range p.Rules() {
		lines = append(lines, r.Line)
	}
	require.Equal(t, []int{7, 9}, lines)
	_, err = acl.ParseTexts(acl.Text{Source: "a", Text: "b.test\n"}, acl.Text{Source: "f.yaml", Text: "a.test\na b\n#@ end\nb.test\n", Line: 7})
	require.EqualError(t, err, "f.yaml:8: Bad destination 'a b': white space inside a rule; write one rule a line, and a comment behind `#`\n"+
		"f.yaml:9: '#@ end' must be the last line: line 10 follows; move it to the end")
}
