package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/ca"
)

func mustTarget(t testing.TB, s string) acl.Target {
	t.Helper()
	target, err := acl.ParseTarget(s)
	require.NoError(t, err)
	return target
}

// withCA is a file whose "inspect" has a CA, and hosts.
func withCA(t testing.TB, hosts string) given {
	t.Helper()
	cert, key, err := ca.Make("test", []string{"example.com"}, nil, time.Now().Add(time.Hour))
	require.NoError(t, err)
	g := file("rules: '*'\ninspect:\n  caCert: ca.crt\n  caKey: ca.key\n  hosts:\n" + hosts)
	g.files["/etc/ca.crt"], g.files["/etc/ca.key"] = string(cert), string(key)
	g.files["/etc/token"] = "s3cr3t-of-the-api\n"
	return g
}

// A CA alone is for the tenants.
func TestInspectCAAlone(t *testing.T) {
	t.Parallel()
	g := withCA(t, "")
	text := g.files["/etc/sluice.yaml"]
	g.files["/etc/sluice.yaml"] = strings.Replace(text, "  hosts:\n", "", 1) + "tenants:\n- {name: a, clients: 10.0.0.0/8, rules: '*', inspect: {hosts: [{host: a.example.com, requests: '*'}]}}\n"
	p, err := g.load(t)
	require.NoError(t, err)
	assert.Empty(t, p.Inspect.All())
	require.Len(t, p.Tenants, 1)
	assert.NotNil(t, p.Tenants[0].Inspect.Certificate)
}

func TestInspect(t *testing.T) {
	t.Parallel()
	p, err := withCA(t, `
  - host: api.example.com
    requests: |
      # read only
      GET /repos/**
    headers:
      Authorization: {file: token, prefix: "Bearer "}
    maxBody: 10MiB
    browsers: true
  - {host: "*.pinned.example.com:8443", passthrough: true}
  - {host: gitlab.example.com, encodedSlash: segment, emptySegments: keep, requests: "GET /api/**"}
`).load(t)
	require.NoError(t, err)
	in := p.Inspect
	require.Len(t, in.All(), 3)
	api := in.Of(mustTarget(t, "api.example.com:443"), true)
	require.NotNil(t, api)
	assert.EqualValues(t, 10<<20, api.MaxBody)
	assert.True(t, api.Browsers)
	assert.Equal(t, "Bearer s3cr3t-of-the-api", string(api.Headers[0].AppendValue(nil)))
	d := api.Requests.Decide("GET", "/repos/a")
	assert.Equal(t, acl.Allow, d.Verdict)
	assert.Equal(t, "request rule /etc/sluice.yaml:10 GET /repos/**", d.String())
	assert.Nil(t, in.Of(mustTarget(t, "a.pinned.example.com:8443"), true))
	lab := in.Of(mustTarget(t, "gitlab.example.com:443"), true)
	assert.Equal(t, acl.Allow, lab.Requests.Decide("GET", "/api//a%2Fb").Verdict)
	c, err := in.Certificate("api.example.com")
	require.NoError(t, err)
	assert.Equal(t, []string{"api.example.com"}, c.Leaf.DNSNames)
	assert.Contains(t, p.Watch, "/etc/token")
}

// A tenant has its own, with the CA of the gateway unless it has one; and none without.
func TestInspectOfTenants(t *testing.T) {
	t.Parallel()
	g := withCA(t, "  - {host: api.example.com, requests: '*'}\n")
	g.files["/etc/sluice.yaml"] += "tenants:\n- {name: a, clients: 10.0.0.0/8, rules: '*', inspect: {hosts: [{host: b.example.com, requests: 'GET /'}]}}\n- {name: b, clients: 192.0.2.1, rules: '*'}\n"
	p, err := g.load(t)
	require.NoError(t, err)
	a := p.Tenants[0].Inspect
	assert.NotNil(t, a.Of(mustTarget(t, "b.example.com:443"), true))
	assert.Nil(t, a.Of(mustTarget(t, "api.example.com:443"), true))
	assert.NotNil(t, a.Certificate)
	assert.Nil(t, p.Tenants[1].Inspect)
}

// What cannot be read is no reason not to start: requests fail until it can.
func TestInspectUnreadable(t *testing.T) {
	t.Parallel()
	g := withCA(t, "  - {host: api.example.com, requests: '*', headers: {X-Key: {file: missing}, X-Empty: {file: empty}}}\n")
	g.files["/etc/empty"] = "\n"
	p, err := g.load(t)
	require.NoError(t, err)
	h := p.Inspect.All()[0].Headers
	require.Error(t, h[0].Problem)
	assert.EqualError(t, h[1].Problem, "/etc/empty is empty")
	assert.Contains(t, p.Warnings.Error(), "/etc/empty is empty: requests to api.example.com fail until it can be read")
	assert.Contains(t, p.Watch, "/etc/missing")
}

func TestInspectProblems(t *testing.T) {
	t.Parallel()
	for hosts, want := range map[string]string{
		"  - {requests: '*'}":                                                                    `:6: an inspected host wants a "host": a name, *.name or an address, with ports behind it or without`,
		"  - {host: '*', requests: '*'}":                                                         `:6: "*" is not the form of a host: write a name, *.name or an address, and ports behind it or none`,
		"  - {host: '!a.test', requests: '*'}":                                                   `:6: "!a.test" is not the form of a host: write a name, *.name or an address, and ports behind it or none`,
		"  - {host: a.test}":                                                                     `:6: "a.test" has no "requests"; to allow everything, write requests: "*"`,
		"  - {host: a.test, passthrough: true, requests: '*'}":                                   `:6: "a.test" is "passthrough": its tunnels are not opened, so nothing can be said of requests; leave the rest out`,
		"  - {host: a.test, requests: [a, b]}":                                                   `:6: "requests" wants a text, not a list: write "requests: |" and below it one rule a line, indented, without dashes`,
		"  - host: a.test\n    requests: |\n      GET /\n      get /":                            ":9: Bad request rule 'get /': methods are case-sensitive; write GET",
		"  - {host: a.test, requests: '*', encodedSlash: yes}":                                   `:6: "yes" is not "segment", which is all that can be said here; leave it out to refuse`,
		"  - {host: a.test, requests: '*', maxBody: 10GB}":                                       `:6: "10GB" is no size; write bytes, or a number with KiB or MiB`,
		"  - {host: a.test, requests: '*', headers: {Host: {file: token}}}":                      `:6: Host frames or routes a request, and is written by the proxy alone`,
		"  - {host: a.test, requests: '*', headers: {'X Y': {file: token}}}":                     `:6: "X Y" is no name of a header field`,
		"  - {host: a.test, requests: '*', headers: {X: {file: token}, x: {file: token}}}":       `:6: x stands here twice: names of fields have no case`,
		"  - {host: a.test, requests: '*', headers: {X: {file: blank}}}":                         `:6: /etc/blank begins or ends with a blank, which servers drop: it would not be found in an answer`,
		"  - {host: a.test, requests: '*', headers: {X: {prefix: a}}}":                           `:6: X wants a "file" that holds its value, so that no secret stands here`,
		"  - {host: a.test, requests: '*', headers: {X: {file: two}}}":                           `:6: /etc/two has a line end or another control byte inside, which no header field may`,
		"  - {host: a.test, requests: '*', headers: {X: {file: token, prefix: \"a\\r\\nY: \"}}}": `:6: "a\r\nY: " cannot stand in a header field`,
		"  - {host: a.test, requests: '*', bodies: 1}":                                           `:6: unknown key "bodies"`,
	} {
		g := withCA(t, hosts+"\n")
		g.files["/etc/blank"] = "one \n"
		g.files["/etc/two"] = "one\r\ntwo\n"
		_, err := g.load(t)
		assert.EqualError(t, err, "/etc/sluice.yaml"+want, hosts)
	}
	for text, want := range map[string]string{
		"inspect: {caCert: ca.crt, hosts: []}":                  `:1: "caCert" is of no use without its "caKey"`,
		"inspect: {hosts: {a: b}}":                              `:1: "inspect" wants "hosts", a list, each with "host" and "requests"`,
		"inspect: {caCert: leaf.crt, caKey: ca.key, hosts: []}": `:1: /etc/leaf.crt holds no certificate in PEM form`,
	} {
		g := withCA(t, "")
		g.files["/etc/sluice.yaml"] = text + "\nrules: '*'\n"
		g.files["/etc/leaf.crt"] = "nothing"
		_, err := g.load(t)
		require.Error(t, err)
		assert.Equal(t, "/etc/sluice.yaml"+want, strings.Split(err.Error(), "\n")[0], text)
	}
}

// Hosts for which the CA may not sign are warned of, of a tenant too; that there are no others is wrong.
func TestInspectConstraints(t *testing.T) {
	t.Parallel()
	const (
		none = "/etc/sluice.yaml:%d: the name constraints of the CA do not let it sign for %s: tunnels to it fail; make one that may, with sluice inspect ca"
		part = "/etc/sluice.yaml:%d: the name constraints of the CA let it sign for a part of %s only: tunnels to the rest fail; make one that may, with sluice inspect ca"
	)
	g := withCA(t, `
  - {host: api.example.com, requests: '*'}
  - {host: "api.example.org:8443", requests: '*'}
  - {host: "*.com", requests: '*'}
  - {host: 192.0.2.1, requests: '*'}
  - {host: other.test, passthrough: true}
`)
	g.files["/etc/sluice.yaml"] += "tenants:\n- {name: a, clients: 10.0.0.0/8, rules: '*', inspect: {hosts: [{host: b.example.com, requests: '*'}, {host: c.test, requests: '*'}]}}\n"
	p, err := g.load(t)
	require.NoError(t, err)
	assert.Equal(t, strings.Join([]string{
		fmt.Sprintf(none, 8, "api.example.org:8443"), fmt.Sprintf(part, 9, "*.com"), fmt.Sprintf(none, 10, "192.0.2.1"), fmt.Sprintf(none, 13, "c.test"),
	}, "\n"), p.Warnings.Error())

	const wrong = "/etc/sluice.yaml:%d: the name constraints of the CA do not let it sign for any of these hosts: every tunnel to them would fail; make one that may, with sluice inspect ca"
	g = withCA(t, "  - {host: a.test, requests: '*'}\n  - {host: b.test, requests: '*'}\n  - {host: c.test, passthrough: true}\n")
	_, err = g.load(t)
	assert.EqualError(t, err, fmt.Sprintf(wrong, 6))
	g = withCA(t, "  - {host: a.example.com, requests: '*'}\n")
	g.files["/etc/sluice.yaml"] += "tenants:\n- {name: a, clients: 10.0.0.0/8, rules: '*', inspect: {hosts: [{host: c.test, requests: '*'}]}}\n"
	_, err = g.load(t)
	assert.EqualError(t, err, fmt.Sprintf(wrong, 8))
	g = withCA(t, "  - {host: c.test, passthrough: true}\n")
	p, err = g.load(t)
	require.NoError(t, err)
	assert.Empty(t, p.Warnings)
}
