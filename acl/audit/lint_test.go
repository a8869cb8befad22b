package audit_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
	"github.com/sluiceproxy/sluice/acl/audit"
)

// What lint says of dead and redundant rules is so on every target that brute force thinks of; and of
// what it does not say, the engine shows a target: a rule that is not dead decides something, and
// without one that is not redundant something is decided otherwise.
func TestLintJudgedByBruteForce(t *testing.T) { rapid.Check(t, lintProperty) }

func FuzzLint(f *testing.F) { f.Fuzz(rapid.MakeFuzz(lintProperty)) }

func lintProperty(t *rapid.T) {
	mode := rapid.SampledFrom([]string{"default", "strict", "off"}).Draw(t, "mode")
	s := newSubject(t, acltest.Rules().Draw(t, "text"), mode, nil)
	r := audit.Lint(s.p, audit.LintOptions{})
	require.True(t, r.Complete(), r.Why)
	said := map[int]map[audit.Kind]audit.Finding{}
	for _, f := range r.Findings {
		if said[f.Rule.Pos] == nil {
			said[f.Rule.Pos] = map[audit.Kind]audit.Finding{}
		}
		said[f.Rule.Pos][f.Kind] = f
	}
	names, addrs, ports := places(t, s)
	decides := map[int]bool{}
	each(names, addrs, ports, func(name string, addr netip.Addr, port uint16) {
		if a := s.ref.DecideAddr(name, port, addr); a.Rule > 0 {
			decides[a.Rule] = true
		}
	})
	for rule := range s.p.Rules() {
		found := said[rule.Pos]
		dead, isDead := found[audit.NeverDecides]
		without := fewer(t, s, rule.Pos, "")
		d := audit.Compare(s.p, without.p, audit.Options{})
		require.True(t, d.Complete())
		if isDead {
			require.False(t, decides[rule.Pos], "%s decides, in\n%s", rule.Text, s.text)
			covers(t, s, dead)
			continue
		}
		if rule.Form != acl.FormStar {
			require.True(t, decides[rule.Pos] || decidesItself(s, rule) || shows(t, s, rule), "%s never decides, in\n%s", rule.Text, s.text)
		}
		_, could := found[audit.Redundant]
		require.Equal(t, len(d.Changes) == 0, could, "%s could go: %v, in\n%s", rule.Text, could, s.text)
		if could {
			each(names, addrs, ports, func(name string, addr netip.Addr, port uint16) {
				require.Equal(t, s.ref.DecideAddr(name, port, addr).Verdict, without.ref.DecideAddr(name, port, addr).Verdict, "%s:%d=%s without %s", name, port, addr, rule.Text)
			})
		}
	}
}

func each(names []string, addrs []netip.Addr, ports []uint16, f func(string, netip.Addr, uint16)) {
	for _, a := range addrs {
		for _, p := range ports {
			for _, n := range names {
				f(n, a, p)
			}
		}
	}
}

// fewer is s with another line in the place of a rule.
func fewer(t *rapid.T, s subject, pos int, instead string) subject {
	var lines []string
	for r := range s.p.Rules() {
		if r.Pos == pos {
			lines = append(lines, instead)
		} else {
			lines = append(lines, r.Canonical())
		}
	}
	return newSubject(t, strings.Join(lines, "\n"), s.mode, s.own)
}

// shows reports whether the engine decides some target by a rule: turned round, it changes something.
func shows(t *rapid.T, s subject, rule acl.Rule) bool {
	turned := rule
	turned.Deny = !rule.Deny
	other := fewer(t, s, rule.Pos, turned.Canonical())
	d := audit.Compare(s.p, other.p, audit.Options{})
	return slices.ContainsFunc(d.Changes, func(c audit.Change) bool { return c.Old.Rule == rule.Pos || c.New.Rule == rule.Pos })
}

// decidesItself reports whether a rule for addresses decides about its first, or about one that embeds
// it, as deny rules do. Turned round such a rule may show nothing: the guard denies what it allows then,
// and an allow rule is not for what embeds its addresses.
func decidesItself(s subject, rule acl.Rule) bool {
	if rule.Form != acl.FormAddr {
		return false
	}
	port := uint16(443)
	if rule.Ports != nil {
		port = rule.Ports[0].From
	}
	first := rule.Prefix.Addr()
	probes := []netip.Addr{first}
	if first.Is4() {
		nat64 := netip.MustParseAddr("64:ff9b::").As16() // RFC 6052 section 2.1
		copy(nat64[12:], first.AsSlice())
		probes = append(probes, netip.AddrFrom16(nat64))
	}
	return slices.ContainsFunc(probes, func(a netip.Addr) bool {
		t, err := acl.ParseTarget(netip.AddrPortFrom(a, port).String())
		return err == nil && s.p.DecideHost(t).Rule == rule.Pos
	})
}

// covers checks that the lines of a finding do cover its rule, and that none of them could be left away:
// without the other rules in front, the rule decides nothing, and without one of these it does.
func covers(t *rapid.T, s subject, f audit.Finding) {
	only := func(skip int) acl.Rule {
		var lines []string
		for r := range s.p.Rules() {
			if r.Pos == f.Rule.Pos {
				break
			}
			if r.Pos != skip && slices.ContainsFunc(f.Lines, func(l acl.Rule) bool { return l.Pos == r.Pos }) {
				lines = append(lines, r.Canonical())
			}
		}
		p := newSubject(t, strings.Join(append(lines, f.Rule.Canonical()), "\n"), "off", nil).p
		for _, g := range audit.Lint(p, audit.LintOptions{}).Findings {
			if g.Kind == audit.NeverDecides && g.Rule.Pos == p.Len() {
				return g.Rule
			}
		}
		return acl.Rule{}
	}
	if len(f.Lines) == 0 || s.mode != "off" {
		return // the guard has a part in it
	}
	require.NotZero(t, only(0).Pos, "%v do not cover %s", f.Lines, f.Rule.Text)
	for _, l := range f.Lines {
		require.Zero(t, only(l.Pos).Pos, "%s could be left away of what covers %s, in\n%s", l.Text, f.Rule.Text, s.text)
	}
}

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
