package outbound

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

const openingRules = `!*.denied.test
!10.0.0.0/8
a.test
*.b.test #@ protocol=tls
ssh.test:443 #@ protocol=ssh
http.test #@ protocol=http
mail.test #@ protocol=any
single
192.0.2.0/24
`

// openingOf is what the first bytes of a tunnel to the target are judged by.
func openingOf(t testing.TB, mode policy.TunnelCheck, target string, inUse string) *Opening {
	t.Helper()
	rules, err := acl.Parse(openingRules)
	require.NoError(t, err)
	to, err := acl.ParseTarget(target)
	require.NoError(t, err)
	set := policy.Set{Rest: policy.Tenant{Rules: rules}, Check: mode}
	gen := set.Generation()
	return NewOpening(gen, &Ticket{Tenant: gen.Tenant(netip.Addr{})}, to, netip.MustParseAddr(inUse))
}

func helloFor(t testing.TB, name string) string {
	return string(nettest.ClientHello(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}))
}

// named is a ClientHello whose server name is any bytes.
func named(name string) string {
	var b cryptobyte.Builder
	b.AddBytes([]byte("\x16\x03\x01"))
	b.AddUint16LengthPrefixed(func(r *cryptobyte.Builder) {
		r.AddUint8(1)
		r.AddUint24LengthPrefixed(func(m *cryptobyte.Builder) {
			m.AddBytes(make([]byte, 2+32+1))
			m.AddUint16(0)
			m.AddUint8(0)
			m.AddUint16LengthPrefixed(func(e *cryptobyte.Builder) {
				e.AddUint16(0)
				e.AddUint16LengthPrefixed(func(x *cryptobyte.Builder) {
					x.AddUint16LengthPrefixed(func(l *cryptobyte.Builder) {
						l.AddUint8(0)
						l.AddUint16LengthPrefixed(func(n *cryptobyte.Builder) { n.AddBytes([]byte(name)) })
					})
				})
			})
		})
	})
	return string(b.BytesOrPanic())
}

func TestOpening(t *testing.T) {
	const at = "198.51.100.1"
	http, ssh := "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"
	for name, tt := range map[string]struct {
		target, inUse, first string
		want                 Problem
	}{
		"the name":                     {"a.test:443", at, helloFor(t, "a.test"), 0},
		"the name, spelt otherwise":    {"a.test:443", at, helloFor(t, "A.Test"), 0},
		"with a dot":                   {"a.test:443", at, named("a.test."), 0},
		"another that may be":          {"a.test:443", at, helloFor(t, "x.b.test"), 0},
		"another that may be here":     {"a.test:443", "192.0.2.7", helloFor(t, "any.test"), 0},
		"another that may not be here": {"a.test:443", at, helloFor(t, "any.test"), OtherName},
		"another that is denied":       {"a.test:443", "192.0.2.7", helloFor(t, "x.denied.test"), OtherName},
		"at another port too":          {"a.test:8443", at, helloFor(t, "x.denied.test"), OtherName},
		"no name for a name":           {"a.test:443", at, helloFor(t, ""), NoName},
		"no name for a single label":   {"single:443", at, helloFor(t, ""), 0},
		"a name that is none":          {"a.test:443", at, named("a test"), OtherName},
		"a NUL in it":                  {"a.test:443", at, named("a.test\x00.denied.test"), OtherName},
		"its address for a name":       {"a.test:443", at, named(at), 0},
		"another address for a name":   {"a.test:443", at, named("10.0.0.1"), OtherName},
		"no name for an address":       {"192.0.2.7:443", "192.0.2.7", helloFor(t, ""), 0},
		"an allowed name for it":       {"192.0.2.7:443", "192.0.2.7", helloFor(t, "any.test"), 0},
		"a denied name for it":         {"192.0.2.7:443", "192.0.2.7", helloFor(t, "x.denied.test"), OtherName},
		"no TLS at 443":                {"a.test:443", at, http, OtherProtocol},
		"no TLS elsewhere":             {"a.test:25", at, "EHLO a\r\n", 0},
		"no TLS where a rule wants it": {"x.b.test:993", at, http, OtherProtocol},
		"TLS where a rule wants it":    {"x.b.test:993", at, helloFor(t, "x.b.test"), 0},
		"ssh":                          {"ssh.test:443", at, ssh, 0},
		"TLS in the place of ssh":      {"ssh.test:443", at, helloFor(t, "ssh.test"), OtherProtocol},
		"ssh in the place of TLS":      {"a.test:443", at, ssh, OtherProtocol},
		"http":                         {"http.test:80", at, http, 0},
		"http, an upgrade of 2":        {"http.test:80", at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0},
		"TLS in the place of http":     {"http.test:443", at, helloFor(t, "http.test"), OtherProtocol},
		"no method":                    {"http.test:80", at, " / HTTP/1.1\r\n", OtherProtocol},
		"a method without end":         {"http.test:80", at, strings.Repeat("A", 40), OtherProtocol},
		"an alert in the place of TLS": {"a.test:443", at, "\x15\x03\x01\x00\x02\x01\x00", OtherProtocol},
	} {
		o := openingOf(t, policy.CheckEnforce, tt.target, tt.inUse)
		require.NotNil(t, o, name)
		f, over, _ := o.Judge([]byte(tt.first), MayCome)
		require.True(t, over, name)
		assert.Equal(t, tt.want, f.Problem, "%s: %s", name, f.Details)
		assert.Equal(t, tt.want != 0, f.Details != "", name)
	}
	f, _, _ := openingOf(t, policy.CheckEnforce, "a.test:443", at).Judge([]byte(helloFor(t, "X.b.test")), MayCome)
	assert.Equal(t, "x.b.test:443", f.Other.String(), "by which it may be revoked")
	assert.Nil(t, openingOf(t, policy.CheckEnforce, "mail.test:443", at), "any: nothing is looked at")
	assert.Nil(t, openingOf(t, policy.CheckOff, "a.test:443", at))
	assert.False(t, openingOf(t, policy.CheckLog, "a.test:443", at).Enforce)
	assert.True(t, openingOf(t, policy.CheckLog, "a.test:443", at).Wants())
	assert.False(t, openingOf(t, policy.CheckLog, "a.test:25", at).Wants(), "a server may speak first there")
}

// A tunnel that is not opened leads to no inspected host, whatever it was asked for by, and whatever its port
// where no entry says that tunnels there pass.
func TestOpeningOfInspected(t *testing.T) {
	all, err := request.Parse("*", request.Options{})
	require.NoError(t, err)
	inspect, err := policy.NewInspect([]policy.Inspected{
		{Host: "api.b.test", Requests: all}, {Host: "let.b.test:8443", Passthrough: true}, {Host: "let.b.test", Requests: all}})
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		target, first string
		want          Problem
	}{
		"by another name":                     {"a.test:443", "api.b.test", OtherName},
		"by another name, at another port":    {"a.test:8443", "api.b.test", OtherName},
		"by an address, at another port":      {"192.0.2.7:8443", "api.b.test", OtherName},
		"protocol=any, at another port":       {"mail.test:8443", "api.b.test", OtherName},
		"protocol=any":                        {"mail.test:443", "api.b.test", OtherName},
		"at a port where tunnels pass":        {"a.test:8443", "let.b.test", 0},
		"by an address, where tunnels pass":   {"192.0.2.7:8443", "let.b.test", 0},
		"protocol=any, where tunnels pass":    {"mail.test:8443", "let.b.test", 0},
		"beside the port where tunnels pass":  {"a.test:8444", "let.b.test", OtherName},
		"by the name, where tunnels pass":     {"let.b.test:8443", "let.b.test", 0},
		"a host that nothing is asked about":  {"a.test:8443", "x.b.test", 0},
		"protocol=any, a host without a rule": {"mail.test:8443", "any.test", 0},
	} {
		at := "198.51.100.1"
		if strings.HasPrefix(tt.target, "192") {
			at = "192.0.2.7"
		}
		o := openingOf(t, policy.CheckEnforce, "a.test:443", at)
		to, err := acl.ParseTarget(tt.target)
		require.NoError(t, err)
		o.target, o.inspect, o.want = to, inspect, ""
		if strings.HasPrefix(name, "protocol=any") {
			o.want = "any"
		}
		f, over, _ := o.Judge([]byte(helloFor(t, tt.first)), MayCome)
		require.True(t, over, name)
		assert.Equal(t, tt.want, f.Problem, "%s: %s", name, f.Details)
	}
}

// What does not end, or comes to no end, is told from what is only slow.
func TestOpeningWithoutEnd(t *testing.T) {
	const at = "198.51.100.1"
	begun := helloFor(t, "a.test")[:100]
	endless := strings.Repeat("\x16\x03\x01\x00\x01\x01"+"\x16\x03\x01\x00\x01\x00"+strings.Repeat("\x16\x03\x01\x00\x01\xff", 2), 1)
	endless += strings.Repeat("\x16\x03\x01\x00\x01\x00", OpeningMost/6)
	for name, tt := range map[string]struct {
		target, first string
		last          Last
		over          bool
		want          Problem
	}{
		"nothing yet":                 {"a.test:443", "", MayCome, false, 0},
		"a part":                      {"a.test:443", begun, MayCome, false, 0},
		"a part, and the end":         {"a.test:443", begun, Ended, true, OtherProtocol},
		"a part, and too late":        {"a.test:443", begun, Late, true, TooSlow},
		"a part, and no room":         {"a.test:443", begun, Full, true, TooLong},
		"nothing, and the end":        {"a.test:443", "", Ended, true, 0},
		"nothing, and too late":       {"a.test:443", "", Late, true, TooSlow},
		"a part elsewhere, and end":   {"a.test:25", begun, Ended, true, 0},
		"a part elsewhere, too late":  {"a.test:25", begun, Late, true, TooSlow},
		"records without end":         {"a.test:443", endless, MayCome, true, TooLong},
		"a part of ssh":               {"ssh.test:443", "SSH", MayCome, false, 0},
		"no part of ssh":              {"ssh.test:443", "SSL", MayCome, true, OtherProtocol},
		"a part of ssh, and the end":  {"ssh.test:443", "SSH", Ended, true, OtherProtocol},
		"a part of ssh, and too late": {"ssh.test:443", "SSH", Late, true, TooSlow},
		"a part of http":              {"http.test:80", "GET", MayCome, false, 0},
	} {
		f, over, least := openingOf(t, policy.CheckEnforce, tt.target, at).Judge([]byte(tt.first), tt.last)
		assert.Equal(t, tt.over, over, name)
		assert.Equal(t, tt.want, f.Problem, "%s: %s", name, f.Details)
		if !over {
			assert.Greater(t, least, len(tt.first), name)
		}
	}
}

// However a client cuts what it says, the judgement is the same, and least never hides it.
func TestOpeningInPieces(t *testing.T) {
	const at = "198.51.100.1"
	firsts := []string{helloFor(t, "a.test"), helloFor(t, "x.denied.test"), helloFor(t, ""), named("a test"), "GET / HTTP/1.1\r\n", "SSH-2.0-x\r\n", "\x16\x03\x01\x00\x05\x02abcd"}
	targets := []string{"a.test:443", "a.test:25", "x.b.test:443", "ssh.test:443", "http.test:80", "192.0.2.7:443"}
	rapid.Check(t, func(rt *rapid.T) {
		first := []byte(rapid.SampledFrom(firsts).Draw(rt, "first"))
		target := rapid.SampledFrom(targets).Draw(rt, "target")
		inUse := at
		if strings.HasPrefix(target, "192") {
			inUse = "192.0.2.7"
		}
		want, over, _ := openingOf(t, policy.CheckEnforce, target, inUse).Judge(first, MayCome)
		require.True(rt, over)
		o, least := openingOf(t, policy.CheckEnforce, target, inUse), 0
		for n := 0; ; {
			n = min(len(first), n+rapid.IntRange(1, 1+len(first)/3).Draw(rt, "piece"))
			if n < least {
				require.Less(rt, n, len(first), "it must be asked once all has come")
				continue
			}
			f, over, more := o.Judge(first[:n], MayCome)
			if over {
				require.Equal(rt, want, f)
				return
			}
			require.Less(rt, n, len(first))
			least = more
		}
	})
}

// ECH is counted, and the outer name judged.
func TestOpeningECH(t *testing.T) {
	hello := string(nettest.ClientHello(t, &tls.Config{ServerName: "secret.test", MinVersion: tls.VersionTLS13,
		EncryptedClientHelloConfigList: nettest.ECHConfigs(t, "a.test")}))
	f, over, _ := openingOf(t, policy.CheckEnforce, "a.test:443", "198.51.100.1").Judge([]byte(hello), MayCome)
	require.True(t, over)
	assert.Equal(t, Found{Hello: true, ECH: true}, f)
	f, _, _ = openingOf(t, policy.CheckEnforce, "x.b.test:443", "198.51.100.1").Judge([]byte(strings.Replace(hello, "a.test", "d.test", 1)), MayCome)
	assert.Equal(t, OtherName, f.Problem)
}
