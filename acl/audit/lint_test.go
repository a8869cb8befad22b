package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
)

func TestFindings(t *testing.T) {
	now := time.Date(2027, 3, 15, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		rules string
		want  []string
	}{
		{"*.example.com\n!ads.example.com\n", []string{
			"never-decides 2: '!ads.example.com' never decides: line 1 (*.example.com) comes first; ads.example.com:443=198.51.100.1 is decided by line 1 *.example.com"}},
		{"a.example.com:80\na.example.com:443\n!a.example.com:80,443\n", []string{
			"never-decides 3: '!a.example.com:80,443' never decides: together these come first: line 1 (a.example.com:80), line 2 (a.example.com:443); a.example.com:80=198.51.100.1 is decided by line 1 a.example.com:80"}},
		{"0.0.0.0/1\n128.0.0.0/1\n!10.0.0.0/8\n", []string{ // of what embeds it, the deny rule decides
			"reaches-private 1: '0.0.0.0/1' allows addresses that are not globally reachable (special-purpose), such as 10.0.0.0:443",
			"resolves-all 1: because of '0.0.0.0/1' every name that no line is about is resolved, for it might have such an address: names can carry data out; write the names that are meant (so do line 2 (128.0.0.0/1))",
			"reaches-private 2: '128.0.0.0/1' allows addresses that are not globally reachable (special-purpose), such as 172.16.0.0:443",
			"redundant 3: '!10.0.0.0/8' could go: what it denies is denied without it too"}},
		{"a.example.com:80\n*.example.com:80,443 \n", []string{"redundant 1: 'a.example.com:80' could go: without it, all is decided alike by line 2 (*.example.com:80,443)"}},
	}
	tests = append(tests, lastingFindings...)
	for _, tt := range tests {
		p, err := acl.Parse(tt.rules)
		require.NoError(t, err)
		var got []string
		for _, f := range audit.Lint(p, audit.LintOptions{Now: now}).Findings {
			got = append(got, string(f.Kind)+" "+strings.TrimPrefix(p.Problem(f.Rule.Pos, f.Msg).Error(), "line "))
		}
		assert.Equal(t, tt.want, got, tt.rules)
	}
}

// With the guard off no rule is there for the sake of an address that may be the gateway's own.
func TestRedundantWithoutGuard(t *testing.T) {
	p, err := acl.Parse("!a.test\n11.0.0.4:81-65535\n*\n")
	require.NoError(t, err)
	redundant := func(p *acl.Policy) (got []string) {
		for _, f := range audit.Lint(p, audit.LintOptions{}).Findings {
			if f.Kind == audit.Redundant {
				got = append(got, f.Msg)
			}
		}
		return got
	}
	assert.Empty(t, redundant(p))
	assert.Len(t, redundant(p.WithGuard(acl.Guard{Mode: acl.GuardOff})), 1)
	assert.Contains(t, redundant(p.WithGuard(acl.Guard{Mode: acl.GuardOff}))[0], "'11.0.0.4:81-65535' could go: ")
}

// Names that strangers can register, by the whole Public Suffix List with its private section.
func TestOpenings(t *testing.T) {
	for rule, want := range map[string]string{
		"*.com":                       "'*.com' allows every name under com, whoever registers it; write the domains that are meant, such as *.example.com",
		"*.co.uk":                     "'*.co.uk' allows every name under co.uk, whoever registers it; write the domains that are meant, such as *.example.co.uk",
		"*.github.io:443":             "'*.github.io:443' allows every name under github.io, whoever registers it; write the domains that are meant, such as *.example.github.io",
		"*example.com":                "'*example.com' allows badexample.com too, which anybody can register; write *.example.com for the domain and every name below it",
		"example.*":                   "'example.*' allows names under every top-level domain, whoever registers them; write each name in full",
		"2001:db8::1:443":             "'2001:db8::1:443' is the address ending in 443, on any port; if that is a port, write brackets: [2001:db8::1]:443",
		"*.*.com":                     "'*.*.com' allows every name under com, whoever registers it; write the domains that are meant, such as *.example.com",
		"*-example.co.uk":             "'*-example.co.uk' allows bad-example.co.uk too, which anybody can register; write *.example.co.uk for the domain and every name below it",
		"www.example.*:443":           "'www.example.*:443' allows names under every top-level domain, whoever registers them; write each name in full",
		"*.*":                         "'*.*' allows names under every top-level domain, whoever registers them; write each name in full",
		"*-api.example.com":           "",
		"*.s3.*.amazonaws.com":        "",
		"*.internal":                  "",
		"db-*":                        "",
		"!*example.com":               "",
		"2001:db8::443":               "",
		"*.example.com":               "",
		"!*.com":                      "",
		"*.svc.cluster.local":         "",
		"ec2-*.compute.amazonaws.com": "",
		"*.corp":                      "",
		"*":                           "",
		"www.github.io":               "",
	} {
		p, err := acl.Parse(rule)
		require.NoError(t, err)
		fs := audit.Openings(p)
		if want == "" {
			assert.Empty(t, fs, rule)
			continue
		}
		if assert.Len(t, fs, 1, rule) {
			assert.Equal(t, want, fs[0].Msg)
			assert.True(t, fs[0].Opens)
			assert.Equal(t, acl.Allow, fs[0].Target.Decide(p).Verdict, "%s", fs[0].Target)
		}
	}
}

func TestExpiries(t *testing.T) {
	p, err := acl.Parse("a.test #@ expires=2027-03-10\n!b.test #@ expires=2027-03-10\nc.test #@ expires=2027-03-20\nd.test #@ expires=2028-01-01\ne.test #@ expires=2028-01-01\n*.e.test\n")
	require.NoError(t, err)
	now := time.Date(2027, 3, 15, 12, 0, 0, 0, time.UTC)
	var got []string
	for _, f := range audit.Lint(p.At(now), audit.LintOptions{Now: now}).Findings {
		got = append(got, p.Problem(f.Rule.Pos, f.Msg).Error())
	}
	require.Equal(t, []string{
		"line 1: 'a.test' has expired on 2027-03-10, and allows nothing any more: remove the line, or give it another day",
		"line 2: '!b.test' could go: what it denies is denied without it too",
		"line 2: '!b.test' has expired on 2027-03-10, and still denies: remove the line, or its expires=",
		"line 3: 'c.test' expires on 2027-03-20, in 5 days",
		"line 5: 'e.test' expires in vain: what it allows is allowed anyway by line 6 (*.e.test)",
	}, got)
}

func TestAssertionsAreDecided(t *testing.T) {
	for text, want := range map[string]string{
		"#@ assert deny 10.0.0.0/8\n!10.0.0.0/8\n*\n":            "",
		"#@ assert deny 10.0.0.0/8\n*.test\n!10.0.0.0/8\n*\n":    "line 1: 'assert deny 10.0.0.0/8' does not hold: line 2 *.test allows test:443=10.0.0.0",
		"#@ assert deny 10.0.0.0/8\n!10.0.0.0/9\n*\n":            "line 1: 'assert deny 10.0.0.0/8' does not hold: line 3 * allows x:443=10.128.0.0",
		"#@ assert deny 10.0.0.0/8\n64:ff9b::/96\n!10.0.0.0/8\n": "line 1: 'assert deny 10.0.0.0/8' does not hold: line 2 64:ff9b::/96 allows [64:ff9b::a00:0]:443",
		"#@ assert deny 169.254.169.254\n*\n":                    "",
		"#@ assert deny any:25\n*:1-24,26-65535\n":               "",
		"#@ assert deny any:25\n*.test:25\n*:443\n":              "line 1: 'assert deny any:25' does not hold: line 2 *.test:25 allows test:25=1.0.0.0",
		"#@ assert deny *.bad.test\n!*.bad.test\n*\n":            "",
		"#@ assert deny *.bad.test\n*.bad.test:8443\n":           "line 1: 'assert deny *.bad.test' does not hold: line 2 *.bad.test:8443 allows bad.test:8443=1.0.0.0",
		"#@ assert allow a.test\n!10.0.0.0/8\n*.test:443\n":      "",
		"#@ assert allow a.test\n!8.8.8.0/24\n*.test\n":          "line 1: 'assert allow a.test' does not hold: line 2 !8.8.8.0/24 denies a.test:443=8.8.8.0",
		"#@ assert allow a.test:80\n*.test:443\n":                "line 1: 'assert allow a.test:80' does not hold: default denies a.test:80=1.0.0.0",
		"#@ assert allow a.test=10.1.1.1\n!10.0.0.0/8\n*\n":      "line 1: 'assert allow a.test=10.1.1.1' does not hold: line 2 !10.0.0.0/8 denies a.test:443=10.1.1.1",
		"#@ assert allow a.test=10.1.1.1\n*\n":                   "",
		"#@ assert allow 10.0.0.0/8:443\n10.0.0.0/8\n":           "",
		"#@ assert allow *.test\n!x.y.test\n*.test\n":            "line 1: 'assert allow *.test' does not hold: line 2 !x.y.test denies x.y.test:443=1.0.0.0",
		"#@ assert allow any\n*\n":                               "",
	} {
		p, err := acl.Parse(text)
		require.NoError(t, err)
		bs := audit.CheckAssertions(p, audit.Options{})
		if want == "" {
			for _, b := range bs {
				t.Error(text, b.Problem().Error())
			}
			continue
		}
		if assert.Len(t, bs, 1, text) {
			assert.Equal(t, want, bs[0].Problem().Error())
		}
	}
	// What only an expiry has broken is told apart.
	p, err := acl.Parse("#@ assert allow a.test\n#@ assert deny b.test\na.test #@ expires=2027-01-01\nb.test\n")
	require.NoError(t, err)
	wrong, expired := audit.Verify(p, time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC), audit.Options{})
	require.Len(t, wrong, 1)
	require.Equal(t, 2, wrong[0].Assertion.Line)
	require.Len(t, expired, 1)
	require.Equal(t, 1, expired[0].Assertion.Line)
}

// The target of a line for names that never decides is one of which the earlier line decides, where there is any: not
// one that the guard denies, or a rule for addresses decides on.
func TestLintShowsWhatComesFirst(t *testing.T) {
	for _, first := range []string{"", "198.51.100.0/24", "0.0.0.0/0"} {
		p := parse(t, []string{first, "*.test", "!a.test"}).WithGuard(acl.Guard{Mode: acl.GuardStrict})
		dead := 0
		for _, f := range audit.Lint(p, audit.LintOptions{}).Findings {
			if f.Kind != audit.NeverDecides {
				continue
			}
			dead++
			require.Equal(t, "*.test", f.Target.Decide(p).Text, "%s", f.Msg)
		}
		require.Equal(t, 1, dead, first)
	}
}
