package auth

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Wrong credentials are counted to who has sent them, whichever of its addresses it takes.
func TestSite(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"2001:db8:1:2::1%eth0": "2001:db8:1:2::", "::1": "::",
	} {
		assert.Equal(t, want, site(netip.MustParseAddr(addr)).String(), addr)
	}
	assert.False(t, site(netip.Addr{}).IsValid())
}
