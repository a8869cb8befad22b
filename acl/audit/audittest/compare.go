// Package audittest judges package audit by brute force: a walk over the lists that shares nothing with
// how audit finds what it says. Its properties are for rapid, and, by [rapid.MakeFuzz], for the fuzzer.
package audittest

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
	"github.com/sluiceproxy/sluice/acl/audit"
)

// A Subject is a policy and its reference, made of the same text and guard.
type Subject struct {
	text, mode string
	own        []netip.Addr
	off        *acltest.Reference // without a guard: what it hides

	Policy *acl.Policy
	Ref    *acltest.Reference
}

// NewSubject parses a text, and gives it the guard of that mode on a host with those addresses.
func NewSubject(t require.TestingT, text, mode string, own []netip.Addr) Subject {
	m, err := acl.ParseGuardMode(mode)
	require.NoError(t, err)
	p, err := acl.Parse(text)
	require.NoError(t, err)
	ref, err := acltest.New(text, mode, own)
	require.NoError(t, err)
	off, err := acltest.New(text, "off", nil)
	require.NoError(t, err)
	return Subject{text: text, mode: mode, own: own, off: off, Policy: p.WithGuard(acl.Guard{Mode: m, Own: own}), Ref: ref}
}

// DrawSubject draws a text and a guard.
func DrawSubject(t *rapid.T) Subject {
	g := acltest.Guard().Draw(t, "guard")
	return NewSubject(t, acltest.Rules().Draw(t, "text"), g.Mode, g.Own)
}

// decider is what decides, of both.
type decider struct {
	old, now     int
	oldG, nowG   string
	oldOK, nowOK bool
	// Of what the guard of one decides: the rules for the address.
	oldAddr, nowAddr int
}

// places are names, addresses and ports that share nothing with how audit finds its own.
func places(t *rapid.T, subjects ...Subject) (names []string, addrs []netip.Addr, ports []uint16) {
	labels := []string{"com", "a", "b", "x", "api-1", "api-", "k", "s3", "eu", "aws", "aab", "www", "q-q", "zz", "registry"}
	names = []string{"", "com", "a.com", "b.com", "x.a.com", "y.x.a.com", "registry", "s3.eu.aws.com", "k.s3.eu.aws.com", "s3.aws.com", "_d.b.com", "cafe.de", "www", "zz", "aab"}
	for range 12 {
		names = append(names, strings.Join(rapid.SliceOfN(rapid.SampledFrom(labels), 1, 5).Draw(t, "name"), "."))
		names = append(names, rapid.SampledFrom([]string{"zz.", "q.q.", "a-b.c."}).Draw(t, "more")+acltest.Name().Draw(t, "name"))
	}
	for _, s := range subjects {
		where := s.Ref.Where()
		for range 40 {
			addrs = append(addrs, rapid.SampledFrom(where).Draw(t, "where"))
		}
	}
	addrs = append(addrs, rapid.SliceOfN(acltest.Addr(), 10, 10).Draw(t, "addr")...)
	return names, addrs, []uint16{1, 80, 81, 443, 444}
}

// Compare draws two lists and has audit compare them: what differs is found, all of it, and nothing that does not,
// judged by a walk over the lists on many targets, with every gateway that has one of a few addresses.
func Compare(t *rapid.T) {
	known := rapid.Bool().Draw(t, "own known")
	g := acltest.GuardCase{Mode: rapid.SampledFrom([]string{"default", "strict", "off"}).Draw(t, "mode")}
	if known {
		g = acltest.Guard().Draw(t, "guard")
	}
	a := NewSubject(t, acltest.Rules().Draw(t, "old"), g.Mode, g.Own)
	text := acltest.Rules().Draw(t, "new")
	if rapid.IntRange(0, 2).Draw(t, "edit") > 0 { // a few lines of the old list
		text = edit(t, a.text)
	}
	b := NewSubject(t, text, g.Mode, g.Own)
	judge(t, a, b, known)
}

// edit changes some lines.
func edit(t *rapid.T, text string) string {
	lines := strings.Split(text, "\n")
	for range rapid.IntRange(1, 3).Draw(t, "edits") {
		i := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			lines = slices.Insert(lines, i, acltest.Rule().Draw(t, "rule"))
		case 1:
			lines = slices.Delete(lines, i, i+1)
		default:
			j := rapid.IntRange(0, len(lines)-1).Draw(t, "with")
			if !strings.HasPrefix(lines[i], "*:") && lines[i] != "*" && !strings.HasPrefix(lines[j], "*:") && lines[j] != "*" {
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
		if len(lines) == 0 {
			lines = []string{""}
		}
	}
	out := strings.Join(lines, "\n")
	if _, err := acl.Parse(out); err != nil {
		return text
	}
	return out
}

func judge(t *rapid.T, a, b Subject, known bool) {
	d := audit.Compare(a.Policy, b.Policy, audit.Options{Own: known})
	require.True(t, d.Complete(), d.Why)
	refs := func(s Subject, own netip.Addr) *acltest.Reference {
		if !own.IsValid() {
			return s.Ref
		}
		r, err := acltest.New(s.text, s.mode, append(slices.Clone(s.own), own))
		require.NoError(t, err)
		return r
	}
	key := func(name string, port uint16, addr netip.Addr, x, y acltest.Answer) decider {
		k := decider{old: a.off.DecideAddr(name, port, addr).Rule, now: b.off.DecideAddr(name, port, addr).Rule,
			oldG: guardSet(x.Guard), nowG: guardSet(y.Guard), oldOK: x.Verdict == "allow", nowOK: y.Verdict == "allow"}
		switch oldName, nowName := a.byName(k.old), b.byName(k.now); {
		case oldName && !nowName:
			k.old, k.oldG = -1, ""
		case nowName && !oldName:
			k.now, k.nowG = -1, ""
		case oldName && nowName && k.oldG != k.nowG:
			k.old, k.now, k.oldAddr, k.nowAddr = -1, -1, a.byAddr(port, addr), b.byAddr(port, addr)
		}
		return k
	}
	// Each is one, and no pair comes twice.
	found := map[decider][]acl.PortRange{}
	for _, c := range d.Changes {
		name := c.Target.Host.Name()
		x := refs(a, c.Target.Own).DecideAddr(name, c.Target.Port, c.Target.Addr)
		y := refs(b, c.Target.Own).DecideAddr(name, c.Target.Port, c.Target.Addr)
		require.NotEqual(t, x.Verdict, y.Verdict, "%s", c.Target)
		require.Equal(t, x.Rule, c.Old.Rule)
		require.Equal(t, y.Rule, c.New.Rule)
		require.Equal(t, y.Verdict == "allow", c.Opened())
		k := key(name, c.Target.Port, c.Target.Addr, x, y)
		ports := c.Ports
		if ports == nil {
			ports = []acl.PortRange{{From: 1, To: 65535}}
		}
		require.True(t, inPorts(ports, c.Target.Port))
		found[k] = append(found[k], ports...)
	}
	names, addrs, ports := places(t, a, b)
	owns := []netip.Addr{{}}
	if !known {
		owns = append(owns, rapid.SampledFrom(addrs).Draw(t, "own"), acltest.Addr().Draw(t, "own"))
	}
	for _, own := range owns {
		ra, rb := refs(a, own), refs(b, own)
		for _, addr := range addrs {
			for _, port := range ports {
				for _, name := range names {
					x, y := ra.DecideAddr(name, port, addr), rb.DecideAddr(name, port, addr)
					if x.Verdict == y.Verdict {
						continue
					}
					k := key(name, port, addr, x, y)
					require.True(t, inPorts(found[k], port), "missed: %s:%d=%s on a gateway with %s: %+v\nold:\n%s\nnew:\n%s", name, port, addr, own, k, a.text, b.text)
				}
			}
		}
	}
}

// byName reports whether a rule is one on names, or none.
func (s *Subject) byName(rule int) bool { return rule == 0 || s.Policy.Rule(rule).Form != acl.FormAddr }

// byAddr is the first rule for an address, 0 when there is none.
func (s *Subject) byAddr(port uint16, addr netip.Addr) int {
	if r := s.off.DecideAddr("", port, addr).Rule; !s.byName(r) {
		return r
	}
	return 0
}

func guardSet(s string) string {
	if s != "" {
		return "guard"
	}
	return ""
}

func inPorts(rs []acl.PortRange, port uint16) bool {
	return slices.ContainsFunc(rs, func(r acl.PortRange) bool { return r.From <= port && port <= r.To })
}
