package acl_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
)

var update = flag.Bool("update", false, "write what Parse does into testdata/*.txtar")

// A case in testdata/*.txtar is a file with rules, named for what it shows, and
// behind it any of the files canonical, error and warnings.
func TestParse(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		comment, files := acltest.ParseTxtar(data)
		var out []acltest.File
		for len(files) > 0 {
			in, want := files[0], []acltest.File(nil)
			files = files[1:]
			for len(files) > 0 && isResult(files[0].Name) {
				want, files = append(want, files[0]), files[1:]
			}
			got := parseCase(in.Data)
			if !*update {
				t.Run(filepath.Base(path)+"/"+in.Name, func(t *testing.T) { require.Equal(t, want, got) })
			}
			out = append(append(out, in), got...)
		}
		if *update {
			require.NoError(t, os.WriteFile(path, acltest.FormatTxtar(comment, out), 0o666))
		}
	}
}

func isResult(name string) bool { return name == "canonical" || name == "error" || name == "warnings" }

func parseCase(text string) []acltest.File {
	p, err := acl.ParseNamed("rules.txt", text)
	if err != nil {
		return []acltest.File{{Name: "error", Data: err.Error() + "\n"}}
	}
	out := []acltest.File{{Name: "canonical", Data: p.String()}}
	if ws := p.Warnings(); len(ws) > 0 {
		var b strings.Builder
		for _, w := range ws {
			b.WriteString(w.Error() + "\n")
		}
		out = append(out, acltest.File{Name: "warnings", Data: b.String()})
	}
	return out
}

// What a text file cannot show well: bytes that are not visible.
func TestParseBytes(t *testing.T) {
	const bad = "Bad destination "
	for _, c := range []struct{ name, text, want string }{
		{"CRLF", "a.com\r\n!b.com # x\r\n\r\n", "a.com\n!b.com\n"},
		{"CR at the end of the text", "a.com\r", "a.com\n"},
		{"no line end", "a.com", "a.com\n"},
		{"byte-order mark", "\uFEFFa.com\n", "a.com\n"},
		{"byte-order mark before a comment", "\uFEFF# x\na.com\n", "a.com\n"},
		{"tabs", "\ta.com\t:80\n", "line 1: " + bad + `'a.com\t:80': white space inside a rule; write one rule a line, and a comment behind ` + "`#`"},
		{"tabs around", "\t! \ta.com\t# x\n", "!a.com\n"},
		{"anything in comments", "# \x00\xff\u2028\na.com # \x01 # b.com\n", "a.com\n"},
		{"hash inside, comment behind", "a#b#c # d # e", "line 1: " + bad + "'a#b#c': a comment needs white space in front of its `#`"},
		{"empty", "", ""},
		{"white space only", " \n\t\r\n", ""},
		// UTS 46 maps what cannot be seen to nothing, wherever it stands.
		{"byte-order mark inside", "a.com\n\uFEFFb.com\n", "a.com\nb.com\n"},
		{"zero-width space", "a\u200b.com", "a.com\n"},
		{"right-to-left override", "a\u202e.com", "line 1: " + bad + `'a\u202e.com': the invisible character U+202E; remove it`},
		{"NUL", "a\x00b.com", "line 1: " + bad + `'a\x00b.com': a NUL byte; is this a text file in UTF-8?`},
		{"UTF-16", "a\x00\n\x00", "line 1: " + bad + `'a\x00': a NUL byte; is this a text file in UTF-8?` + "\n" +
			"line 2: " + bad + `'\x00': a NUL byte; is this a text file in UTF-8?`},
		{"invalid UTF-8", "b\xfccher.de", "line 1: " + bad + `'b\xfccher.de': not UTF-8; save the text as UTF-8`},
		{"control byte", "a\x1b[2Jb.com", "line 1: " + bad + `'a\x1b[2Jb.com': the control character U+001B; remove it`},
		{"DEL", "a\x7f.com", "line 1: " + bad + `'a\x7f.com': the control character U+007F; remove it`},
		{"vertical tab", "a.com\vb.com", "line 1: " + bad + `'a.com\vb.com': the white space U+000B; write plain spaces`},
		{"no-break space", "a.com\u00a0", "line 1: " + bad + `'a.com\u00a0': the white space U+00A0; write plain spaces`},
		// A Macintosh text would otherwise be one long comment.
		{"CR alone", "# rules\r!a.com\r*\n", "line 1: " + bad + `'# rules\r!a.com\r*': a carriage return that ends no line; save the text with LF or CRLF line ends`},
		{"CR twice", "a.com\r\r\n", "line 1: " + bad + `'a.com\r': a carriage return that ends no line; save the text with LF or CRLF line ends`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := acl.Parse(c.text)
			if err != nil {
				require.Nil(t, p)
				require.Equal(t, c.want, err.Error())
				return
			}
			require.Equal(t, c.want, p.String())
		})
	}
}

func TestProblemsAreData(t *testing.T) {
	p, err := acl.ParseNamed("EGRESS_HTTP_PROXY_DESTINATION", "a.com\n  ! b com # why\n*\n10.0.0.300\n")
	require.Nil(t, p)
	var perr *acl.ParseError
	require.True(t, errors.As(err, &perr))
	require.Len(t, perr.Problems, 3)
	require.Equal(t, acl.Problem{
		Source: "EGRESS_HTTP_PROXY_DESTINATION", Line: 2, Text: "! b com",
		Msg: "Bad destination '! b com': white space inside a rule; write one rule a line, and a comment behind `#`",
	}, perr.Problems[0])
	require.Equal(t, 3, perr.Problems[1].Line)
	require.Contains(t, perr.Problems[1].Msg, "Wildcard must be last rule, if present")
	require.Equal(t, "10.0.0.300", perr.Problems[2].Text)
	require.Equal(t, "no line: x", acl.Problem{Source: "no line", Msg: "x"}.Error())
	require.Equal(t, "x", acl.Problem{Msg: "x"}.Error())
}

// Every bad line is in Problems; the text shows the first hundred and says so.
func TestManyProblems(t *testing.T) {
	_, err := acl.Parse(strings.Repeat("10.0.0.300\n", 100_000))
	var perr *acl.ParseError
	require.True(t, errors.As(err, &perr))
	require.Len(t, perr.Problems, 100_000)
	require.Equal(t, 100_000, perr.Problems[99_999].Line)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 101)
	require.Equal(t, "… and 99900 more problems", lines[100])
}

func TestLongTextIsCutVisibly(t *testing.T) {
	long := strings.Repeat("ü", 150) + "!"
	_, err := acl.Parse(long)
	require.ErrorContains(t, err, "Bad destination '"+strings.Repeat("ü", 100)+"'… (301 bytes): ")
	var perr *acl.ParseError
	require.True(t, errors.As(err, &perr))
	require.Equal(t, long, perr.Problems[0].Text)
}

// A long port set is neither cut nor slow.
func TestLongPortSet(t *testing.T) {
	var b strings.Builder
	for port := 1; port < 65535; port += 2 {
		fmt.Fprintf(&b, ",%d", port)
	}
	text := "a.com:" + b.String()[1:] + "\n"
	p, err := acl.Parse(text)
	require.NoError(t, err)
	require.Equal(t, text, p.String())
	for port := range 65535 {
		d := p.WithGuard(acl.Guard{Mode: acl.GuardOff}).DecideHost(nameTarget(t, "a.com", uint16(port)))
		require.Equal(t, port%2 == 1, d.Verdict == acl.Allow, port)
	}
}

func TestRules(t *testing.T) {
	p, err := acl.Parse("# head\n!*.Example.com # no\n\n 10.1.0.0/8:80,443-445\nA-*.test\nWWW\n*\n")
	require.NoError(t, err)
	var got []acl.Rule
	for r := range p.Rules() {
		got = append(got, r)
	}
	require.Equal(t, []acl.Rule{
		{Pos: 1, Line: 2, Text: "!*.Example.com", Deny: true, Form: acl.FormDomain, Name: "example.com"},
		{Pos: 2, Line: 4, Text: "10.1.0.0/8:80,443-445", Form: acl.FormAddr, Prefix: netip.MustParsePrefix("10.0.0.0/8"), Ports: []acl.PortRange{{From: 80, To: 80}, {From: 443, To: 445}}},
		{Pos: 3, Line: 5, Text: "A-*.test", Form: acl.FormGlob, Name: "a-*.test"},
		{Pos: 4, Line: 6, Text: "WWW", Form: acl.FormName, Name: "www"},
		{Pos: 5, Line: 7, Text: "*", Form: acl.FormStar},
	}, got)
	require.Equal(t, got[1], p.Rule(2))
	require.Equal(t, "10.0.0.0/8:80,443-445", got[1].Canonical())
	require.True(t, got[1].Wants(444))
	require.False(t, got[1].Wants(446))
	require.Equal(t, acl.Rule{}, p.Rule(0))
	require.Equal(t, acl.Rule{}, p.Rule(6))
	for range p.Rules() {
		break
	}
	require.Equal(t, 5, p.Len())
}

// The list that is deployed, and what squid's users write, are no cause for alarm.
func TestOrdinaryListsAreSilent(t *testing.T) {
	deployed, err := os.ReadFile("../deploy/rules.txt")
	require.NoError(t, err)
	for _, text := range []string{
		string(deployed),
		"!*.example.com\n!192.168.1.0/24\n192.168.2.1\n*\n", // the specification's
		"registry\n*.svc.cluster.local\n*.corp.example.com:443\n*.blob.core.windows.net\n*.amazonaws.com\nec2-*.compute.amazonaws.com\n",
		"!10.0.0.0/8\n!172.16.0.0/12\n*.example.com\n2001:db8::/32\n[2001:db8::1]:443\n*\n",
	} {
		p, err := acl.Parse(text)
		require.NoError(t, err)
		require.Empty(t, p.Warnings(), text)
	}
}
