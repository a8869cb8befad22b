package acl

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// By the name alone rules for addresses are as if they were not there, and so is the guard but for
// what a name tells.
func TestDecideName(t *testing.T) {
	t.Parallel()
	p, err := Parse("!10.0.0.0/8\n192.0.2.0/24\n!bad.example\n*.example:443\nlocalhost\n*.localhost\nmetadata.google.internal\n203.0.113.1\n")
	require.NoError(t, err)
	for _, tt := range []struct {
		verdict string
		target  string
		reason  string
		off     string // with the guard off
	}{
		{"allow", "a.example:443", "line 4 *.example:443", ""},
		{"deny", "bad.example:443", "line 3 !bad.example", ""},
		{"deny", "a.example:80", "default", ""},
		{"deny", "b.test:443", "default", ""},
		{"deny", "localhost:80", "guard loopback", "line 5 localhost"},
		{"deny", "x.localhost:80", "guard loopback", "line 6 *.localhost"},
		{"deny", "metadata.google.internal:80", "guard metadata", "line 7 metadata.google.internal"},
		{"deny", "10.1.1.1:443", "line 1 !10.0.0.0/8", ""},
		{"allow", "203.0.113.1:443", "line 8 203.0.113.1", ""},
	} {
		target, err := ParseTarget(tt.target)
		require.NoError(t, err)
		d := p.DecideName(target)
		assert.Equal(t, tt.verdict, d.Verdict.String(), tt.target)
		assert.Equal(t, tt.reason, d.Reason(), tt.target)
		if tt.off != "" {
			d = p.WithGuard(Guard{Mode: GuardOff}).DecideName(target)
			assert.Equal(t, Allow, d.Verdict)
			assert.Equal(t, tt.off, d.Reason())
		}
	}
	var none *Policy
	assert.Equal(t, Decision{}, none.DecideName(Target{}))
	assert.Equal(t, Decision{}, p.DecideName(Target{}))
	for _, s := range []string{"0x7f.1:80", "2130706433:80", "127.1:80", "0177.0.0.1:80"} { // addresses to some resolvers
		_, err := ParseTarget(s)
		assert.Error(t, err, s)
	}
}
