package acl_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// Owners and tickets are for the rules up to the next blank line; what stands behind a rule is the
// rule's, and stands in front of its block's.
func TestDirectives(t *testing.T) {
	p, err := acl.Parse(strings.Join([]string{
		`a.test`,
		`#@ owner=payments`,
		`b.test #@ ticket=T-1 expires=2027-03-01 protocol=tls # until the move`,
		`# a comment ends no block`,
		`c.test #@ owner="Ann and Bob" x-cost=3`,
		`#@ ticket=T-2`,
		`d.test`,
		" \t",
		`e.test #@ x-review says "nothing of note, owner=ops`,
		`#@ x-anything at=all`,
		`f.test # @ owner=nobody`,
		`#@ ticket=T-3`,
		`g.test`,
	}, "\n"))
	require.NoError(t, err)
	var got []acl.Directives
	for r := range p.Rules() {
		got = append(got, r.Directives)
		require.Equal(t, r, p.Rule(r.Pos))
	}
	require.Equal(t, []acl.Directives{
		{},
		{Owner: "payments", Ticket: "T-1", Expires: day("2027-03-01"), Protocol: "tls"},
		{Owner: "Ann and Bob"},
		{Owner: "payments", Ticket: "T-2"},
		{Owner: "ops"},
		{},
		{Ticket: "T-3"},
	}, got)
	require.Len(t, p.Warnings(), 1)
	require.Equal(t, 11, p.Warnings()[0].Line, "what has a space in it is a comment")

	p, err = acl.ParseTexts(acl.Text{Source: "a", Text: "#@ owner=a\n"}, acl.Text{Source: "b", Text: "x.test\n"})
	require.NoError(t, err)
	require.Equal(t, acl.Directives{}, p.Rule(1).Directives, "a block ends with its text")
	require.Len(t, p.Warnings(), 1)
	require.Equal(t, "a:1: no rule follows this directive before a blank line; write it right in front of its rules", p.Warnings()[0].Error())
}

func TestBadDirectives(t *testing.T) {
	for text, want := range map[string]string{
		"#@":                                    "",
		"#@ \n":                                 "",
		"#@ x-foo":                              "",
		"a.test #@ x-y=1 z \"q":                 "",
		"a.test #@ x-y=\"q":                     "",
		"a.test #@ owner=a x-y=q\"r\" z=\"w\"v": "",
		"a.test #@ x-y=\"q expires=soon":        `Bad directive 'a.test #@ x-y="q expires=soon': expires='soon' is no day; write one such as 2027-03-01`,
		"a.test #@ x-y z=\"q\tprotocol=no":      `Bad directive 'a.test #@ x-y z="q\tprotocol=no': protocol='no' is none of tls, http, ssh, any`,
		"#@ onwer=a":                            `Bad directive '#@ onwer=a': unknown directive 'onwer'; write owner=, ticket=, expires= or protocol=, and x-… for what is not Sluice's`,
		"#@ owner=a owner=b":                    `Bad directive '#@ owner=a owner=b': owner is given twice`,
		"#@ owner=a\n#@ owner=b\nx":             `line 2: Bad directive '#@ owner=b': owner is given for this block in line 1; a blank line ends a block`,
		"#@ owner=":                             `Bad directive '#@ owner=': owner has no value; write owner=word, or owner="some words"`,
		"#@ owner":                              `Bad directive '#@ owner': owner has no value; write owner=word, or owner="some words"`,
		`#@ owner="a`:                           `Bad directive '#@ owner="a': owner has a " without the one that ends it`,
		`#@ owner="a"b`:                         `Bad directive '#@ owner="a"b': owner has something behind the " that ends it; write a blank between`,
		`#@ owner=a"b"`:                         `Bad directive '#@ owner=a"b"': owner has a " inside of its value; write owner="some words"`,
		"#@ expires=2027-03-01":                 `Bad directive '#@ expires=2027-03-01': expires stands behind a rule only`,
		"#@ protocol=tls":                       `Bad directive '#@ protocol=tls': protocol stands behind a rule only`,
		"a.test #@ expires=2027-02-29":          `Bad directive 'a.test #@ expires=2027-02-29': expires='2027-02-29' is no day; write one such as 2027-03-01`,
		"a.test #@ protocol=TLS":                `Bad directive 'a.test #@ protocol=TLS': protocol='TLS' is none of tls, http, ssh, any`,
		"a.test #@ owner=a #@ expires=2027-01":  `Bad directive 'a.test #@ owner=a #@ expires=2027-01': a second #@ on the line; write all words behind the first`,
		"a.test #@ x-review=no expires=soon":    `Bad directive 'a.test #@ x-review=no expires=soon': expires='soon' is no day; write one such as 2027-03-01`,
		"a.test #@ assert deny b.test":          `Bad directive 'a.test #@ assert deny b.test': assert stands alone on its line`,
		"#@ assert permit a.test":               `Bad directive '#@ assert permit a.test': write assert allow TARGET, or assert deny TARGET`,
		"#@ assert deny":                        `Bad directive '#@ assert deny': write assert allow TARGET, or assert deny TARGET`,
		"#@ assert deny 10.0.0.1/8":             `Bad directive '#@ assert deny 10.0.0.1/8': target '10.0.0.1/8': host bits are set; write 10.0.0.0/8`,
		"#@ assert deny a.test=x":               `Bad directive '#@ assert deny a.test=x': target 'a.test=x': 'x' is no IP address`,
		"#@ assert deny *":                      `Bad directive '#@ assert deny *': target '*': write any for everything`,
		"#@ assert deny ftp://a.test":           `Bad directive '#@ assert deny ftp://a.test': target 'ftp://a.test': the scheme is none of http, https, ws, wss`,
		"#@ assert deny 10.0.0.0/8=10.0.0.1":    `Bad directive '#@ assert deny 10.0.0.0/8=10.0.0.1': target '10.0.0.0/8=10.0.0.1': an address has no addresses of its own; leave the = away`,
	} {
		_, err := acl.Parse(text)
		if want == "" {
			assert.NoError(t, err, "%q", text)
			continue
		}
		if !strings.HasPrefix(want, "line ") {
			want = "line 1: " + want
		}
		assert.EqualError(t, err, want, "%q", text)
	}
}

func TestAssertions(t *testing.T) {
	p, err := acl.ParseNamed("r", "#@ assert deny any:25 10.0.0.0/8 *.Test:80,443 # why\n*\n#@ assert allow A.test b.test:8443=192.0.2.1,::1 https://c.test/x [2001:db8::1]\n")
	require.NoError(t, err)
	any25, https := []acl.PortRange{{From: 25, To: 25}}, []acl.PortRange{{From: 443, To: 443}}
	require.Equal(t, []acl.Assertion{
		{Source: "r", Line: 1, Text: "assert deny any:25 10.0.0.0/8 *.Test:80,443", Targets: []acl.AssertTarget{
			{Text: "any:25", Form: acl.FormStar, Ports: any25},
			{Text: "10.0.0.0/8", Form: acl.FormAddr, Prefix: netip.MustParsePrefix("10.0.0.0/8")},
			{Text: "*.Test:80,443", Form: acl.FormDomain, Name: "test", Ports: []acl.PortRange{{From: 80, To: 80}, {From: 443, To: 443}}},
		}},
		{Source: "r", Line: 3, Text: "assert allow A.test b.test:8443=192.0.2.1,::1 https://c.test/x [2001:db8::1]", Allow: true, Targets: []acl.AssertTarget{
			{Text: "A.test", Form: acl.FormName, Name: "a.test", Ports: https},
			{Text: "b.test:8443=192.0.2.1,::1", Form: acl.FormName, Name: "b.test", Ports: []acl.PortRange{{From: 8443, To: 8443}},
				Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::1")}},
			{Text: "https://c.test/x", Form: acl.FormName, Name: "c.test", Ports: https},
			{Text: "[2001:db8::1]", Form: acl.FormAddr, Prefix: netip.MustParsePrefix("2001:db8::1/128"), Ports: https},
		}},
	}, p.Assertions())
}

// After its day an allow rule does not match any more, in any index; a deny rule stays. What is
// left decides as if the line were not there.
func TestExpiry(t *testing.T) {
	lines := []string{
		"a.test #@ expires=2027-03-01", "!a.test #@ expires=2027-01-01", "*.b.test #@ expires=2027-03-01", "x-*.c.test #@ expires=2027-03-02",
		"127.0.0.1 #@ expires=2027-03-01", "10.0.0.0/8", "* #@ expires=2027-03-03",
	}
	p, err := acl.Parse(strings.Join(lines, "\n"))
	require.NoError(t, err)
	p = p.WithGuard(acl.Guard{Own: []netip.Addr{netip.MustParseAddr("10.0.0.9")}})
	targets := []string{"a.test:80", "y.b.test:80", "x-1.c.test:80", "127.0.0.1:80", "10.0.0.1:80", "10.0.0.9:80", "other.test:80"}
	for at, gone := range map[string][]int{
		"2026-01-01T00:00:00Z":      nil,
		"2027-03-01T23:59:59Z":      nil,
		"2027-03-02T00:00:00Z":      {0, 2, 4},
		"2027-03-02T01:00:00+02:00": nil, // still the first, in UTC
		"2027-03-03T12:00:00Z":      {0, 2, 3, 4},
		"2099-01-01T00:00:00Z":      {0, 2, 3, 4, 6},
	} {
		now, err := time.Parse(time.RFC3339, at)
		require.NoError(t, err)
		left := append([]string{}, lines...)
		for _, i := range gone {
			left[i] = ""
		}
		want, err := acl.Parse(strings.Join(left, "\n"))
		require.NoError(t, err)
		want = want.WithGuard(acl.Guard{Own: []netip.Addr{netip.MustParseAddr("10.0.0.9")}})
		got := p.At(now)
		require.Equal(t, want.String(), got.String(), at)
		for _, s := range targets {
			tgt, err := acl.ParseTarget(s)
			require.NoError(t, err)
			w, g := want.DecideHost(tgt), got.DecideHost(tgt)
			require.Equal(t, []any{w.Verdict, w.Line, w.Guard}, []any{g.Verdict, g.Line, g.Guard}, "%s at %s", s, at)
		}
		require.Equal(t, len(gone) == 0, got == p, at)
		require.Equal(t, p.Len(), got.Len(), "lines keep their place")
		for r := range got.Rules() {
			require.Equal(t, left[r.Pos-1] == "", r.Expired)
		}
		require.Same(t, p.At(time.Time{}), p)
		require.Equal(t, p.String(), got.At(time.Time{}).String())
	}
	for _, tt := range [][2]string{{"2026-01-01", "2027-03-02"}, {"2027-03-02", "2027-03-03"}, {"2027-03-03", "2027-03-04"}, {"2027-03-04", ""}} {
		next, ok := p.NextExpiry(day(tt[0]))
		require.Equal(t, tt[1] != "", ok)
		if ok {
			require.Equal(t, day(tt[1]), next)
		}
	}
	require.Nil(t, (*acl.Policy)(nil).At(time.Time{}))
}

// What was probably meant for a directive is told; other comments are comments.
func TestNearDirectives(t *testing.T) {
	for text, near := range map[string]string{
		"a.com # @ expires=2020-01-01": "# @ expires=2020-01-01", "a.com ##@ expires=2020-01-01": "##@ expires=2020-01-01", "#  @\towner=x\na.com": `#  @\towner=x`,
		"a.com\n# @ assert deny b.com": "# @ assert deny b.com", "a.com\n##@end": "##@end",
		"a.com #@ expires=2020-01-01": "", "a.com # @team asks": "", "a.com # @ team": "", "#a.com #@ owner=x": "", "# @ the end": "", "a.com # mail x@owner=y": "",
	} {
		p, err := acl.Parse(text)
		require.NoError(t, err, text)
		var got []string
		for _, w := range p.Warnings() {
			got = append(got, w.Msg)
		}
		if near == "" {
			assert.Empty(t, got, text)
			continue
		}
		assert.Equal(t, []string{"'" + near + "' is a comment, and looks like a directive; that begins with #@ and nothing between"}, got, text)
	}
}
