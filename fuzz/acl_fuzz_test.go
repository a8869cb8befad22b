package fuzz

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
)

var guardModes = []string{"default", "strict", "off"}

// addGoldens adds every text of rules that the golden tests of acl hold.
func addGoldens(f *testing.F, add func(text string)) {
	paths, err := filepath.Glob("../acl/testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no goldens: %v", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		_, files := acltest.ParseTxtar(data)
		for _, file := range files {
			add(file.Data)
		}
	}
}

// FuzzRules: whatever text is accepted decides as a walk over its rules does,
// before and after the look-up, and so does its canonical text; of what is
// refused nothing is returned, and every problem can be shown.
func FuzzRules(f *testing.F) {
	addGoldens(f, func(text string) {
		f.Add(text, "www.example.com:443", "192.0.2.10", "10.0.0.5", uint8(0))
	})
	f.Add("!0.0.0.0/1\n!128.0.0.0/1\n0.0.0.0/0:80\n*", "a.b:80", "64:ff9b::a00:1", "10.0.0.1", uint8(1))
	f.Fuzz(func(t *testing.T, text, hostport, addr, own string, mode uint8) {
		p, err := acl.Parse(text)
		if err != nil {
			checkRefusal(t, p, err)
			return
		}
		tgt, err := acl.ParseTarget(hostport)
		if err != nil {
			return
		}
		g := acltest.GuardCase{Mode: guardModes[int(mode)%len(guardModes)]}
		if a, err := netip.ParseAddr(own); err == nil {
			g.Own = append(g.Own, a)
		}
		a, _ := netip.ParseAddr(addr)
		compare(t, p, text, g, tgt, a)
	})
}

func checkRefusal(t *testing.T, p *acl.Policy, err error) {
	var perr *acl.ParseError
	if p != nil || !errors.As(err, &perr) || len(perr.Problems) == 0 {
		t.Fatalf("refused with %v, %v", p, err)
	}
	line := 0
	for _, problem := range perr.Problems {
		if problem.Line < max(line, 1) || !utf8.ValidString(problem.Error()) || strings.ContainsAny(problem.Error(), "\r\n\x00\x1b") {
			t.Fatalf("problem %+v behind line %d", problem, line)
		}
		line = problem.Line
	}
}

// compare holds the policy of text against the reference.
func compare(t testingT, p *acl.Policy, text string, g acltest.GuardCase, tgt acl.Target, a netip.Addr) {
	canonical := p.String()
	again, err := acl.Parse(canonical)
	if err != nil || again.String() != canonical || again.Len() != p.Len() {
		t.Fatalf("%q becomes %q, then %v %v", text, canonical, again, err)
	}
	if p.Len() > 60 {
		return // the reference is slow
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		text = canonical // the reference knows no IDNA
	}
	ref, err := acltest.New(text, g.Mode, g.Own)
	if err != nil {
		t.Fatalf("%v", err)
	}
	mode, err := acl.ParseGuardMode(g.Mode)
	if err != nil {
		t.Fatalf("%v", err)
	}
	guard := acl.Guard{Mode: mode, Own: g.Own}
	p, again = p.WithGuard(guard), again.WithGuard(guard)
	name, port := tgt.Host.Name(), tgt.Port
	for _, x := range append(ref.Where(), a, tgt.Host.Addr()) {
		if !x.IsValid() || x.Zone() != "" || tgt.Host.IsAddr() && x.Unmap() != tgt.Host.Addr() {
			if d := p.DecideAddr(tgt, x); d != (acl.Decision{}) {
				t.Fatalf("%v at %v: %v", tgt, x, d)
			}
			continue
		}
		want, got := ref.DecideAddr(name, port, x), p.DecideAddr(tgt, x)
		if answerOf(got) != want || answerOf(again.DecideAddr(tgt, x)) != want {
			t.Fatalf("%q, guard %v: %v at %v: reference %+v, policy %+v, canonical %+v",
				text, g, tgt, x, want, got, again.DecideAddr(tgt, x))
		}
	}
	got := p.DecideHost(tgt)
	if tgt.Host.IsAddr() {
		if got != p.DecideAddr(tgt, tgt.Host.Addr()) {
			t.Fatalf("%q: %v: %+v", text, tgt, got)
		}
		return
	}
	// The reference tries every kind of address; so DecideHost, where it is
	// not NeedAddr, is what DecideAddr says of each.
	if want := ref.DecideHost(name, port); want.Verdict != got.Verdict.String() || again.DecideHost(tgt).Verdict != got.Verdict {
		t.Fatalf("%q, guard %v: %v: reference %+v, policy %+v, canonical %+v", text, g, tgt, want, got, again.DecideHost(tgt))
	}
}

// testingT is what testing.T and rapid.T have in common.
type testingT interface {
	Fatalf(format string, args ...any)
}

func answerOf(d acl.Decision) acltest.Answer {
	a := acltest.Answer{Verdict: d.Verdict.String(), Rule: d.Rule}
	if d.Kind == acl.ReasonGuard {
		a.Guard = d.Guard.String()
	}
	return a
}

// FuzzGeneratedRules is FuzzRules for texts of rules that meet often.
func FuzzGeneratedRules(f *testing.F) {
	r := rand.NewChaCha8([32]byte{})
	for range 32 {
		b := make([]byte, 2048) // rapid draws from it
		if _, err := r.Read(b); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		text := acltest.Rules().Draw(t, "text")
		p, err := acl.Parse(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		h, err := acl.ParseHost(acltest.Name().Draw(t, "name"))
		if err != nil {
			t.Fatal(err)
		}
		a := acltest.Addr().Draw(t, "addr")
		if rapid.IntRange(0, 3).Draw(t, "literal") == 0 {
			h = acl.HostFromAddr(a)
		}
		tgt := acl.Target{Host: h, Port: acltest.Port().Draw(t, "port")}
		compare(t, p, text, acltest.Guard().Draw(t, "guard"), tgt, a)
	}))
}

// FuzzAppendedRules: rules behind never change what a rule in front decided.
func FuzzAppendedRules(f *testing.F) {
	addGoldens(f, func(text string) { f.Add(text, "*", "www.example.com:443", "192.0.2.10") })
	f.Add("10.0.0.0/8:80", "!10.0.0.0/8\n10.0.0.0/8:80", "a.b:80", "10.1.2.3")
	f.Fuzz(func(t *testing.T, head, tail, hostport, addr string) {
		p, err := acl.Parse(head)
		if err != nil {
			return
		}
		q, err := acl.Parse(head + "\n" + tail)
		if err != nil {
			return
		}
		tgt, err := acl.ParseTarget(hostport)
		if err != nil {
			return
		}
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return
		}
		off := acl.Guard{Mode: acl.GuardOff} // what lifts the guard may stand anywhere
		p, q = p.WithGuard(off), q.WithGuard(off)
		if d := p.DecideAddr(tgt, a); d.Kind == acl.ReasonRule && d != q.DecideAddr(tgt, a) {
			t.Fatalf("%q decides %+v, with %q behind it %+v", head, d, tail, q.DecideAddr(tgt, a))
		}
	})
}

// FuzzTarget: a target has one spelling that reads back as itself, which other
// spellings become; what is refused is nothing; and a rule that spells the host
// the same way matches it.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"www.example.com:443", "WWW.Example.COM.:443", "192.0.2.1:80", "[2001:DB8::1]:80", "[::ffff:192.0.2.1]:80",
		"[::ffff:c000:201]:80", "127.1:80", "0x7f000001:80", "2130706433:80", "0177.0.0.1:80", "10.0.0.256:80",
		"example.0x:80", "user@example.com:80", "[fe80::1%25eth0]:80", "example.com:0", "example.com:080",
		"b\u00fccher.example:80", "example.com..:80", "[::1]:80:80", "::1:80", "1.2.3.4.:65535", "a_b.-c:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tgt, err := acl.ParseTarget(s)
		if err != nil {
			if tgt != (acl.Target{}) || !utf8.ValidString(err.Error()) {
				t.Fatalf("%q: %v, %v", s, tgt, err)
			}
			return
		}
		for _, spelling := range spellings(tgt) {
			if again, err := acl.ParseTarget(spelling); err != nil || again != tgt {
				t.Fatalf("%q is %v, but %q is %v, %v", s, tgt, spelling, again, err)
			}
		}
		if d, err := acl.ParseTargetDefault(s, 1); err != nil || d != tgt {
			t.Fatalf("%q: %v with a default port: %v", s, d, err)
		}
		host := s[:strings.LastIndexByte(s, ':')]
		if h, err := acl.ParseHost(host); err != nil || h != tgt.Host {
			t.Fatalf("%q is %v, %v", host, h, err)
		}
		p, err := acl.Parse("!" + host + "\n*")
		if err != nil {
			t.Fatalf("%q is a host, but no rule: %v", host, err)
		}
		if d := p.DecideHost(tgt); d.Verdict != acl.Deny || d.Rule != 1 {
			t.Fatalf("rule %q does not match %v: %+v", host, tgt, d)
		}
	})
}

// spellings returns other ways to write a target.
func spellings(tgt acl.Target) []string {
	s := tgt.String()
	colon := strings.LastIndexByte(s, ':')
	out := []string{s, strings.ToUpper(s)}
	if tgt.Host.IsName() || tgt.Host.Addr().Is4() {
		out = append(out, s[:colon]+"."+s[colon:])
	}
	if tgt.Host.IsAddr() && tgt.Host.Addr().Is4() {
		out = append(out, "[::ffff:"+s[:colon]+"]"+s[colon:], "[::FFFF:"+s[:colon]+"]"+s[colon:])
	}
	return out
}
