package acl_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
)

func TestReach(t *testing.T) {
	tests := []struct {
		want        bool
		rules, addr string
		port        uint16
	}{
		{false, "", "8.8.8.8", 443},
		{true, "*", "8.8.8.8", 443},
		{true, "a.test", "8.8.8.8", 443},
		{false, "a.test:80", "8.8.8.8", 443},
		{true, "a.test:80", "8.8.8.8", 80},
		{false, "!8.8.8.0/24\n*", "8.8.8.8", 443},
		{true, "a.test\n!8.8.8.0/24", "8.8.8.8", 443},
		{false, "!8.8.8.0/24\na.test", "8.8.8.8", 443},
		{true, "8.8.8.0/24", "8.8.8.8", 443},
		{true, "!8.8.8.0/24:80\n8.8.8.8", "8.8.8.8", 443},
		{false, "*", "169.254.169.254", 80},
		{true, "169.254.169.254:80", "169.254.169.254", 80},
		{true, "*.test", "::ffff:8.8.8.8", 443},
		{false, "*", "fe80::1%eth0", 443},
		{false, "*", "8.8.8.8", 0},
	}
	for _, tt := range tests {
		p, err := acl.Parse(tt.rules)
		require.NoError(t, err)
		a := netip.MustParseAddr(tt.addr)
		assert.Equal(t, tt.want, p.Reach(tt.port).Allows(a), "%q %s %d", tt.rules, tt.addr, tt.port)
	}
	assert.False(t, (*acl.Policy)(nil).Reach(443).Allows(netip.MustParseAddr("8.8.8.8")))
	assert.False(t, acl.Reach{}.Allows(netip.MustParseAddr("8.8.8.8")))
}

// What some target may reach is never out of reach.
func TestReachMissesNothing(t *testing.T) {
	rule := rapid.SampledFrom([]string{"b.*", "a.test", "!a.test", "*.test", "!*.test:443", "a.*:80", "8.8.8.0/24", "!8.8.8.8", "!8.8.0.0/16:443",
		"2001:db8::/32", "!::/0", "169.254.169.254", "10.0.0.0/8:443"})
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rule, 0, 6).Draw(t, "rules")
		if rapid.Bool().Draw(t, "open") {
			rules = append(rules, "*")
		}
		p, err := acl.Parse(strings.Join(rules, "\n"))
		require.NoError(t, err)
		a := netip.MustParseAddr(rapid.SampledFrom([]string{"8.8.8.8", "8.8.8.9", "2001:db8::1", "169.254.169.254", "10.0.0.1"}).Draw(t, "addr"))
		port := rapid.SampledFrom([]string{"80", "443"}).Draw(t, "port")
		reach := false
		for _, host := range []string{"a.test", "b.test", "x.org", a.String()} {
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			target, err := acl.ParseTarget(host + ":" + port)
			require.NoError(t, err)
			if reach = p.DecideAddr(target, a).Verdict == acl.Allow; reach {
				require.True(t, p.Reach(target.Port).Allows(a))
			}
		}
	})
}
