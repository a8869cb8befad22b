package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func mustParse(t testing.TB, rules ...string) *Policy {
	t.Helper()
	p, err := Parse(strings.Join(rules, "\n"))
	require.NoError(t, err)
	return p
}

func mustTarget(t testing.TB, s string) Target {
	t.Helper()
	tgt, err := ParseTarget(s)
	require.NoError(t, err)
	return tgt
}

// Every form of rule lands in the index that is made for it.
func TestIndexOfForm(t *testing.T) {
	for _, c := range []struct {
		rule                        string
		exact, domains, globs, addr int
	}{
		{"a.com", 1, 0, 0, 0},
		{"!a.com:80", 1, 0, 0, 0},
		{"*.a.com", 0, 1, 0, 0},
		{"a*.b.com", 0, 0, 1, 0},
		{"*.a.*.com", 0, 0, 1, 0},
		{"10.0.0.1", 0, 0, 0, 1},
		{"::1", 0, 0, 0, 1},
		{"10.0.0.0/8:80", 0, 0, 0, 1},
		{"*", 0, 0, 0, 0},
	} {
		s := mustParse(t, c.rule).set
		var exact, domains int
		for _, nd := range s.names.nodes {
			if nd.exact != 0 {
				exact++
			}
			if nd.domain != 0 {
				domains++
			}
		}
		require.Equal(t, c.exact, exact, c.rule)
		require.Equal(t, c.domains, domains, c.rule)
		require.Len(t, s.names.globs, c.globs, c.rule)
		require.Equal(t, c.addr, s.addrs.table.Size(), c.rule)
		require.Equal(t, c.rule == "*", s.star != 0, c.rule)
	}
}

// A rule without ports is stored in the cell itself; ten thousand for one name
// become one step function.
func TestCells(t *testing.T) {
	s := mustParse(t, "a.com", "*.b.com", "10.0.0.0/8").set
	require.Empty(t, s.steps)

	var rules []string
	for i := range 10_000 {
		rules = append(rules, fmt.Sprintf("a.com:%d", 10_000-i))
	}
	p := mustParse(t, rules...)
	require.Len(t, p.set.steps, 1+10_000+1) // head, a step for each port, the end
	for _, port := range []int{1, 5000, 10_000} {
		d := p.set.decision(p.set.nameRule(mustTarget(t, fmt.Sprintf("a.com:%d", port))))
		require.Equal(t, 10_001-port, d.Rule)
	}
	require.Equal(t, none, p.set.nameRule(mustTarget(t, "a.com:10001")))
}

// Nodes link to the nearest one above that can decide, over those that cannot.
func TestLinks(t *testing.T) {
	s := mustParse(t, "*.com", "a.com", "x.y.a.com", "b*.y.a.com").set
	at := func(name string) uint32 { return s.names.index[name] }
	require.Equal(t, at("y.a.com"), s.names.nodes[at("x.y.a.com")].up)
	require.Equal(t, at("com"), s.names.nodes[at("y.a.com")].up)
	require.Equal(t, at("com"), s.names.nodes[at("a.com")].up)
	require.Equal(t, uint32(0), s.names.nodes[at("com")].up)
	require.Equal(t, 3, s.names.depth)

	x := &mustParse(t, "10.1.2.3", "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/17", "10.1.0.0/16", "::/0").set.addrs
	var bits []int
	for n, _ := x.table.Lookup(netip.MustParseAddr("10.1.2.3")); n != 0; n = x.entries[n].up {
		bits = append(bits, x.entries[n].prefix.Bits())
	}
	require.Equal(t, []int{32, 17, 16, 8, 0}, bits)
}

// Globs hang on the literal labels at their end, the earliest first.
func TestGlobLists(t *testing.T) {
	s := mustParse(t, "a*.x.com", "b*.y.com", "!c*.x.com", "www.*", "a*.x.com:80").set
	var firsts []ruleNo
	for i := s.names.nodes[s.names.index["x.com"]].globs; i != 0; i = s.names.globs[i-1].next {
		firsts = append(firsts, s.names.globs[i-1].first)
	}
	require.Equal(t, []ruleNo{0, 2}, firsts)
	require.NotZero(t, s.names.nodes[0].globs)
	for pattern, want := range map[string]string{
		"*.s3.*.aws.com": "aws.com", "a*.com": "com", "www.*": "", "*b": "", "*.*": "", "x.*-y": "",
	} {
		require.Equal(t, want, literalSuffix(pattern), pattern)
	}
}

// gobwas/glob takes seconds for this one name; it must not get to see it.
func TestGlobWithoutBacktracking(t *testing.T) {
	match, err := compileGlob(strings.Repeat("*a", 12) + "*b*.example.com")
	require.NoError(t, err)
	require.False(t, match(strings.Repeat("a", 63)+".example.com"))
	require.True(t, match(strings.Repeat("a", 62)+"b.example.com"))
}

// Both ways to match a glob agree wherever both can be taken.
func TestGlobMatchersAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	word := func(letters string, n int) string {
		b := make([]byte, 1+r.IntN(n))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	for range 20_000 {
		parts := strings.Split(word("ab", 4)+"."+word("ab", 3), ".")
		for i := range parts {
			if at := r.IntN(len(parts[i]) + 2); at <= len(parts[i]) {
				parts[i] = parts[i][:at] + "*" + parts[i][at:]
			}
		}
		name := word("ab", 5) + "." + word("ab", 4)
		match, err := compileGlob(strings.Join(parts, "."))
		require.NoError(t, err)
		a, b, _ := strings.Cut(name, ".")
		require.Equal(t, matchLabel(parts[0], a) && matchLabel(parts[1], b), match(name), "%v %s", parts, name)
	}
}

// Ordinary lists are foreseen with a handful of probes, whatever their length,
// and without trying every range.
func TestForeseeingIsCheap(t *testing.T) {
	var many []string
	for i := range 20_000 {
		many = append(many, fmt.Sprintf("11.%d.%d.0/24", i/256, i%256), fmt.Sprintf("!12.%d.%d.0/24", i/256, i%256))
	}
	for name, rules := range map[string][]string{
		"none":            {"a.com"},
		"many":            many,
		"behind a wall":   append([]string{"!0.0.0.0/0"}, many...),
		"private denied":  {"!10.0.0.0/8", "!172.16.0.0/12", "!192.168.0.0/16", "*"},
		"everything":      {"!10.0.0.0/8", "0.0.0.0/0", "::/0"},
		"deny everything": {"!0.0.0.0/0", "!::/0"},
		"own network":     {"10.0.0.0/8", "10.0.0.5"},
		"ports":           {"10.0.0.0/8:80,443", "!11.0.0.0/8:1-1024", "*"},
	} {
		p := mustParse(t, rules...)
		for _, mode := range []GuardMode{GuardDefault, GuardStrict, GuardOff} {
			l := newOutlooker(p.WithGuard(Guard{Mode: mode, Own: []netip.Addr{netip.MustParseAddr("10.0.0.5")}}), maxProbes)
			l.run()
			require.NotContains(t, l.hard, true, "%s %s", name, mode)
			require.Less(t, maxProbes-l.left, 50*len(l.outs)+len(rules), "%s %s", name, mode)
		}
	}
}

// When the probes run out, names are resolved that need not be; what is said
// is right nonetheless.
func TestForeseeingIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	forms := []string{
		"0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "::/0", "::/1",
		"8000::/1", "127.0.0.0/8", "64:ff9b::/96", "a.com", "*.b.com",
	}
	open := 0
	for range 400 {
		var rules []string
		for range 1 + r.IntN(10) {
			rules = append(rules, strings.Repeat("!", r.IntN(2))+forms[r.IntN(len(forms))])
		}
		p := mustParse(t, rules...).WithGuard(Guard{Mode: GuardMode(r.IntN(3))})
		for probes := range 60 {
			q := *p
			q.outlooks = newOutlooker(p, probes).run()
			for _, host := range []string{"a.com:80", "b.com:80", "c.com:80"} {
				want, got := p.DecideHost(mustTarget(t, host)), q.DecideHost(mustTarget(t, host))
				if got.Verdict == NeedAddr {
					open++
					continue
				}
				require.Equal(t, want.Verdict, got.Verdict, "%v %d", rules, probes)
			}
		}
	}
	require.NotZero(t, open)
}

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool forgets under the race detector")
	}
	p := mustParse(t, "!*.example.com", "a.com:80", "api-*.a.com", "*x*y*.b.com", "!10.0.0.0/8", "10.1.0.0/16:80", "2001:db8::/32", "*").
		WithGuard(Guard{Mode: GuardStrict, Own: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	type said struct {
		verdict Verdict
		reason  string
	}
	for _, c := range []struct {
		target, addr   string
		byName, byAddr said
	}{
		{"www.example.com:443", "192.0.2.1", said{Deny, "line 1 !*.example.com"}, said{Deny, "line 1 !*.example.com"}},
		{"a.com:80", "10.1.2.3", said{NeedAddr, "line 2 a.com:80"}, said{Allow, "line 2 a.com:80"}},
		{"api-1.a.com:443", "8.8.8.8", said{NeedAddr, "line 3 api-*.a.com"}, said{Allow, "line 3 api-*.a.com"}},
		{"axbyc.b.com:443", "64:ff9b::a00:1", said{NeedAddr, "line 4 *x*y*.b.com"}, said{Deny, "guard special-purpose"}},
		{"nothing.test:443", "2001:db8::1", said{NeedAddr, "line 8 *"}, said{Allow, "line 7 2001:db8::/32"}},
		{"a.very.long.name.with.many.labels.example.net:443", "169.254.169.254", said{NeedAddr, "line 8 *"}, said{Deny, "guard link-local"}},
		{"192.0.2.1:443", "192.0.2.1", said{Deny, "guard own address"}, said{Deny, "guard own address"}},
		{"[2001:db8::1]:443", "2001:db8::1", said{Allow, "line 7 2001:db8::/32"}, said{Allow, "line 7 2001:db8::/32"}},
	} {
		a := netip.MustParseAddr(c.addr)
		var buf [256]byte
		check := func(d Decision, want said) {
			if why := d.AppendReason(buf[:0]); d.Verdict != want.verdict || string(why) != want.reason {
				t.Fatalf("%s %s: %v, %s", c.target, c.addr, d.Verdict, why)
			}
		}
		require.Zero(t, testing.AllocsPerRun(100, func() {
			tgt, err := ParseTarget(c.target)
			if err != nil {
				t.Fatal(err)
			}
			check(p.DecideHost(tgt), c.byName)
			check(p.DecideAddr(tgt, a), c.byAddr)
			if text := tgt.AppendTo(buf[:0]); string(text) != c.target {
				t.Fatalf("%s: %s", c.target, text)
			}
		}), c.target)
	}
}

// The fixed tables say what they claim to.
func TestRangesAreSound(t *testing.T) {
	for i, r := range standardRanges {
		require.Equal(t, r.prefix.Masked(), r.prefix)
		require.NotEqual(t, GuardNone, r.class)
		for _, q := range standardRanges[i+1:] {
			require.False(t, r.prefix.Overlaps(q.prefix), "%s and %s", r.prefix, q.prefix)
		}
	}
	for i, r := range specialRanges {
		require.Equal(t, r.prefix.Masked(), r.prefix)
		require.NotEmpty(t, r.name)
		require.Contains(t, r.source, "RFC ")
		for _, q := range specialRanges[i+1:] {
			// What overlaps is an exemption, in front of what it is exempted from.
			if r.prefix.Overlaps(q.prefix) {
				require.Equal(t, GuardNone, r.class, r.prefix)
				require.Greater(t, r.prefix.Bits(), q.prefix.Bits())
			}
		}
	}
}
