package audittest

import (
	"net/netip"
	"strings"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
	"github.com/sluiceproxy/sluice/acl/audit"
)

// wanted is a pair of what decides, with what it wants of tunnels.
type wanted struct {
	old, now int // -1: one of several names' rules
	was, is  string
}

// Protocols draws two lists whose rules want something of tunnels, and has audit compare that: what differs is
// found on every target that brute force thinks of, and each that is found does differ.
func Protocols(t *rapid.T) {
	mode := rapid.SampledFrom([]string{"default", "strict", "off"}).Draw(t, "mode")
	draw := func(text string) Subject {
		var lines []string
		for line := range strings.Lines(text) {
			p, err := acl.Parse(line)
			if err == nil && p.Len() == 1 && !strings.Contains(line, "#@") {
				line = p.Rule(1).Canonical() + rapid.SampledFrom([]string{"", "", " #@ protocol=tls", " #@ protocol=http", " #@ protocol=any"}).Draw(t, "protocol") + "\n"
			}
			lines = append(lines, line)
		}
		s := NewSubject(t, text, mode, nil)
		m, err := acl.ParseGuardMode(mode)
		require.NoError(t, err)
		p, err := acl.Parse(strings.Join(lines, ""))
		require.NoError(t, err)
		s.text, s.Policy = strings.Join(lines, ""), p.WithGuard(acl.Guard{Mode: m})
		return s
	}
	first := acltest.Rules().Draw(t, "old")
	second := acltest.Rules().Draw(t, "new")
	if rapid.IntRange(0, 2).Draw(t, "edit") > 0 {
		second = edit(t, first)
	}
	a, b := draw(first), draw(second)
	if rapid.Bool().Draw(t, "few") && first != second { // most lines want the same, and few are looked at
		a = draw(first)
		b = a
		b.Policy = redrawn(t, a)
		b.text = b.Policy.String()
	}
	judgeProtocols(t, a, b)
}

// redrawn is the policy of s with another directive behind one line.
func redrawn(t *rapid.T, s Subject) *acl.Policy {
	lines := strings.Split(strings.TrimSuffix(s.text, "\n"), "\n")
	i := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
	if before, _, ok := strings.Cut(lines[i], " #@"); ok {
		lines[i] = before
	} else if p, err := acl.Parse(lines[i]); err == nil && p.Len() == 1 && !strings.Contains(lines[i], "#") {
		lines[i] += " #@ protocol=ssh"
	}
	p, err := acl.Parse(strings.Join(lines, "\n"))
	require.NoError(t, err)
	return p.WithGuardOf(s.Policy)
}

func judgeProtocols(t *rapid.T, a, b Subject) {
	d := audit.CompareProtocols(a.Policy, b.Policy, audit.Options{})
	require.True(t, d.Complete(), "%s\nold:\n%s\nnew:\n%s", d.Why, a.text, b.text)
	key := func(x, y acl.Decision, port uint16) wanted {
		k := wanted{x.Rule, y.Rule, audit.Wants(a.Policy, x, port), audit.Wants(b.Policy, y, port)}
		switch oldName, nowName := a.byName(k.old), b.byName(k.now); {
		case oldName && !nowName:
			k.old = -1
		case nowName && !oldName:
			k.now = -1
		}
		return k
	}
	found := map[wanted][]acl.PortRange{}
	for _, c := range d.Changes {
		x, y := c.Target.Decide(a.Policy), c.Target.Decide(b.Policy)
		require.Equal(t, []acl.Verdict{acl.Allow, acl.Allow}, []acl.Verdict{x.Verdict, y.Verdict})
		k := key(x, y, c.Target.Port)
		require.Equal(t, []string{k.was, k.is}, []string{c.OldWants, c.NewWants})
		require.NotEqual(t, k.was, k.is)
		ports := c.Ports
		if ports == nil {
			ports = []acl.PortRange{{From: 1, To: 65535}}
		}
		require.True(t, inPorts(ports, c.Target.Port))
		found[k] = append(found[k], ports...)
	}
	names, addrs, ports := places(t, a, b)
	each(names, addrs, ports, func(name string, addr netip.Addr, port uint16) {
		host := acl.HostFromAddr(addr)
		if name != "" {
			var err error
			if host, err = acl.ParseHost(name); err != nil {
				return
			}
		}
		target := acl.Target{Host: host, Port: port}
		x, y := a.Policy.DecideAddr(target, addr), b.Policy.DecideAddr(target, addr)
		if x.Verdict != acl.Allow || y.Verdict != acl.Allow {
			return
		}
		if k := key(x, y, port); k.was != k.is {
			require.True(t, inPorts(found[k], port), "missed: %s=%s: %+v\nold:\n%s\nnew:\n%s", target, addr, k, a.text, b.text)
		} else {
			for f, ps := range found {
				require.False(t, f.old == k.old && f.now == k.now && k.old >= 0 && k.now >= 0 && inPorts(ps, port), "%s wants %s by both", target, k.is)
			}
		}
	})
}
