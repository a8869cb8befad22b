package acl_test

import (
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
)

// TestMain has rapid try more than its hundred cases, which are cheap here;
// -rapid.checks still has the last word.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "1000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// subject is a policy and its reference, made of the same text and guard.
type subject struct {
	text string
	p    *acl.Policy
	ref  *acltest.Reference
}

func drawSubject(t *rapid.T) subject {
	text := acltest.Rules().Draw(t, "text")
	g := acltest.Guard().Draw(t, "guard")
	mode, err := acl.ParseGuardMode(g.Mode)
	require.NoError(t, err)
	p, err := acl.Parse(text)
	require.NoError(t, err)
	ref, err := acltest.New(text, g.Mode, g.Own)
	require.NoError(t, err)
	return subject{text, p.WithGuard(acl.Guard{Mode: mode, Own: g.Own}), ref}
}

func nameTarget(t require.TestingT, name string, port uint16) acl.Target {
	h, err := acl.ParseHost(name)
	require.NoError(t, err)
	return acl.Target{Host: h, Port: port}
}

func answer(d acl.Decision) acltest.Answer {
	a := acltest.Answer{Verdict: d.Verdict.String(), Rule: d.Rule}
	if d.Kind == acl.ReasonGuard {
		a.Guard = d.Guard.String()
	}
	return a
}

// The compiled policy and the walk over the list give the same verdict, by the
// same rule, for every address.
func TestAddressesDecidedAsByReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSubject(t)
		port := acltest.Port().Draw(t, "port")
		name := acltest.Name().Draw(t, "name")
		addrs := append(s.ref.Where(), rapid.SliceOfN(acltest.Addr(), 1, 8).Draw(t, "addrs")...)
		for _, a := range addrs {
			got := s.p.DecideAddr(nameTarget(t, name, port), a)
			require.Equal(t, s.ref.DecideAddr(name, port, a), answer(got), "%s at %s:%d", name, a, port)
			lit := acl.Target{Host: acl.HostFromAddr(a), Port: port}
			got = s.p.DecideAddr(lit, a)
			require.Equal(t, s.ref.DecideAddr("", port, a), answer(got), "%s:%d", a, port)
			require.Equal(t, got, s.p.DecideHost(lit))
		}
	})
}

// A name is looked up exactly when addresses differ; if they do not, its
// verdict is theirs.
func TestNamesDecidedAsByReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSubject(t)
		port := acltest.Port().Draw(t, "port")
		name := acltest.Name().Draw(t, "name")
		got := s.p.DecideHost(nameTarget(t, name, port))
		require.Equal(t, s.ref.DecideHost(name, port).Verdict, got.Verdict.String(), "%s:%d", name, port)
		if got.Verdict == acl.NeedAddr {
			return
		}
		for _, a := range s.ref.Where() {
			require.Equal(t, got.Verdict, s.p.DecideAddr(nameTarget(t, name, port), a).Verdict, "%s at %s:%d", name, a, port)
		}
	})
}

// The canonical text decides alike, and is its own canonical text.
func TestCanonicalTextDecidesAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSubject(t)
		again, err := acl.Parse(s.p.String())
		require.NoError(t, err)
		require.Equal(t, s.p.String(), again.String())
		require.Equal(t, s.p.Len(), again.Len())
		p, err := acl.Parse(s.text)
		require.NoError(t, err)
		tgt := nameTarget(t, acltest.Name().Draw(t, "name"), acltest.Port().Draw(t, "port"))
		require.Equal(t, answer(p.DecideHost(tgt)), answer(again.DecideHost(tgt)))
		a := acltest.Addr().Draw(t, "addr")
		require.Equal(t, answer(p.DecideAddr(tgt, a)), answer(again.DecideAddr(tgt, a)))
	})
}

// Rules behind never change what a rule in front decided.
func TestAppendedRulesComeLater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head := strings.Join(rapid.SliceOfN(acltest.Rule(), 0, 8).Draw(t, "head"), "\n")
		tail := acltest.Rules().Draw(t, "tail")
		p, err := acl.Parse(head)
		require.NoError(t, err)
		q, err := acl.Parse(head + "\n" + tail)
		require.NoError(t, err)
		off := acl.Guard{Mode: acl.GuardOff} // what lifts the guard may stand anywhere
		p, q = p.WithGuard(off), q.WithGuard(off)
		tgt := nameTarget(t, acltest.Name().Draw(t, "name"), acltest.Port().Draw(t, "port"))
		a := acltest.Addr().Draw(t, "addr")
		if d := p.DecideAddr(tgt, a); d.Kind == acl.ReasonRule {
			require.Equal(t, d, q.DecideAddr(tgt, a))
		}
	})
}

// The spelling of a request never changes its decision.
func TestSpellingChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSubject(t)
		name := acltest.Name().Draw(t, "name")
		port := acltest.Port().Draw(t, "port")
		want := nameTarget(t, name, port)
		for _, spelling := range []string{strings.ToUpper(name), name + ".", strings.ToUpper(name) + "."} {
			require.Equal(t, want, nameTarget(t, spelling, port))
		}
		a := acltest.Addr().Draw(t, "addr")
		d := s.p.DecideAddr(want, a)
		if a.Is4() {
			mapped := netip.AddrFrom16(a.As16())
			require.Equal(t, d, s.p.DecideAddr(want, mapped))
			require.Equal(t, nameTarget(t, a.String(), port), nameTarget(t, mapped.String(), port))
			require.Equal(t, nameTarget(t, a.String(), port), nameTarget(t, "["+mapped.String()+"]", port))
		}
	})
}
