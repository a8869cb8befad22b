package acl_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

func addrs(ss ...string) (out []netip.Addr) {
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func checkGuard(t *testing.T, g acl.Guard, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.target+" | "+r.rules, func(t *testing.T) {
			require.Equal(t, r.want, ask(t, parse(t, strings.Split(r.rules, "|")...).WithGuard(g), r.target))
		})
	}
}

func TestGuardDefault(t *testing.T) {
	const star = "allow line 1 *"
	checkGuard(t, acl.Guard{Own: addrs("192.0.2.7", "2001:db8::7", "127.0.0.1", "fe80::7%eth0", "::ffff:192.0.2.8")}, []row{
		{"deny guard loopback", "127.0.0.1", "*"},
		{"deny guard loopback", "127.255.255.255", "*"},
		{"deny guard loopback", "[::1]", "*"},
		{"deny guard unspecified", "0.0.0.0", "*"},
		{"deny guard unspecified", "0.255.255.255", "*"},
		{"deny guard unspecified", "[::]", "*"},
		{"deny guard link-local", "169.254.169.254", "*"},
		{"deny guard link-local", "[fe80::1]", "*"},
		{"deny guard link-local", "[febf::1]", "*"},
		{"deny guard multicast", "224.0.0.1", "*"},
		{"deny guard multicast", "239.255.255.255", "*"},
		{"deny guard multicast", "[ff02::1]", "*"},
		{"deny guard broadcast", "255.255.255.255", "*"},
		{"deny guard own address", "192.0.2.7", "*"},
		{"deny guard own address", "192.0.2.8", "*"},
		{"deny guard own address", "[2001:db8::7]", "*"},
		{"deny guard link-local", "[fe80::7]", "*"},
		{"deny guard loopback", "a.com=127.0.0.1", "a.com"},
		{star, "128.0.0.0", "*"}, {star, "1.0.0.0", "*"}, {star, "126.255.255.255", "*"},
		{star, "169.253.255.255", "*"}, {star, "169.255.0.0", "*"}, {star, "223.255.255.255", "*"},
		{star, "240.0.0.0", "*"}, {star, "255.255.255.254", "*"}, {star, "[fe7f::]", "*"},
		{"deny guard site-local", "[fec0::]", "*"}, {"deny guard site-local", "[feff::]", "*"},
		{"deny guard metadata", "[fd00:ec2::254]", "*"}, {"deny guard metadata", "[fd20:ce::254]", "*"},
		{"deny guard metadata", "100.100.100.200", "*"}, {"deny guard metadata", "192.0.0.192", "*"},
		{"deny guard metadata", "168.63.129.16", "*"}, {"deny guard metadata", "[64:ff9b::168.63.129.16]", "*"},
		{star, "[fd00:ec2::253]", "*"}, {star, "100.100.100.199", "*"}, {star, "192.0.0.193", "*"}, {star, "168.63.129.17", "*"},
		{"deny guard metadata", "100.100.100.200", "100.64.0.0/10"}, {"allow line 1 100.100.100.200", "100.100.100.200", "100.100.100.200"},
		{star, "192.0.2.6", "*"}, {star, "[::1:0:0:1]", "*"}, {star, "10.0.0.1", "*"}, {star, "[fc00::1]", "*"},
		// What denies already is the reason.
		{"deny default", "127.0.0.1", "a.com"},
		{"deny line 1 !127.0.0.0/8", "127.0.0.1", "!127.0.0.0/8|*"},
	})
}

func TestGuardUnlocked(t *testing.T) {
	checkGuard(t, acl.Guard{Own: addrs("10.0.0.5", "127.0.0.1")}, []row{
		{"allow line 1 127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"allow line 1 127.0.0.0/8", "127.9.9.9", "127.0.0.0/8"},
		{"deny guard loopback", "127.0.0.1", "0.0.0.0/0"},
		{"deny guard loopback", "127.0.0.1", "126.0.0.0/7"},
		{"deny guard loopback", "127.0.0.2", "127.0.0.1|*"},
		{"deny guard loopback", "[::1]", "::/127"},
		{"allow line 1 ::1", "[::1]", "::1"},
		{"allow line 1 a.com", "a.com=127.0.0.1", "a.com|127.0.0.1"}, // wherever it stands
		{"allow line 1 0.0.0.0/0", "127.0.0.1", "0.0.0.0/0|127.0.0.1"},
		{"deny line 1 !127.0.0.1", "127.0.0.1", "!127.0.0.1|127.0.0.1"},                // the rules give the verdict
		{"allow line 1 a.com", "a.com=127.0.0.1", "a.com|!127.0.0.0/8|127.0.0.1"},      // even if it decides nothing
		{"allow line 1 127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1:8080"},            // on its ports
		{"deny guard loopback", "127.0.0.1:8081", "127.0.0.1:8080|*"},                  //
		{"allow line 1 169.254.169.254", "a.com=169.254.169.254", "169.254.169.254|*"}, //
		{"allow line 1 224.0.0.0/4", "224.0.0.1", "224.0.0.0/4"},                       //
		{"deny guard multicast", "224.0.0.1", "224.0.0.0/3"},                           //
		{"allow line 1 10.0.0.5", "10.0.0.5", "10.0.0.5"},                              // an own address is its own range
		{"deny guard own address", "10.0.0.5", "10.0.0.0/8"},                           //
		{"allow line 1 10.0.0.0/8", "10.0.0.6", "10.0.0.0/8"},                          //
		{"allow line 1 0.0.0.0/8", "0.0.0.0", "0.0.0.0/8"},                             //
		{"allow line 1 255.255.255.255", "255.255.255.255", "255.255.255.255"},         //
		{"deny guard broadcast", "255.255.255.255", "240.0.0.0/4"},                     //
		{"allow line 1 fe80::/10", "[fe80::1]", "fe80::/10"},                           //
		{"deny guard link-local", "[fe80::1]", "fe80::/9"},                             //
	})
}

func TestGuardEmbedded(t *testing.T) {
	checkGuard(t, acl.Guard{Own: addrs("10.0.0.5", "64:ff9b::9.9.9.9")}, []row{
		{"deny guard loopback", "[64:ff9b::127.0.0.1]", "*"},
		{"deny guard loopback", "[2002:7f00:1::1]", "*"},
		{"deny guard loopback", "[::127.0.0.1]", "*"},
		{"deny guard unspecified", "[::2]", "*"},
		{"deny guard link-local", "[64:ff9b::169.254.169.254]", "*"},
		{"deny guard own address", "[64:ff9b::10.0.0.5]", "*"},
		{"deny guard own address", "[2002:a00:5:1::]", "*"},
		{"deny guard own address", "[64:ff9b::9.9.9.9]", "*"},
		{"allow line 1 *", "9.9.9.9", "*"},
		{"allow line 1 *", "[64:ff9b::8.8.8.8]", "*"},
		// Unlocked for the embedded address.
		{"allow line 1 *", "[64:ff9b::10.0.0.6]", "*"},
		{"deny default", "[64:ff9b::127.0.0.1]", "127.0.0.1"}, // an allow rule does not match it
		{"allow line 1 64:ff9b::/96", "[64:ff9b::127.0.0.1]", "64:ff9b::/96|127.0.0.1"},
		{"deny guard loopback", "[64:ff9b::127.0.0.2]", "64:ff9b::/96|127.0.0.1"},
		// Unlocked for the embedding address.
		{"allow line 1 64:ff9b::7f00:1", "[64:ff9b::127.0.0.1]", "64:ff9b::7f00:1"},
		{"allow line 1 64:ff9b::7f00:0/104", "[64:ff9b::127.0.0.1]", "64:ff9b::7f00:0/104"},
		{"deny guard loopback", "[64:ff9b::127.0.0.1]", "64:ff9b::7e00:0/103"},
		{"allow line 1 2002:7f00::/24", "[2002:7f00:1::1]", "2002:7f00::/24"},
		{"deny guard loopback", "[2002:7f00:1::1]", "2002:7e00::/23"},
		{"allow line 1 2002:a00:5::/48", "[2002:a00:5::1]", "2002:a00:5::/48"},
		{"deny guard own address", "[2002:a00:5::1]", "2002:a00:4::/47"},
		{"deny guard loopback", "127.0.0.1", "64:ff9b::7f00:1|*"},
	})
}

// However an address embeds one that is guarded or denied, it is that.
func TestEmbeddedAddresses(t *testing.T) {
	rows := []row{}
	for _, form := range []struct{ loopback, private, public string }{
		{"[64:ff9b::127.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b::8.8.8.8]"},
		{"[64:ff9b:1:7f00:0:100::]", "[64:ff9b:1:a00:0:100::]", "[64:ff9b:1:808:8:800::]"},            // RFC 6052 section 2.2
		{"[64:ff9b:1:7f00:ff00:1ff:ffff:fff0]", "[64:ff9b:1:a00::1:0:1]", "[64:ff9b:1:808:8:800::1]"}, // with bits that say nothing
		// A longer prefix out of the one for local use (RFC 8215): only its operator knows its length.
		{"[64:ff9b:1:ff7f:0:1::]", "[64:ff9b:1:ff0a:0:1::]", "[64:ff9b:1:ff08:8:808::]"},
		{"[64:ff9b:1:fffe:7f:0:100::]", "[64:ff9b:1:fffe:a:0:100::]", "[64:ff9b:1:fffe:8:808:800:0]"},
		{"[64:ff9b:1:fffe::127.0.0.1]", "[64:ff9b:1:fffe::10.0.0.1]", "[64:ff9b:1:fffe::8.8.8.8]"},
		{"[64:ff9b:1::127.0.0.1]", "[64:ff9b:1::10.0.0.1]", "[64:ff9b:1::8.8.8.8]"},
		{"[2002:7f00:1::1]", "[2002:a00:1::1]", "[2002:808:808::1]"},
		{"[2001:0:808:808::80ff:fffe]", "[2001:0:808:808::f5ff:fffe]", "[2001:0:808:808:0:fbff:f7f7:f7f7]"}, // Teredo's client
		{"[2001:0:7f00:1::f7f7:f7f7]", "[2001:0:a00:1::f7f7:f7f7]", "[2001:0:808:808::f7f7:f7f7]"},          // and its server
		{"[2a00::5efe:127.0.0.1]", "[2a00::5efe:10.0.0.1]", "[2a00::5efe:8.8.8.8]"},
		{"[2a00::200:5efe:127.0.0.1]", "[2a00::200:5efe:10.0.0.1]", "[2a00::200:5efe:8.8.8.8]"},
		{"[::127.0.0.1]", "[::10.0.0.1]", "[::8.8.8.8]"},
		{"[::ffff:0:127.0.0.1]", "[::ffff:0:10.0.0.1]", "[::ffff:0:8.8.8.8]"},
	} {
		rows = append(rows,
			row{"deny guard loopback", form.loopback, "*"},
			row{"allow line 1 *", form.private, "*"},
			row{"allow line 1 *", form.public, "*"},
			row{"deny line 1 !10.0.0.0/8", form.private, "!10.0.0.0/8|*"},
			row{"allow line 2 *", form.public, "!10.0.0.0/8|*"},
			row{"deny default", form.public, "8.8.8.8"}, // an allow rule does not match it
			row{"allow line 2 *", form.loopback, "127.0.0.1|*"},
			row{"deny guard own address", form.public, "*"},
		)
	}
	for i, r := range rows {
		g := acl.Guard{}
		if i%8 == 7 {
			g.Own = addrs("8.8.8.8")
		}
		checkGuard(t, g, []row{r})
	}
	checkGuard(t, acl.Guard{}, []row{
		{"allow line 1 *", "[2a00::100:5efe:127.0.0.1]", "*"}, // no marker
		{"allow line 1 2a00::5efe:7f00:0/104", "[2a00::5efe:127.0.0.1]", "2a00::5efe:7f00:0/104"},
		{"deny guard loopback", "[2a00::5efe:127.0.0.1]", "2a00::5efe:0:0/96"},
		{"allow line 1 64:ff9b:1:7f00::/56", "[64:ff9b:1:7f00:0:100::]", "64:ff9b:1:7f00::/56"},
		{"deny guard loopback", "[64:ff9b:1:7f00:0:100::]", "64:ff9b:1::/48"},
	})
}

func TestGuardStrict(t *testing.T) {
	const special = "deny guard special-purpose"
	rows := []row{
		{"deny guard loopback", "127.0.0.1", "*"},
		{"deny guard broadcast", "255.255.255.255", "*"},
		{"deny guard own address", "10.0.0.5", "*"},
		// An address in two ranges needs both lifted.
		{"deny guard own address", "10.0.0.5", "10.0.0.0/8"},
		{"allow line 1 10.0.0.5", "10.0.0.5", "10.0.0.5"},
		{"deny guard broadcast", "255.255.255.255", "240.0.0.0/4"},
		{"allow line 1 255.255.255.255", "255.255.255.255", "255.255.255.255"},
		{"allow line 1 240.0.0.0/4", "255.255.255.254", "240.0.0.0/4"},
		{"allow line 1 10.1.0.0/16", "10.1.2.3", "10.1.0.0/16"},
		{special, "10.1.2.3", "10.0.0.0/7"},
		{special, "[64:ff9b::10.1.2.3]", "*"},
		{"allow line 1 64:ff9b::a00:0/104", "[64:ff9b::10.1.2.3]", "64:ff9b::a00:0/104"},
		{"allow line 1 192.0.0.0/24", "192.0.0.1", "192.0.0.0/24"}, // smaller entries inside go with it
		// What is denied at every address is not looked up.
		{"deny default", "a.com", "224.0.0.0/3"},
		{"depends", "a.com", "224.0.0.0/3|240.0.0.0/4"},
	}
	for _, a := range []string{
		"10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "172.16.0.0", "172.31.255.255",
		"192.0.0.0", "192.0.0.8", "192.0.0.11", "192.0.0.170", "192.0.0.255", "192.0.2.1", "192.88.99.2",
		"192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.1", "203.0.113.1",
		"240.0.0.0", "255.255.255.254",
		"[64:ff9b:1::]", "[64:ff9b:1:ffff:ffff:ffff:ffff:ffff]", "[100::]", "[100::1]", "[100:0:0:1::1]",
		"[2001::1]", "[2001:1::]", "[2001:1::4]", "[2001:2::1]", "[2001:4:113::]", "[2001:10::1]",
		"[2001:40::]", "[2001:1ff:ffff::]", "[2001:db8::1]", "[3fff::1]", "[3fff:fff::1]", "[5f00::1]",
		"[fc00::1]", "[fdff::1]",
	} {
		rows = append(rows, row{special, a, "*"})
	}
	for _, a := range []string{
		"9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
		"192.0.0.9", "192.0.0.10", "192.0.1.0", "192.31.196.1", "192.52.193.1", "192.175.48.1", "192.88.99.1",
		"198.17.255.255", "198.20.0.0", "8.8.8.8",
		"[64:ff9b::8.8.8.8]", "[64:ff9b:2::]", "[100:0:0:2::]", "[2001:1::1]", "[2001:1::2]", "[2001:1::3]",
		"[2001:3::1]", "[2001:4:112::1]", "[2001:20::1]", "[2001:2f:ffff::]", "[2001:30::1]", "[2001:200::]",
		"[2002:808:808::1]", "[2620:4f:8000::1]", "[3fff:1000::]", "[5f01::]", "[fe00::1]",
	} {
		rows = append(rows, row{"allow line 1 *", a, "*"})
	}
	checkGuard(t, acl.Guard{Mode: acl.GuardStrict, Own: addrs("10.0.0.5")}, rows)
}

func TestGuardOff(t *testing.T) {
	checkGuard(t, acl.Guard{Mode: acl.GuardOff, Own: addrs("10.0.0.5")}, []row{
		{"allow line 1 *", "127.0.0.1", "*"},
		{"allow line 1 *", "10.0.0.5", "*"},
		{"allow line 1 *", "[64:ff9b::169.254.169.254]", "*"},
		{"allow line 1 *", "a.com", "*"}, // whatever it resolves to
	})
}

// With every guarded range lifted nothing is guarded, and a name is allowed
// whatever it resolves to.
func TestGuardAllLifted(t *testing.T) {
	all := "127.0.0.0/9|127.128.0.0/9|::1|0.0.0.0/8|::|169.254.0.0/16|fe80::/10|224.0.0.0/4|ff00::/8|255.255.255.255" +
		"|fec0::/10|fd00:ec2::254|fd20:ce::254|100.100.100.200|192.0.0.192|168.63.129.16"
	checkGuard(t, acl.Guard{}, []row{
		{"allow line 17 *", "a.com", all + "|*"},
		{"depends", "a.com", "127.0.0.0/10|" + all[len("127.0.0.0/9|"):] + "|*"}, // both ends, not all of it
		{"depends", "a.com", all[len("127.0.0.0/9|"):] + "|*"},
	})
	checkGuard(t, acl.Guard{Own: addrs("10.0.0.5")}, []row{
		{"depends", "a.com", all + "|*"},
		{"allow line 18 *", "a.com", all + "|10.0.0.5|*"},
		{"depends", "a.com:80", all + "|10.0.0.5:443|*"},
		{"allow line 18 *", "a.com:443", all + "|10.0.0.5:443|*"},
	})
}

func TestWithGuardLeavesTheOriginalAlone(t *testing.T) {
	p := parse(t, "*")
	off := p.WithGuard(acl.Guard{Mode: acl.GuardOff})
	own := p.WithGuard(acl.Guard{Own: addrs("10.0.0.5")})
	require.Equal(t, "deny guard loopback", ask(t, p, "127.0.0.1"))
	require.Equal(t, "allow line 1 *", ask(t, off, "127.0.0.1"))
	require.Equal(t, "allow line 1 *", ask(t, p, "10.0.0.5"))
	require.Equal(t, "deny guard own address", ask(t, own, "10.0.0.5"))
	require.Equal(t, "allow line 1 *", ask(t, own.WithGuard(acl.Guard{}), "10.0.0.5"))
}

func TestGuardMode(t *testing.T) {
	for s, want := range map[string]acl.GuardMode{
		"": acl.GuardDefault, "default": acl.GuardDefault, "strict": acl.GuardStrict, "off": acl.GuardOff,
	} {
		m, err := acl.ParseGuardMode(s)
		require.NoError(t, err)
		require.Equal(t, want, m)
		if s != "" {
			require.Equal(t, s, m.String())
		}
	}
	m, err := acl.ParseGuardMode("Off")
	require.EqualError(t, err, "bad guard 'Off': write default, strict or off")
	require.Equal(t, acl.GuardStrict, m)
	// A mode that does not exist guards most.
	require.Equal(t, "strict", acl.GuardMode(9).String())
	require.Equal(t, "deny guard special-purpose", ask(t, parse(t, "*").WithGuard(acl.Guard{Mode: 9}), "10.0.0.1"))
	require.Equal(t, "none", acl.GuardNone.String())
	require.Equal(t, "none", acl.GuardRange(99).String())
}
