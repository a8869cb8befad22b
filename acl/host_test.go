package acl_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

func TestParseTarget(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := strings.Repeat("a.", 126) + "a" // 253 octets
	for _, c := range []struct{ in, want string }{
		{"www.example.com:443", "www.example.com:443"},
		{"WWW.Example.COM.:443", "www.example.com:443"},
		{"registry:5000", "registry:5000"},
		{"x:1", "x:1"},
		{"_dmarc.example.com:65535", "_dmarc.example.com:65535"},
		{"cafe.de:80", "cafe.de:80"},
		{"xn--bcher-kva.example:80", "xn--bcher-kva.example:80"},
		{label + ".com:80", label + ".com:80"},
		{long + ":80", long + ":80"},
		{long + ".:80", long + ":80"},
		{"192.0.2.1:80", "192.0.2.1:80"},
		{"192.0.2.1.:80", "192.0.2.1:80"},
		{"[2001:DB8::1]:80", "[2001:db8::1]:80"},
		{"[2001:db8:0:0::0:1]:80", "[2001:db8::1]:80"},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1:80"},
		{"[::ffff:c000:201]:80", "192.0.2.1:80"},
		{"[::192.0.2.1]:80", "[::c000:201]:80"},
		{"0x.example:80", "0x.example:80"},
		{"example.7f:80", "example.7f:80"},
		{"example.0xg:80", "example.0xg:80"},
	} {
		got, err := acl.ParseTarget(c.in)
		require.NoError(t, err, c.in)
		require.Equal(t, c.want, got.String(), c.in)
		again, err := acl.ParseTarget(got.String())
		require.NoError(t, err, c.in)
		require.Equal(t, got, again, c.in)
	}
}

func TestParseTargetRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "no port",
		":80":                    "no host",
		"example.com":            "no port",
		"example.com:":           "no port",
		"example.com:0":          "port 0",
		"example.com:00":         "port 0",
		"example.com:080":        "leading zeros",
		"example.com:65536":      "above 65535",
		"example.com:4294967376": "above 65535",
		"example.com:-1":         "not a number",
		"example.com:+1":         "not a number",
		"example.com:8O":         "not a number",
		"example.com: 80":        "not a number",
		"example.com:80 ":        "not a number",
		"example.com:80:80":      "more than one colon",
		"::1:80":                 "more than one colon",
		"2001:db8::1":            "more than one colon",
		"[::1]":                  "no port",
		"[::1":                   "without its `]`",
		"[::1]80":                "behind `]`",
		"[::1]:":                 "no port",
		"[::1]:80:80":            "more than one colon",
		"[]:80":                  "brackets are for IPv6",
		"[192.0.2.1]:80":         "brackets are for IPv6",
		"[example.com]:80":       "brackets are for IPv6",
		"[v1.x]:80":              "brackets are for IPv6",
		"[v1.x:y]:80":            "not an IPv6 address",
		"[fe80::1%eth0]:80":      "zone",
		"[fe80::1%25eth0]:80":    "zone",
		"[::1]]:80":              "behind `]`",
		"[[::1]]:80":             "behind `]`",
		"user@example.com:80":    "user information",
		"user:pw@[::1]:80":       "user information",
		"@example.com:80":        "user information",
		"http://example.com:80":  "more than one colon",
		"example.com/x:80":       "'/'",
		"exam%70le.com:80":       "'%'",
		"exam ple.com:80":        "' '",
		"*.example.com:80":       "`*`",
		"example.com\x00:80":     `'\x00'`,
		"example.com\n:80":       `'\n'`,
		"bücher.example:80":      "A-labels",
		"b\xfccher.example:80":   "A-labels",
		"example..com:80":        "empty label",
		".example.com:80":        "empty label",
		"example.com..:80":       "empty label",
		".:80":                   "empty label",
		"127.1:80":               "not an IPv4 address",
		"0177.0.0.1:80":          "not an IPv4 address",
		"0x7f000001:80":          "not an IPv4 address",
		"0X7F.1:80":              "not an IPv4 address",
		"2130706433:80":          "not an IPv4 address",
		"10.0.0.256:80":          "not an IPv4 address",
		"1.2.3.4.5:80":           "not an IPv4 address",
		"example.0x:80":          "not an IPv4 address",
		"a.127.0.0.1:80":         "not an IPv4 address",
		"127.0.0.1..:80":         "empty label",

		strings.Repeat("a", 64) + ".com:80":       "longer than 63",
		"a." + strings.Repeat("a", 64) + ":80":    "longer than 63",
		strings.Repeat("a.", 126) + "aa:80":       "longer than 253",
		strings.Repeat("a.", 100_000) + "aa:80":   "longer than 253",
		strings.Repeat("a", 100_000) + ".com:443": "longer than 63",
	} {
		got, err := acl.ParseTarget(in)
		require.ErrorContains(t, err, want, in)
		require.Equal(t, acl.Target{}, got, in)
		require.ErrorContains(t, err, "bad target '", in)
		require.Equal(t, strings.Contains(in, "@"), errors.Is(err, acl.ErrUserInfo), in)
		require.Less(t, len(err.Error()), 500)
	}
}

func TestParseTargetDefault(t *testing.T) {
	for in, want := range map[string]string{
		"example.com":      "example.com:443",
		"example.com:":     "example.com:443",
		"example.com:80":   "example.com:80",
		"192.0.2.1":        "192.0.2.1:443",
		"[2001:db8::1]":    "[2001:db8::1]:443",
		"[2001:db8::1]:":   "[2001:db8::1]:443",
		"[2001:db8::1]:80": "[2001:db8::1]:80",
		"[::ffff:1.2.3.4]": "1.2.3.4:443",
	} {
		got, err := acl.ParseTargetDefault(in, 443)
		require.NoError(t, err, in)
		require.Equal(t, want, got.String(), in)
	}
	for _, in := range []string{"", ":", "2001:db8::1", "example.com:0", "user@example.com", "example.com:x", "[::1]x"} {
		_, err := acl.ParseTargetDefault(in, 443)
		require.Error(t, err, in)
	}
	_, err := acl.ParseTargetDefault("example.com", 0)
	require.ErrorContains(t, err, "no port")
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"Example.com.":       "example.com",
		"192.0.2.1":          "192.0.2.1",
		"2001:db8::1":        "2001:db8::1",
		"[2001:db8::1]":      "2001:db8::1",
		"::ffff:192.0.2.1":   "192.0.2.1",
		"[::ffff:192.0.2.1]": "192.0.2.1",
	} {
		h, err := acl.ParseHost(in)
		require.NoError(t, err, in)
		require.Equal(t, want, h.String(), in)
		require.True(t, h.IsValid())
		require.NotEqual(t, h.IsName(), h.IsAddr())
		again, err := acl.ParseHost(h.String())
		require.NoError(t, err)
		require.Equal(t, h, again)
		if h.IsAddr() {
			require.Equal(t, h, acl.HostFromAddr(netip.MustParseAddr(strings.Trim(in, "[]"))))
			require.Empty(t, h.Name())
		} else {
			require.Equal(t, want, h.Name())
			require.False(t, h.Addr().IsValid())
		}
	}
	for _, in := range []string{"", "[]", "[::1", "::1]", "[1.2.3.4]", "fe80::1%1", "example.com:80", "bücher.example", "1.2"} {
		h, err := acl.ParseHost(in)
		require.ErrorContains(t, err, "bad host '", in)
		require.Equal(t, acl.Host{}, h)
	}
	require.False(t, acl.Host{}.IsValid())
	require.Equal(t, "", acl.Host{}.String())
	require.Equal(t, "", acl.Target{}.String())
	require.Equal(t, acl.Host{}, acl.HostFromAddr(netip.Addr{}))
	require.Equal(t, acl.Host{}, acl.HostFromAddr(netip.MustParseAddr("fe80::1%eth0")))
}
