package policy

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/acl"
)

// Zero values are a tenant all the same, one that may nothing.
func TestNobody(t *testing.T) {
	target, err := acl.ParseTarget("192.0.2.1:443")
	assert.NoError(t, err)
	for _, g := range []*Generation{nil, {}, New(Tenant{})} {
		tenant := g.Tenant(netip.MustParseAddr("192.0.2.7"))
		assert.Equal(t, acl.Deny, tenant.Rules.DecideHost(target).Verdict)
	}
}

func TestSources(t *testing.T) {
	assert.Equal(t, "the kernel's choice", Sources{}.String())
	assert.Equal(t, []netip.Addr{{}}, Sources{}.For(netip.MustParseAddr("192.0.2.1")))
	a, b, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")
	s := NewSources([]netip.Addr{six, a, netip.MustParseAddr("::ffff:192.0.2.2")})
	assert.Equal(t, "192.0.2.1, 192.0.2.2, 2001:db8::1", s.String())
	assert.Equal(t, []netip.Addr{a, b}, s.For(netip.MustParseAddr("198.51.100.1")))
	assert.Equal(t, []netip.Addr{six}, s.For(netip.MustParseAddr("2001:db8::9")))
	assert.Empty(t, NewSources([]netip.Addr{a}).For(six), "never reached from another address")
}
