package ca

import (
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestServes(t *testing.T) {
	a, _ := authority(t, []string{"api.example.com", "test"}, netip.MustParsePrefix("192.0.2.0/25"), netip.MustParsePrefix("2001:db8::/64"))
	for name, want := range map[string]Serves{"api.example.com": Every, "v1.api.example.com": Every, "example.com": None, "xapi.example.com": None} {
		assert.Equal(t, want, a.ServesName(name), name)
	}
	for name, want := range map[string]Serves{"api.example.com": Every, "a.test": Every, "test": Every, "example.com": Some, "com": Some, "example.org": None, "pi.example.com": None} {
		assert.Equal(t, want, a.ServesBelow(name), name)
	}
	for prefix, want := range map[string]Serves{
		"192.0.2.1/32": Every, "192.0.2.128/32": None, "192.0.2.0/25": Every, "192.0.2.0/24": Some, "192.0.0.0/16": Some, "198.51.100.0/24": None,
		"2001:db8::1/128": Every, "2001:db8:0:1::1/128": None, "2001:db8::/32": Some, "2001:d00::/24": Some, "2001:db8:0:0:1::/80": Every,
	} {
		assert.Equal(t, want, a.ServesIn(netip.MustParsePrefix(prefix)), prefix)
	}
	names, _ := authority(t, []string{"api.example.com"})
	assert.Equal(t, None, names.ServesIn(netip.MustParsePrefix("192.0.2.1/32")), "one for names is for no address")
	a.cert.ExcludedDNSDomains = []string{"no.a.test"}
	assert.Equal(t, Some, a.ServesBelow("test"))
}

// A CA that is bound to nothing is for all, and signs nothing to find that out; one that is valid later
// is for whom it will be.
func TestServesUnbound(t *testing.T) {
	free := &Authority{cert: &x509.Certificate{IsCA: true}}
	assert.Equal(t, Every, free.ServesName("a.test"))
	assert.Equal(t, Every, free.ServesBelow("a.test"))
	assert.Equal(t, Every, free.ServesIn(netip.MustParsePrefix("192.0.2.0/24")))
	later, _ := authority(t, []string{"test"})
	later.cert.NotBefore = time.Now().Add(time.Minute)
	assert.Equal(t, Every, later.ServesName("a.test"))
}
