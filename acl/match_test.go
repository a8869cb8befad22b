package acl_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

func parse(t testing.TB, rules ...string) *acl.Policy {
	t.Helper()
	p, err := acl.Parse(strings.Join(rules, "\n"))
	require.NoError(t, err)
	return p
}

func target(t testing.TB, s string) acl.Target {
	t.Helper()
	tgt, err := acl.ParseTargetDefault(s, 443)
	require.NoError(t, err)
	return tgt
}

// ask decides about "host:port" (by DecideHost), or "host:port=addr" (by
// DecideAddr), and returns "verdict reason".
func ask(t testing.TB, p *acl.Policy, s string) string {
	t.Helper()
	host, addr, one := strings.Cut(s, "=")
	d := p.DecideHost(target(t, host))
	if one {
		d = p.DecideAddr(target(t, host), netip.MustParseAddr(addr))
	}
	if d.Verdict == acl.NeedAddr {
		return "depends"
	}
	return d.Verdict.String() + " " + d.Reason()
}

type row struct{ want, target, rules string }

func check(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.target+" | "+r.rules, func(t *testing.T) {
			require.Equal(t, r.want, ask(t, parse(t, strings.Split(r.rules, " | ")...), r.target))
		})
	}
}

// The table of the specification.
func TestSpecificationExamples(t *testing.T) {
	const rules = "!*.example.com | !192.168.1.0/24 | 192.168.2.1 | *"
	check(t, []row{
		{"deny line 1 !*.example.com", "www.example.com:443", rules},
		{"deny line 1 !*.example.com", "EXAMPLE.com.:80", rules},
		{"depends", "intranet.test:80", rules},
		{"deny line 2 !192.168.1.0/24", "intranet.test:80=192.168.1.7", rules},
		{"depends", "dual.test:80", rules},
		{"deny line 2 !192.168.1.0/24", "dual.test:80=192.168.1.7", rules},
		{"allow line 4 *", "dual.test:80=203.0.113.5", rules},
		{"allow line 3 192.168.2.1", "192.168.2.1:8080", rules},
		{"deny line 2 !192.168.1.0/24", "[::ffff:192.168.1.9]:80", rules},
		{"deny guard link-local", "169.254.169.254:80", rules},
		{"allow line 4 *", "anything.test:25=198.51.100.3", rules},
	})
}

// What deliberately differs from squid.
func TestDiffersFromSquid(t *testing.T) {
	check(t, []row{
		// One address denied: the other is used.
		{"deny line 1 !10.0.0.0/8", "two.test=10.0.0.1", "!10.0.0.0/8 | *"},
		{"allow line 2 *", "two.test=8.8.8.8", "!10.0.0.0/8 | *"},
		// One address allowed: the other is not dialled.
		{"allow line 1 10.0.0.0/8", "two.test=10.0.0.1", "10.0.0.0/8"},
		{"deny default", "two.test=8.8.8.8", "10.0.0.0/8"},
		// A literal never matches a name rule.
		{"deny default", "6.6.6.6", "*.example.com"},
		{"allow line 2 *", "6.6.6.6", "!*.example.com | *"},
		// Names of hexadecimal digits are names.
		{"depends", "cafe.de", "cafe.de"},
		{"deny line 1 !abc.be", "abc.be", "!abc.be | *"},
		// So is the word that the script loses.
		{"deny line 1 !www", "www", "!www | *"},
		// A length of 0 is every address of the family.
		{"deny line 1 !::/0", "[2600::1]", "!::/0 | *"},
		{"allow line 2 *", "8.8.8.8", "!::/0 | *"},
		{"deny line 1 !0.0.0.0/0", "8.8.8.8", "!0.0.0.0/0 | *"},
		{"allow line 2 *", "[2600::1]", "!0.0.0.0/0 | *"},
		// CRLF is accepted.
		{"deny line 1 !a.com", "a.com", "!a.com\r | *\r"},
		// The guard.
		{"deny guard loopback", "127.0.0.1", "*"},
		{"deny guard link-local", "a.test=169.254.169.254", "*"},
	})
	for _, bad := range []string{"10.0.0.300", "1.2", "10.0.0.0/33", "010.0.0.1", `a\`} {
		_, err := acl.Parse(bad)
		require.Error(t, err, bad)
	}
}

func TestNames(t *testing.T) {
	check(t, []row{
		{"depends", "www.example.com", "www.example.com"},                               // name
		{"deny default", "a.www.example.com", "www.example.com"},                        // that name alone
		{"deny default", "example.com", "www.example.com"},                              //
		{"depends", "registry", "registry"},                                             // one label
		{"depends", "example.com", "*.example.com"},                                     // domain: the name
		{"depends", "www.example.com", "*.example.com"},                                 // and below
		{"depends", "a.b.c.example.com", "*.example.com"},                               //
		{"deny default", "badexample.com", "*.example.com"},                             // at a dot
		{"deny default", "com", "*.example.com"},                                        //
		{"depends", "a.b", "*.b"},                                                       //
		{"depends", "api-1.example.com", "api-*.example.com"},                           // glob
		{"depends", "api-.example.com", "api-*.example.com"},                            // `*` may stand for nothing
		{"deny default", "api-1.x.example.com", "api-*.example.com"},                    // never crosses a dot
		{"deny default", "x.api-1.example.com", "api-*.example.com"},                    // whole names
		{"depends", "s3.eu.amazonaws.com", "*.s3.*.amazonaws.com"},                      // leading `*.`: the rest
		{"depends", "b.s3.eu.amazonaws.com", "*.s3.*.amazonaws.com"},                    // and below
		{"depends", "a.b.s3.eu.amazonaws.com", "*.s3.*.amazonaws.com"},                  //
		{"deny default", "s3.amazonaws.com", "*.s3.*.amazonaws.com"},                    // `*` in the middle is one label
		{"deny default", "s3.a.b.amazonaws.com", "*.s3.*.amazonaws.com"},                //
		{"deny default", "xs3.eu.amazonaws.com", "*.s3.*.amazonaws.com"},                //
		{"depends", "xaxbx.example.com", "*a*b*.example.com"},                           // several in one label
		{"deny default", "xbxax.example.com", "*a*b*.example.com"},                      // in their order
		{"deny default", "xaxbx.y.example.com", "*a*b*.example.com"},                    //
		{"depends", "www.example", "www.*"},                                             // last label
		{"deny default", "www.example.com", "www.*"},                                    //
		{"depends", "a.b", "*.*"},                                                       // any name
		{"depends", "a", "*.*"},                                                         //
		{"deny line 1 !bücher.example", "xn--bcher-kva.example", "!bücher.example | *"}, // Unicode rule
		{"depends", "a.com", "*"},                                                       //
	})
}

func TestOrder(t *testing.T) {
	check(t, []row{
		{"deny line 1 !a.com", "a.com", "!a.com | a.com"}, // exact, exact
		{"depends", "a.com", "a.com | !a.com"},
		{"deny line 1 !*.a.com", "x.a.com", "!*.a.com | x.a.com"}, // domain, exact
		{"depends", "x.a.com", "x.a.com | !*.a.com"},
		{"deny line 1 !*.com", "x.a.com", "!*.com | *.a.com"}, // domain, domain below
		{"depends", "x.a.com", "*.a.com | !*.com"},
		{"deny line 1 !x*.a.com", "x1.a.com", "!x*.a.com | *.a.com"}, // glob, domain
		{"depends", "x1.a.com", "*.a.com | !x*.a.com"},
		{"deny line 1 !x*.a.com", "x1.a.com", "!x*.a.com | *1.a.com"}, // glob, glob
		{"depends", "x1.a.com", "*1.a.com | !x*.a.com"},
		{"deny line 1 !x*.a.com", "x1.a.com", "!x*.a.com | x1.*.com"}, // globs of other ends
		{"depends", "x1.a.com", "x1.*.com | !x*.a.com"},
		{"deny line 1 !10.1.0.0/16", "10.1.2.3", "!10.1.0.0/16 | 10.0.0.0/8"}, // prefixes
		{"allow line 1 10.0.0.0/8", "10.1.2.3", "10.0.0.0/8 | !10.1.0.0/16"},
		{"deny line 1 !10.0.0.0/8", "10.1.2.3", "!10.0.0.0/8 | 10.1.2.3"},
		{"allow line 1 10.1.2.3", "10.1.2.3", "10.1.2.3 | !10.0.0.0/8"},
		{"deny line 1 !10.0.0.0/8", "a.com=10.1.2.3", "!10.0.0.0/8 | a.com"}, // address, name
		{"allow line 1 a.com", "a.com=10.1.2.3", "a.com | !10.0.0.0/8"},
		{"deny line 1 !a.com", "a.com=10.1.2.3", "!a.com | 10.0.0.0/8"},
		{"allow line 1 10.0.0.0/8", "a.com=10.1.2.3", "10.0.0.0/8 | !a.com"},
		{"deny line 1 !64:ff9b::/96", "[64:ff9b::808:808]", "!64:ff9b::/96 | 64:ff9b::808:808"},
		{"allow line 1 64:ff9b::808:808", "[64:ff9b::808:808]", "64:ff9b::808:808 | !64:ff9b::/96"},
	})
}

func TestPorts(t *testing.T) {
	check(t, []row{
		{"depends", "a.com:443", "a.com:443"},
		{"deny default", "a.com:80", "a.com:443"},
		{"depends", "a.com:8000", "a.com:8000-8999"},
		{"depends", "a.com:8999", "a.com:8000-8999"},
		{"deny default", "a.com:7999", "a.com:8000-8999"},
		{"deny default", "a.com:9000", "a.com:8000-8999"},
		{"depends", "a.com:65535", "a.com:80,443,9000-65535"},
		{"depends", "a.com:1", "a.com:1-65535"},
		{"deny line 1 !a.com:25", "a.com:25", "!a.com:25 | a.com"},
		{"depends", "a.com:26", "!a.com:25 | a.com"},
		{"depends", "a.com:25", "a.com | !a.com:25"},
		{"deny line 2 !a.com", "a.com:26", "a.com:25 | !a.com | a.com:26"},
		{"deny line 1 !*.com:25", "a.com:25", "!*.com:25 | *.a.com | a.com"},
		{"allow line 1 10.0.0.0/8:443", "10.1.2.3:443", "10.0.0.0/8:443 | !10.0.0.0/8"},
		{"deny line 2 !10.0.0.0/8", "10.1.2.3:80", "10.0.0.0/8:443 | !10.0.0.0/8"},
		{"allow line 1 [2600::/32]:443", "[2600::1]:443", "[2600::/32]:443"},
		{"deny default", "[2600::1]:80", "[2600::/32]:443"},
		{"depends", "x1.a.com:80", "x*.a.com:80"},
		{"deny default", "x1.a.com:81", "x*.a.com:80"},
		{"depends", "a.com:443", "*:443"},
		{"deny default", "a.com:80", "*:443"},
		{"allow line 1 *:443", "8.8.8.8:443", "*:443"},
		{"allow line 2 *", "8.8.8.8:80", "*:443 | *"},
	})
}

// Rule 5: deny rules, and only these, look into addresses that embed others.
func TestEmbedded(t *testing.T) {
	check(t, []row{
		{"deny line 1 !10.0.0.0/8", "[64:ff9b::10.0.0.1]", "!10.0.0.0/8 | *"},
		{"deny line 1 !10.0.0.0/8", "[2002:a00:1::1]", "!10.0.0.0/8 | *"},
		{"deny line 1 !10.0.0.0/8", "[::10.0.0.1]", "!10.0.0.0/8 | *"},
		{"deny line 1 !10.0.0.0/8", "a.com=64:ff9b::a00:1", "!10.0.0.0/8 | *"},
		{"allow line 2 *", "[64:ff9b::11.0.0.1]", "!10.0.0.0/8 | *"},
		{"allow line 2 *", "[64:ff9b:0:0:0:1:10.0.0.1]", "!10.0.0.0/8 | *"}, // not in the /96
		{"deny default", "[64:ff9b::10.0.0.1]", "10.0.0.0/8"},
		{"allow line 1 64:ff9b::/96", "[64:ff9b::10.0.0.1]", "64:ff9b::/96 | !10.0.0.0/8"},
		{"deny line 1 !10.0.0.0/8", "[64:ff9b::10.0.0.1]", "!10.0.0.0/8 | 64:ff9b::/96"},
		{"deny line 2 !10.0.0.0/8", "[64:ff9b::10.0.0.1]", "10.0.0.1 | !10.0.0.0/8 | *"}, // the allow rule hides nothing
		{"deny line 1 !10.0.0.0/8:80", "[64:ff9b::10.0.0.1]:80", "!10.0.0.0/8:80 | *"},
		{"allow line 2 *", "[64:ff9b::10.0.0.1]:81", "!10.0.0.0/8:80 | *"},
		{"deny line 1 !0.0.0.0/0", "[2002::1]", "!0.0.0.0/0 | *"},
		{"allow line 2 ::1", "[::1]", "!0.0.0.0/0 | ::1"}, // loopback embeds nothing
	})
}

// Rule 3: what is denied, or allowed, whatever a name resolves to.
func TestBeforeLookup(t *testing.T) {
	off := func(rules string) *acl.Policy {
		return parse(t, strings.Split(rules, " | ")...).WithGuard(acl.Guard{Mode: acl.GuardOff})
	}
	check(t, []row{
		{"deny line 1 !a.com", "a.com", "!a.com | 10.0.0.0/8"},
		{"depends", "a.com", "10.0.0.0/8 | !a.com"},
		{"deny default", "a.com", "b.com"},
		{"deny default", "a.com", ""},
		{"depends", "a.com", "b.com | 10.0.0.0/8"},
		// Allow rules that decide nothing do not cause look-ups.
		{"deny default", "a.com", "!10.0.0.0/8 | 10.1.0.0/16"},
		{"depends", "a.com", "10.1.0.0/16 | !10.0.0.0/8"},
		{"deny default", "a.com", "!0.0.0.0/1 | !128.0.0.0/1 | 0.0.0.0/0"},
		{"depends", "a.com", "!0.0.0.0/1 | !128.0.0.0/2 | 0.0.0.0/0"},
		{"depends", "a.com", "!10.0.0.0/10 | !10.128.0.0/9 | 10.0.0.0/8"}, // 10.64.0.0/10 is left
		{"deny default", "a.com", "!10.0.0.0/10 | !10.128.0.0/9 | !10.64.0.0/10 | 10.0.0.0/8"},
		{"depends", "a.com", "!10.0.0.0/10 | !10.128.0.0/9 | 64:ff9b::a00:0/104"},
		{"depends", "a.com", "!10.0.0.0/10 | !10.128.0.0/9 | 2002:a00::/24"},
		{"depends", "a.com", "!10.0.0.0/10 | !10.128.0.0/9 | ::a00:0/104"},
		{"deny default", "a.com", "!10.0.0.0/8 | 64:ff9b::a01:203"},
		{"depends", "a.com", "!10.0.0.0/8 | 64:ff9b::b01:203"},
		{"deny default", "a.com", "!10.0.0.0/9 | !10.128.0.0/9 | 2002:a00::/24"},
		{"depends", "a.com", "!0.0.0.0/0 | 2002::/15"},
		{"deny default", "a.com", "!::/0 | 2600::/32"},
		{"deny default", "a.com", "!0.0.0.0/0 | !::/0 | 10.0.0.0/8 | 2600::/32"},
		{"deny default", "a.com:443", "!10.0.0.0/8:443 | 10.0.0.0/8"},
		{"depends", "a.com:80", "!10.0.0.0/8:443 | 10.0.0.0/8"},
		{"deny default", "a.com:80", "10.0.0.0/8:443"},
		{"deny default", "a.com:443", "!10.0.0.0/9:1-443 | !10.128.0.0/9:443-500 | 10.0.0.0/8"},
		{"depends", "a.com:444", "!10.0.0.0/9:1-443 | !10.128.0.0/9:443-500 | 10.0.0.0/8"},
		// Everything that is not guarded is denied.
		{"deny line 1 !0.0.0.0/0", "a.com", "!0.0.0.0/0 | !::/0 | *"},
		{"depends", "a.com", "!0.0.0.0/0 | *"},
		{"depends", "a.com", "!0.0.0.0/0 | !2000::/3 | *"},
	})
	for _, r := range []row{
		{"allow line 1 *", "a.com", "*"},
		{"allow line 1 a.com", "a.com", "a.com | !10.0.0.0/8"},
		{"depends", "a.com", "!10.0.0.0/8 | a.com"},
		{"allow line 3 a.com", "a.com", "10.0.0.0/7 | ::/0 | a.com"},
		{"depends", "a.com", "10.0.0.0/8 | !10.1.0.0/16 | *"}, // 64:ff9b::10.1.0.0
		{"allow line 4 *", "a.com", "10.0.0.0/8 | ::/0 | !10.1.0.0/16 | *"},
		{"allow line 1 0.0.0.0/0", "a.com", "0.0.0.0/0 | ::/0 | !a.com"}, // address rules allow everything
		{"depends", "a.com", "0.0.0.0/0 | !a.com | ::/0"},
		// The deny rule is left with ISATAP, behind any prefix that no rule has.
		{"depends", "a.com", "0.0.0.0/28 | ::/1 | !0.0.0.0/28 | *"},
		{"depends", "a.com", "0.0.0.0/28 | ::/1 | 8000::/2 | c000::/3 | e000::/4 | f000::/64 | !0.0.0.0/28 | *"},
		{"allow line 5 *", "a.com", "0.0.0.0/28 | ::/1 | 8000::/1 | !0.0.0.0/28 | *"},
		{"allow line 1 0.0.0.0/1", "a.com", "0.0.0.0/1 | 128.0.0.0/1 | ::/1 | 8000::/1"},
	} {
		t.Run("off "+r.target+" | "+r.rules, func(t *testing.T) {
			require.Equal(t, r.want, ask(t, off(r.rules), r.target))
		})
	}
}

// Nothing, and nothing sensible, is denied.
func TestZeroDenies(t *testing.T) {
	var none *acl.Policy
	all := parse(t, "*").WithGuard(acl.Guard{Mode: acl.GuardOff})
	a := netip.MustParseAddr("8.8.8.8")
	zoned := netip.MustParseAddr("fe80::1%eth0")
	name := target(t, "a.com:80")
	host := name.Host
	for _, d := range []acl.Decision{
		{},
		none.DecideHost(name),
		none.DecideAddr(name, a),
		none.WithGuard(acl.Guard{Mode: acl.GuardOff}).DecideAddr(name, a),
		all.DecideHost(acl.Target{}),
		all.DecideHost(acl.Target{Host: host}), // port 0
		all.DecideHost(acl.Target{Port: 80}),   // no host
		all.DecideAddr(acl.Target{}, a),
		all.DecideAddr(acl.Target{Host: host}, a),
		all.DecideAddr(name, netip.Addr{}),
		all.DecideAddr(name, zoned),
		all.DecideAddr(target(t, "8.8.4.4:80"), a), // not the address of the target
	} {
		require.Equal(t, acl.Decision{}, d)
		require.Equal(t, acl.Deny, d.Verdict)
		require.Equal(t, "default", d.Reason())
	}
	require.Equal(t, 0, none.Len())
	require.Equal(t, "", none.String())
	require.Empty(t, none.Warnings())
	for range none.Rules() {
		t.Fatal("a rule in no policy")
	}
}

func TestDecisionIsData(t *testing.T) {
	p := parse(t, "# head", "", "  ! 10.0.0.0/8 # inside", "*")
	require.Equal(t, acl.Decision{Verdict: acl.Deny, Kind: acl.ReasonRule, Rule: 1, Line: 3, Text: "! 10.0.0.0/8", ByAddr: true},
		p.DecideHost(target(t, "10.0.0.1:80")))
	require.Equal(t, acl.Decision{Verdict: acl.Allow, Kind: acl.ReasonRule, Rule: 2, Line: 4, Text: "*"},
		p.DecideHost(target(t, "8.8.8.8:80")))
	require.Equal(t, acl.Decision{Verdict: acl.NeedAddr, Kind: acl.ReasonRule, Rule: 2, Line: 4, Text: "*"},
		p.DecideHost(target(t, "a.com:80")))
	require.Equal(t, acl.Decision{Kind: acl.ReasonGuard, Guard: acl.GuardLoopback, ByAddr: true},
		p.DecideHost(target(t, "[::1]:80")))
	d := p.DecideHost(target(t, "10.0.0.1:80"))
	require.Equal(t, "line 3 ! 10.0.0.0/8", d.Reason())
	require.Equal(t, "by line 3 ! 10.0.0.0/8", string(d.AppendReason([]byte("by "))))
	for v, s := range map[acl.Verdict]string{acl.Deny: "deny", acl.Allow: "allow", acl.NeedAddr: "depends", 9: "deny"} {
		require.Equal(t, s, v.String())
	}
	for k, s := range map[acl.ReasonKind]string{acl.ReasonDefault: "default", acl.ReasonRule: "rule", acl.ReasonGuard: "guard"} {
		require.Equal(t, s, k.String())
	}
}
