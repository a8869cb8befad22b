package audittest

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
	"github.com/sluiceproxy/sluice/acl/audit"
)

// Lint draws a list and has audit lint it: what that says of dead and redundant rules is so on every target that brute
// force thinks of; and of what it does not say, the engine shows a target: a rule that is not dead decides something,
// and without one that is not redundant something is decided otherwise.
func Lint(t *rapid.T) {
	mode := rapid.SampledFrom([]string{"default", "strict", "off"}).Draw(t, "mode")
	s := NewSubject(t, acltest.Rules().Draw(t, "text"), mode, nil)
	r := audit.Lint(s.Policy, audit.LintOptions{})
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
		if a := s.Ref.DecideAddr(name, port, addr); a.Rule > 0 {
			decides[a.Rule] = true
		}
	})
	for rule := range s.Policy.Rules() {
		found := said[rule.Pos]
		dead, isDead := found[audit.NeverDecides]
		without := fewer(t, s, rule.Pos, "")
		d := audit.Compare(s.Policy, without.Policy, audit.Options{})
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
				require.Equal(t, s.Ref.DecideAddr(name, port, addr).Verdict, without.Ref.DecideAddr(name, port, addr).Verdict, "%s:%d=%s without %s", name, port, addr, rule.Text)
			})
		}
	}
}

// LintOverTime draws a list whose lines expire and want something of tunnels, and has audit lint it: what that says
// of dead and redundant rules is so on every day, and what is dead only today is no such rule.
func LintOverTime(t *rapid.T) {
	l := drawExpiring(t)
	p := l.parse(0)
	report := audit.Lint(p, audit.LintOptions{Now: expiringDay(1)})
	require.True(t, report.Complete(), report.Why)
	said := map[int]map[audit.Kind]audit.Finding{}
	for _, f := range report.Findings {
		if said[f.Rule.Pos] == nil {
			said[f.Rule.Pos] = map[audit.Kind]audit.Finding{}
		}
		said[f.Rule.Pos][f.Kind] = f
	}
	for r := range p.Rules() {
		found := said[r.Pos]
		later, isLater := found[audit.DecidesLater]
		_, never := found[audit.NeverDecides]
		switch {
		case never:
			l.requireDead(p, &r, 3)
		case isLater && later.Ports == nil:
			l.requireDead(p, &r, later.Until.Day())
		case isLater:
		default:
			require.False(t, l.dead(p, r.Pos, 1) && l.dead(p, r.Pos, 2) && l.dead(p, r.Pos, 3), "%s never decides, in\n%s", r.Text, l)
			_, redundant := found[audit.Redundant]
			_, inVain := found[audit.ExpiryInVain]
			needed := l.matters(p, r.Pos, 1) || l.matters(p, r.Pos, 2) || l.matters(p, r.Pos, 3)
			require.Equal(t, !needed, redundant || inVain, "%s could go, in\n%s", r.Text, l)
		}
	}
}

// expiring is a list whose lines expire on the first two days of a year.
type expiring struct {
	t     *rapid.T
	lines []string
	mode  acl.GuardMode
}

func drawExpiring(t *rapid.T) *expiring {
	mode := rapid.SampledFrom([]string{"default", "strict", "off"}).Draw(t, "mode")
	l := &expiring{t: t}
	for r := range NewSubject(t, acltest.Rules().Draw(t, "text"), mode, nil).Policy.Rules() {
		behind := rapid.SampledFrom([]string{"", "", "", " #@ expires=2027-01-01", " #@ expires=2027-01-02", " #@ protocol=tls", " #@ protocol=any"}).Draw(t, "behind")
		l.lines = append(l.lines, r.Canonical()+behind)
	}
	var err error
	l.mode, err = acl.ParseGuardMode(mode)
	require.NoError(t, err)
	return l
}

func expiringDay(d int) time.Time { return time.Date(2027, 1, d, 0, 0, 0, 0, time.UTC) }

func (l *expiring) String() string { return strings.Join(l.lines, "\n") }

// parse is the list without the line at skip, which counts from 1; 0: with all.
func (l *expiring) parse(skip int) *acl.Policy {
	lines := slices.Clone(l.lines)
	if skip > 0 {
		lines = slices.Delete(lines, skip-1, skip)
	}
	return l.policy(lines)
}

func (l *expiring) policy(lines []string) *acl.Policy {
	p, err := acl.Parse(strings.Join(lines, "\n"))
	require.NoError(l.t, err)
	return p.WithGuard(acl.Guard{Mode: l.mode})
}

// matters reports whether it makes a difference on a day that a rule is there.
func (l *expiring) matters(p *acl.Policy, pos, d int) bool {
	a, b := p.At(expiringDay(d)), l.parse(pos).At(expiringDay(d))
	return len(audit.Compare(a, b, audit.Options{}).Changes)+len(audit.CompareProtocols(a, b, audit.Options{}).Changes) > 0
}

// dead reports whether audit says of a rule that it decides nothing, of the list of a day in which nothing expires.
func (l *expiring) dead(p *acl.Policy, pos, d int) bool {
	var lines []string
	at := 0
	for r := range p.At(expiringDay(d)).Rules() {
		if r.Expired {
			continue
		}
		if lines = append(lines, r.Canonical()); r.Pos == pos {
			at = len(lines)
		}
	}
	return at > 0 && slices.ContainsFunc(audit.Lint(l.policy(lines), audit.LintOptions{}).Findings, func(f audit.Finding) bool {
		return f.Kind == audit.NeverDecides && f.Rule.Pos == at
	})
}

// requireDead fails unless a rule decides nothing until a day, or has expired.
func (l *expiring) requireDead(p *acl.Policy, r *acl.Rule, until int) {
	for d := 1; d <= until; d++ {
		expired := !r.Deny && !r.Expires.IsZero() && d > r.Expires.Day()
		require.True(l.t, expired || l.dead(p, r.Pos, d), "%s is not dead on day %d, in\n%s", r.Text, d, l)
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
func fewer(t *rapid.T, s Subject, pos int, instead string) Subject {
	var lines []string
	for r := range s.Policy.Rules() {
		if r.Pos == pos {
			lines = append(lines, instead)
		} else {
			lines = append(lines, r.Canonical())
		}
	}
	return NewSubject(t, strings.Join(lines, "\n"), s.mode, s.own)
}

// shows reports whether the engine decides some target by a rule: turned round, it changes something.
func shows(t *rapid.T, s Subject, rule acl.Rule) bool {
	turned := rule
	turned.Deny = !rule.Deny
	other := fewer(t, s, rule.Pos, turned.Canonical())
	d := audit.Compare(s.Policy, other.Policy, audit.Options{})
	return slices.ContainsFunc(d.Changes, func(c audit.Change) bool { return c.Old.Rule == rule.Pos || c.New.Rule == rule.Pos })
}

// decidesItself reports whether a rule for addresses decides about its first, or about one that embeds
// it, as deny rules do. Turned round such a rule may show nothing: the guard denies what it allows then,
// and an allow rule is not for what embeds its addresses.
func decidesItself(s Subject, rule acl.Rule) bool {
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
		return err == nil && s.Policy.DecideHost(t).Rule == rule.Pos
	})
}

// covers checks that the lines of a finding do cover its rule, and that none of them could be left away:
// without the other rules in front, the rule decides nothing, and without one of these it does.
func covers(t *rapid.T, s Subject, f audit.Finding) {
	only := func(skip int) acl.Rule {
		var lines []string
		for r := range s.Policy.Rules() {
			if r.Pos == f.Rule.Pos {
				break
			}
			if r.Pos != skip && slices.ContainsFunc(f.Lines, func(l acl.Rule) bool { return l.Pos == r.Pos }) {
				lines = append(lines, r.Canonical())
			}
		}
		p := NewSubject(t, strings.Join(append(lines, f.Rule.Canonical()), "\n"), "off", nil).Policy
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
