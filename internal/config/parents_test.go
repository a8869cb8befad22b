package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withFiles is a file with what parents are shown.
func withFiles(t testing.TB, text string) given {
	t.Helper()
	g := file(text)
	g.files["/etc/login"] = "gate:s3cr3t-of-the-parent\n"
	g.files["/etc/token"] = "abc.DEF-123_~+/==\n"
	g.files["/etc/ca.pem"] = rootPEM(t)
	g.files["/etc/two"] = "a:b\nc:d\n"
	g.files["/etc/bare"] = "gate\n"
	g.files["/etc/empty"] = "\n"
	return g
}

func TestParents(t *testing.T) {
	t.Parallel()
	g := withFiles(t, `rules: |
  10.0.0.0/8
  *.example
parents:
  - for: ["*.corp.example", 10.0.0.0/8]
    via:
      - {url: "https://Proxy1.corp.example:3129/", ca: ca.pem, basic: {file: login}}
      - url: http://10.1.2.3:3128
        token: {file: token}
      - direct
  - {via: "http://[2001:db8::1]:3128", connect: name}
tenants:
  - {name: a, clients: 192.0.2.1, rules: "*"}
  - {name: b, clients: 192.0.2.2, rules: "*", parents: []}
  - {name: c, clients: 192.0.2.3, rules: "10.0.0.0/8\n*", parents: [{for: x.test, via: http://c.test:1, connect: name}]}
`)
	p, err := g.load(t)
	require.NoError(t, err)
	ways := p.Parents.All()
	require.Len(t, ways, 2)
	first := ways[0].Via
	assert.Equal(t, []string{"https://proxy1.corp.example:3129", "http://10.1.2.3:3128", "direct"}, []string{first[0].String(), first[1].String(), first[2].String()})
	assert.Equal(t, "Proxy-Authorization: Basic Z2F0ZTpzM2NyM3Qtb2YtdGhlLXBhcmVudA==\r\n", string(first[0].AppendLogin(nil)))
	assert.Equal(t, "Proxy-Authorization: Bearer abc.DEF-123_~+/==\r\n", string(first[1].AppendLogin(nil)))
	assert.Equal(t, "proxy1.corp.example", first[0].TLS.ServerName)
	assert.NotNil(t, first[0].TLS.RootCAs)
	assert.True(t, ways[1].ByName)
	assert.Equal(t, "http://[2001:db8::1]:3128", ways[1].Via[0].URL)

	way, _ := p.Parents.Of(mustTarget(t, "db.example:5432"), []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("10.9.9.9")})
	assert.Same(t, &ways[0], way)
	assert.Same(t, &ways[1], p.Parents.ByName(mustTarget(t, "www.example:443")))
	assert.Nil(t, p.Parents.ByName(mustTarget(t, "a.corp.example:443")))
	assert.Nil(t, p.Tenants[0].Parents)
	assert.Nil(t, p.Tenants[1].Parents)
	assert.NotNil(t, p.Tenants[2].Parents)
	for _, f := range []string{"/etc/login", "/etc/token", "/etc/ca.pem"} {
		assert.Contains(t, p.Watch, f)
	}
	assert.Equal(t, `/etc/sluice.yaml:9: the credential for http://10.1.2.3:3128 goes over the network in plain; have the parent speak TLS (https://)
/etc/sluice.yaml:5: connect: name has parents resolve the names of every destination: nobody judges addresses there, so the guard and rules for addresses do not hold for them
/etc/sluice.yaml:13: tenant a has no "parents" and goes directly: those of the gateway are not a tenant's; give it its own, or write parents: [] if that is meant
/etc/sluice.yaml:15: tenant c: connect: name has parents resolve the names of x.test: nobody judges addresses there, so the guard and the rule in line 15 (10.0.0.0/8) do not hold for them`, p.Warnings.Error())
	assert.NotContains(t, p.Warnings.Error(), "s3cr3t")
}

// A credential that cannot be read is no reason not to start: its parent is not used until it can.
func TestParentsUnreadable(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"{basic: {file: missing}}": "/etc/missing: file does not exist: https://p.test:1 is not used until it can be read",
		"{basic: {file: bare}}":    "/etc/bare is not USER:PASSWORD: https://p.test:1 is not used until it can be read",
		"{token: {file: empty}}":   "/etc/empty is empty: https://p.test:1 is not used until it can be read",
		"{basic: {file: two}}":     "/etc/two has a line end or another control byte inside: https://p.test:1 is not used until it can be read",
		"{token: {file: two}}":     "/etc/two has a line end or another control byte inside: https://p.test:1 is not used until it can be read",
		"{token: {file: login2}}":  "/etc/login2 is no bearer token: letters, digits and -._~+/ with = at the end (RFC 6750): https://p.test:1 is not used until it can be read",
	} {
		g := withFiles(t, "rules: '*'\nparents: [{via: ["+strings.Replace(name, "{", "{url: 'https://p.test:1', ", 1)+"]}]\n")
		g.files["/etc/login2"] = "a b"
		p, err := g.load(t)
		require.NoError(t, err)
		assert.Error(t, p.Parents.All()[0].Via[0].Problem)
		assert.Contains(t, p.Warnings.Error(), want)
		assert.Contains(t, strings.Join(p.Watch, " "), "/etc/")
	}
}

func TestParentsProblems(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{a: b}":                               `"parents" wants a list, each with "via", and "for" unless it is for every destination`,
		"[{for: a.test}]":                      `an entry of "parents" wants "via": a list of parents, the last of which may be direct`,
		"[{via: []}]":                          `"via" names nobody; to go directly write via: direct`,
		"[{via: [direct, 'http://p.test:1']}]": "what stands behind direct is never asked: make direct the last",
		"[{via: ['http://p.test:1', direct], connect: name}]":                            "direct needs addresses that were judged, and with connect: name nobody judges any; leave one of the two out",
		"[{via: 'http://p.test:1', connect: names}]":                                     `"names" is neither address nor name`,
		"[{via: 'http://p.test:1', for: '!a.test'}]":                                     `"!a.test" is not the form of a destination: write a name, *.name, an address, a prefix or *, and ports behind it or none`,
		"[{via: 'http://p.test'}]":                                                       "http://p.test is no parent: write it with a port, such as http://proxy.example.com:3128",
		"[{via: 'socks5://p.test:1'}]":                                                   "this is no parent: write http://HOST:PORT or https://HOST:PORT, or direct",
		"[{via: DIRECT}]":                                                                `"DIRECT" is no parent: write direct`,
		"[{via: 'http://user:s3cr3t@p.test:1'}]":                                         "http://p.test:1 is written with a user: name a file with USER:PASSWORD as basic: {file: …} instead, so that no secret stands here",
		"[{via: 'http://p.test:1/proxy.pac'}]":                                           `"http://p.test:1/proxy.pac" is more than a parent: write http://p.test:1`,
		"[{via: {url: 'http://p.test:1', ca: ca.pem}}]":                                  `"ca" is for a parent that speaks TLS, and http://p.test:1 does not: write https://`,
		"[{via: {url: 'https://p.test:1', ca: bare}}]":                                   "/etc/bare holds no certificate in PEM form",
		"[{via: {url: 'https://p.test:1', basic: {file: login}, token: {file: token}}}]": `"basic" and "token" are both given; keep one of them`,
		"[{via: {url: 'https://p.test:1', basic: {}}}]":                                  `a credential wants a "file" that holds it, so that no secret stands here`,
		"[{via: {basic: {file: login}}}]":                                                `a parent wants a "url", such as http://proxy.example.com:3128, or is the word direct`,
		"[{via: {url: 'https://p.test:1', user: x}}]":                                    `unknown key "user"`,
		"[{via: 'http://localhost:8080'}]":                                               "http://localhost:8080 is where this gateway listens itself: its requests would go round in a circle",
		"[{via: 'http://[::1]:8080'}]":                                                   "http://[::1]:8080 is where this gateway listens itself: its requests would go round in a circle",
		"[{via: 'http://192.0.2.7:8080'}]":                                               "http://192.0.2.7:8080 is where this gateway listens itself: its requests would go round in a circle",
	} {
		g := withFiles(t, "rules: '*'\nsource: 192.0.2.7\nparents: "+text+"\n")
		_, err := g.load(t)
		assert.EqualError(t, err, "/etc/sluice.yaml:3: "+want, text)
	}
	g := withFiles(t, "rules: '*'\nlisten: '192.0.2.1:3128'\nparents: [{via: 'http://192.0.2.1:3128'}]\n")
	_, err := g.load(t)
	assert.ErrorContains(t, err, "listens itself")
	g = withFiles(t, "rules: '*'\nlisten: '192.0.2.1:3128'\nparents: [{via: 'http://127.0.0.1:3128'}]\n")
	_, err = g.load(t)
	assert.NoError(t, err, "another program's")

	_, err = tcpFile("destinations: 80 a.test\ntenants: [{name: a, clients: 192.0.2.1, rules: '*', parents: []}]\n").loadTCP(t)
	assert.EqualError(t, err, `/c:2: tenant a has "parents", which are for sluice proxy: sluice tcp goes to its destinations directly; leave them out`)
}
