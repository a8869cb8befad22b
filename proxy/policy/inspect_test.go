package policy

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/request"
)

func TestInspectOf(t *testing.T) {
	in, err := NewInspect([]Inspected{{Host: "api.example.com:9443", Passthrough: true}, {Host: "api.example.com:8444"}, {Host: "api.example.com"}, {Host: "pinned.example.com", Passthrough: true}, {Host: "*.example.com:443,8443"},
		{Host: "192.0.2.0/24"}, {Host: "[2001:db8::1]:8443"}})
	require.NoError(t, err)
	for target, want := range map[string][2]string{ // by TLS, and in plain
		"api.example.com:443":    {"api.example.com", "api.example.com"},
		"api.example.com:8443":   {"*.example.com:443,8443", "*.example.com:443,8443"},
		"api.example.com:8444":   {"api.example.com:8444", "api.example.com:8444"},
		"api.example.com:9443":   {"", "api.example.com"},
		"api.example.com:80":     {"", "api.example.com"},
		"pinned.example.com:443": {"", ""},
		"x.example.com:8443":     {"*.example.com:443,8443", "*.example.com:443,8443"},
		"x.example.com:9000":     {"", "*.example.com:443,8443"},
		"example.org:443":        {"", ""},
		"192.0.2.7:443":          {"192.0.2.0/24", "192.0.2.0/24"},
		"192.0.3.7:443":          {"", ""},
		"[2001:db8::1]:8443":     {"[2001:db8::1]:8443", "[2001:db8::1]:8443"},
		"[2001:db8::1]:443":      {"", "[2001:db8::1]:8443"},
	} {
		to, err := acl.ParseTarget(target)
		require.NoError(t, err)
		for i, byTLS := range []bool{true, false} {
			got := ""
			if h := in.Of(to, byTLS); h != nil {
				got = h.Host
			}
			assert.Equal(t, want[i], got, "%s %v", target, byTLS)
		}
	}
	assert.Nil(t, (*Inspect)(nil).Of(acl.Target{}, true))
	for target, want := range map[string]bool{"api.example.com:22": true, "api.example.com:80": true, "api.example.com:443": false, "api.example.com:9443": false,
		"pinned.example.com:22": false, "x.example.com:22": true, "example.org:22": false, "192.0.2.7:22": true, "192.0.3.7:22": false} {
		to, err := acl.ParseTarget(target)
		require.NoError(t, err)
		assert.Equal(t, want, in.Elsewhere(to), target)
	}
	assert.False(t, (*Inspect)(nil).Elsewhere(acl.Target{}))
	for _, bad := range []string{"", "*", "!a.test", "a.test\nb.test", "a b", "https://a.test"} {
		_, err := NewInspect([]Inspected{{Host: bad}})
		assert.Error(t, err, bad)
	}
}

func TestShownBy(t *testing.T) {
	const secret = "s3cr3t-token-value"
	h := NewHeader("Authorization", "Bearer ", []byte(secret))
	in := Inspected{Headers: []Header{NewHeader("X", "", []byte("1234567")), h}}
	assert.Equal(t, "Bearer "+secret, string(h.AppendValue(nil)))
	for pad := range 4 {
		text := "abcd"[:pad] + secret + "\xff\xff"
		for name, shown := range map[string]string{"plain": text, "std": base64.StdEncoding.EncodeToString([]byte(text)), "url": base64.RawURLEncoding.EncodeToString([]byte(text))} {
			for _, shown := range []string{shown, strings.ToLower(shown), strings.ToUpper(shown)} { // as names of fields come
				assert.True(t, in.ShownBy([]byte("HTTP/1.1 200 OK\r\nX: "+shown+"\r\n\r\n")), "%s %d", name, pad)
			}
		}
	}
	assert.True(t, in.ShownBy([]byte(strings.Repeat("x", 64<<10)+"S3cr3t-Token-Value: 1")))
	assert.False(t, in.ShownBy([]byte("HTTP/1.1 200 OK\r\nX: s3cr3t-token-valu\r\nY: 1234567\r\n\r\n")), "a part of one, and one that is short")
	assert.False(t, new(Inspected).ShownBy([]byte("x")))
}

// What requests are asked is part of what the policy is called, in any spelling; values of
// credentials are not, nor is that nothing is asked.
func TestInspectInHash(t *testing.T) {
	hash := func(hosts ...Inspected) string {
		s := Set{}
		if hosts != nil {
			in, err := NewInspect(hosts)
			require.NoError(t, err)
			s.Rest.Inspect = in
		}
		return s.Hash()
	}
	rules := func(text string, o request.Options) *request.Rules {
		r, err := request.Parse(text, o)
		require.NoError(t, err)
		return r
	}
	none := hash()
	assert.Equal(t, (&Set{}).Hash(), none)
	one := hash(Inspected{Host: "API.example.com", Requests: rules("GET,HEAD /%61", request.Options{}), Headers: []Header{NewHeader("X", "", []byte("one"))}})
	assert.Equal(t, one, hash(Inspected{Host: "api.example.com.", Requests: rules("# a\nHEAD,GET  /a", request.Options{}), Headers: []Header{NewHeader("x", "", []byte("two"))}}))
	seen := map[string]bool{none: true, one: true}
	for _, h := range []Inspected{
		{Host: "api.example.com", Requests: rules("GET,HEAD /a", request.Options{})},
		{Host: "api.example.com", Requests: rules("GET,HEAD /a", request.Options{EncodedSlash: true})},
		{Host: "api.example.com", Requests: rules("GET,HEAD /a", request.Options{EmptySegments: true})},
		{Host: "api.example.com", Requests: rules("GET,HEAD /a", request.Options{}), MaxBody: 5},
		{Host: "api.example.com", Requests: rules("GET,HEAD /a", request.Options{}), Browsers: true},
		{Host: "api.example.com", Passthrough: true},
		{Host: "api.example.com"},
		{Host: "*.example.com"},
	} {
		assert.False(t, seen[hash(h)], "%+v", h)
		seen[hash(h)] = true
	}
}

// What is put in tells connections apart, and does not show itself.
func TestCredential(t *testing.T) {
	in, err := NewInspect([]Inspected{{Host: "a.test"}, {Host: "b.test", Headers: []Header{NewHeader("A", "", []byte("value-of-b"))}},
		{Host: "c.test", Headers: []Header{NewHeader("A", "", []byte("value-of-c"))}}})
	require.NoError(t, err)
	a, b, c := in.All()[0], in.All()[1], in.All()[2]
	assert.Empty(t, a.Credential())
	assert.NotEqual(t, b.Credential(), c.Credential())
	assert.NotContains(t, b.Credential(), "value-of-b")
}
