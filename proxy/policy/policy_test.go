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

// Of the sources those are of use that are held; who has none held reaches nothing.
func TestSourcesHeld(t *testing.T) {
	a, b, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		want      string
		all, held []netip.Addr
		v4, v6    int // sources for a target of the family
		isNowhere bool
	}{
		{"192.0.2.1, 2001:db8::1", []netip.Addr{a, b, six}, []netip.Addr{six, a}, 1, 1, false},
		{"192.0.2.2", []netip.Addr{a, b, six}, []netip.Addr{b}, 1, 0, false},
		{"192.0.2.1, 2001:db8::1", nil, []netip.Addr{a, six}, 1, 1, false},
		{"none for now: another replica holds it", []netip.Addr{a}, []netip.Addr{b}, 0, 0, true},
		{"none for now: another replica holds it", []netip.Addr{a}, nil, 0, 0, true},
		{"none for now: another replica holds it", nil, nil, 0, 0, true},
	} {
		s := NewSources(tt.all).Held(tt.held)
		assert.Equal(t, tt.want, s.String())
		assert.Equal(t, tt.isNowhere, s.Nowhere())
		assert.Len(t, s.For(netip.MustParseAddr("198.51.100.1")), tt.v4)
		assert.Len(t, s.For(netip.MustParseAddr("2001:db8::99")), tt.v6)
	}
}
