package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

// withTenants is a file of those tenants, behind some settings of the top level.
func withTenants(text string) given {
	return given{args: []string{"--config=/f"}, files: map[string]string{
		"/f":     "source: [192.0.2.10, 192.0.2.11, 2001:db8::10]\ncontact: all\n" + text,
		"/users": "deploy:" + hash + "\n", "/bad": "a\nb:x\n",
		"/rules": "c.test\n#@ end\n", "/more": "d.test\n",
	}}
}

// What a tenant does not say, the top level says.
func TestTenants(t *testing.T) {
	t.Parallel()
	p, err := withTenants(`guard: strict
tenants:
- name: shop
  clients: [10.1.0.0/16, 10.9.0.7, 2001:db8:1::/48]
  source: [192.0.2.11, 2001:db8::10]
  rules: |
    # ours
    !b.test
    *.test
  guard: "off"
  hideRules: true
  contact: shop@example.com
  limits: {connections: 20, requestsPerSecond: 0.5, burst: 3}
- name: ci-2
  clients: 10.2.0.0/16
  rulesFile: [/rules, /more]
`).load(t)
	require.NoError(t, err)
	require.Nil(t, p.Policy, "nobody said what holds for clients of no tenant")
	require.Equal(t, "/f", p.Origin)
	require.Equal(t, []string{"/f", "/rules", "/more"}, p.Watch)
	require.Equal(t, 4, p.RuleCount())
	shop, ci := p.Tenants[0], p.Tenants[1]
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.9.0.7/32"), netip.MustParsePrefix("2001:db8:1::/48")}, shop.Clients)
	require.Equal(t, addrs("192.0.2.11", "2001:db8::10"), shop.Sources)
	require.Equal(t, TenantLimits{Connections: 20, RequestsPerSecond: 0.5, Burst: 3}, shop.Limits)
	require.Equal(t, []any{"shop", acl.GuardOff, true, "shop@example.com"}, []any{shop.Name, shop.Guard, shop.HideRules, shop.Contact})
	var lines []int
	for r := range shop.Policy.Rules() {
		lines = append(lines, r.Line)
	}
	require.Equal(t, []int{10, 11}, lines, "of the file")
	require.Equal(t, []any{"ci-2", acl.GuardStrict, false, "all", "/rules, /more"}, []any{ci.Name, ci.Guard, ci.HideRules, ci.Contact, ci.Rules.Source})
	require.Equal(t, addrs("192.0.2.10", "192.0.2.11", "2001:db8::10"), ci.Sources)

	g := withTenants("tenants:\n- {name: a, clients: 10.0.0.0/8, rules: '*'}\n")
	g.env = []string{"EGRESS_HTTP_PROXY_DESTINATION=a.test"}
	p, err = g.load(t)
	require.NoError(t, err)
	require.Equal(t, 1, p.Policy.Len(), "for clients of no tenant")
	require.Equal(t, "/f, EGRESS_HTTP_PROXY_DESTINATION", p.Origin)
}

func TestTenantProblems(t *testing.T) {
	t.Parallel()
	const head = "tenants:\n" // line 3 of the file
	item := func(s string) string { return head + "- {" + s + "}\n" }
	for name, test := range map[string]struct{ file, want string }{
		"no list":          {"tenants: {a: b}\n", `/f:3: "tenants" wants a list, each with "name", "clients" and "rules"`},
		"unknown key":      {item("name: a, clients: 10.0.0.1, rules: a.test, sources: 192.0.2.10"), `/f:4: unknown key "sources"; did you mean source?`},
		"no name":          {item("clients: 10.0.0.1, rules: a.test"), `/f:4: a tenant wants a "name"`},
		"bad name":         {item("name: A_b, clients: 10.0.0.1, rules: a.test"), `/f:4: "A_b" is no name of a tenant; write lower-case letters, digits and hyphens, at most 63 (an RFC 1123 label)`},
		"long name":        {item("name: " + strings.Repeat("a", 64) + ", clients: 10.0.0.1, rules: a.test"), `/f:4: "` + strings.Repeat("a", 64) + `" is no name of a tenant; write lower-case letters, digits and hyphens, at most 63 (an RFC 1123 label)`},
		"default":          {item("name: default, clients: 10.0.0.1, rules: a.test"), `/f:4: "default" is the tenant of clients that no other takes: the top level of the file says what holds for it`},
		"two of one name":  {item("name: a, clients: 10.0.0.1, rules: a.test") + "- {name: a, clients: 10.0.0.2, rules: a.test}\n", `/f:5: a tenant "a" stands in line 4 already`},
		"no clients":       {item("name: a, rules: a.test"), `/f:4: no client can be tenant "a"'s: give it "clients", addresses and prefixes, "namespaces", "serviceAccounts", "users" or "certificates"`},
		"bad clients":      {item("name: a, clients: [10.0.0.1, x], rules: a.test"), `/f:4: "x" is neither ADDR nor ADDR/LEN`},
		"no rules":         {item("name: a, clients: 10.0.0.1"), `/f:4: no "rules" and no "rulesFile"; to allow everything, write rules: "*"`},
		"rules twice":      {item("name: a, clients: 10.0.0.1, rules: a.test, rulesFile: /rules"), `/f:4: "rules" and "rulesFile" are both given; keep one of them`},
		"rules as a list":  {item("name: a, clients: 10.0.0.1, rules: [a.test]"), `/f:4: "rules" wants a text, not a list: write "rules: |" and below it one a line, indented, without dashes`},
		"bad rule":         {head + "- name: a\n  clients: 10.0.0.1\n  rules: |\n    a.test\n    a b\n", "/f:8: Bad destination 'a b': white space inside a rule; write one rule a line, and a comment behind `#`"},
		"no file":          {item("name: a, clients: 10.0.0.1, rulesFile: /none"), "/f:4: open /none: file does not exist"},
		"other source":     {item("name: a, clients: 10.0.0.1, rules: a.test, source: 192.0.2.12"), "/f:4: 192.0.2.12 is no address of this gateway: name it in EGRESS_SOURCE, or take one of 192.0.2.10, 192.0.2.11, 2001:db8::10"},
		"two of a family":  {item("name: a, clients: 10.0.0.1, rules: a.test, source: [192.0.2.10, 192.0.2.11]"), "/f:4: 192.0.2.11 is a second address of its family; a tenant has one"},
		"bad guard":        {item("name: a, clients: 10.0.0.1, rules: a.test, guard: loose"), `/f:4: bad guard 'loose': write default, strict or off`},
		"bad limit":        {item("name: a, clients: 10.0.0.1, rules: a.test, limits: {requestsPerSecond: -1}"), `/f:4: "-1" is no number of requests a second; write one from 0.001 to 1000000, or 0 for no limit`},
		"no such limit":    {item("name: a, clients: 10.0.0.1, rules: a.test, limits: {rate: 1}"), `/f:4: unknown key "rate"`},
		"taken by one":     {item("name: a, clients: 10.0.0.0/8, rules: a.test") + "- {name: b, clients: [10.1.0.0/16, 10.2.0.1], rules: a.test}\n", `/f:5: no client can be tenant "b"'s: "a" above takes them first; move this one up, or name others`},
		"taken by several": {item("name: a, clients: 10.0.0.0/25, rules: a.test") + "- {name: b, clients: [10.0.0.128/26, 10.0.0.192/26], rules: a.test}\n- {name: c, clients: 10.0.0.0/24, rules: a.test}\n", `/f:6: no client can be tenant "c"'s: "a" above takes them first; move this one up, or name others`},
		"users not asked":  {item("name: a, users: deploy, rules: a.test"), `/f:4: user "deploy" is never asked for a password: set "authenticate" to optional or required`},
		"no passwords":     {"authenticate: optional\n" + item("name: a, clients: 10.0.0.1, rules: a.test"), `/f:3: nobody has a password: name a usersFile (--users-file), a directory for tokens, or a CA of certificates (--client-ca)`},
		"no such mode":     {"authenticate: always\n" + item("name: a, clients: 10.0.0.1, rules: a.test"), `/f:3: "always" is none of off, optional, required`},
		"users taken": {"authenticate: required\nusersFile: /users\n" + item("name: a, users: deploy, rules: a.test") + "- {name: b, users: [deploy], rules: a.test}\n",
			`/f:7: no client can be tenant "b"'s: "a" above takes them first; move this one up, or name others`},
		"no directory": {item("name: a, namespaces: [shop], serviceAccounts: ci/x, rules: a.test"), "/f:4: nobody says which pods are those of namespace \"shop\": name the socket of sluice-kube as \"directory\"\n" +
			"/f:4: nobody says which pods are those of service account \"ci/x\": name the socket of sluice-kube as \"directory\""},
		"wrong passwords": {"authenticate: optional\nusersFile: /none\n" + item("name: a, users: deploy, rules: a.test"), "/f:4: open /none: file does not exist"},
		"no certificates": {item("name: a, certificates: ['spiffe://c/ns/a/*'], rules: a.test"), `/f:4: nobody is asked for a certificate such as "spiffe://c/ns/a/*": listen with TLS (listenTLS), and name the CA of its clients (clientCA)`},
		"stars taken": {"directory: /d\n" + item("name: a, serviceAccounts: ci/*, rules: a.test") + "- {name: b, serviceAccounts: ci/x, rules: a.test}\n",
			`/f:6: no client can be tenant "b"'s: "a" above takes them first; move this one up, or name others`},
		"bad namespace": {"directory: /d\n" + item("name: a, namespaces: Shop, rules: a.test"), `/f:5: "Shop" is no name of a namespace`},
		"pods taken": {"directory: /d\n" + item("name: a, namespaces: shop, rules: a.test") + "- {name: b, serviceAccounts: shop/x, rules: a.test}\n- {name: c, namespaces: shop, rules: a.test}\n",
			`/f:7: no client can be tenant "c"'s: "a" above takes them first; move this one up, or name others`},
		"all at once": {item("name: a, clients: x, rules: a b") + "- {name: a, clients: 10.0.0.2, source: y, rules: c.test}\n",
			"/f:4: \"x\" is neither ADDR nor ADDR/LEN\n/f:4: Bad destination 'a b': white space inside a rule; write one rule a line, and a comment behind `#`\n" +
				"/f:5: \"y\" is no address; take one of 192.0.2.10, 192.0.2.11, 2001:db8::10\n/f:5: a tenant \"a\" stands in line 4 already"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := withTenants(test.file).load(t)
			require.EqualError(t, err, test.want)
		})
	}
	// The other way round, or not all of it, each has clients.
	for _, file := range []string{
		item("name: b, clients: [10.1.0.0/16, 10.2.0.1], rules: a.test") + "- {name: a, clients: 10.0.0.0/8, rules: a.test}\n",
		item("name: a, clients: 10.0.0.0/25, rules: a.test") + "- {name: b, clients: 10.0.0.192/26, rules: a.test}\n- {name: c, clients: 10.0.0.0/24, rules: a.test}\n",
		item("name: a, clients: [0.0.0.0/0], rules: a.test") + "- {name: b, clients: '::/0', rules: a.test}\n",
	} {
		_, err := withTenants(file).load(t)
		require.NoError(t, err)
	}
}

func TestUsersFile(t *testing.T) {
	t.Parallel()
	p, err := withTenants("authenticate: optional\nusersFile: /users\ntenants:\n- {name: a, users: [deploy, gone], rules: a.test}\n- {name: b, users: deploy, clients: 10.0.0.1, rules: a.test}\n").load(t)
	require.NoError(t, err)
	require.True(t, p.Users.Has("deploy"))
	require.Len(t, p.Tenants[0].Shown, 2)
	require.Equal(t, "/f:6: user \"gone\" is not in the usersFile", p.Warnings.Error())
	require.Contains(t, p.Watch, "/users")

	p, err = withTenants("rules: '*'\nusersFile: /users\n").load(t)
	require.NoError(t, err)
	require.Equal(t, "/f:4: nobody is asked for a password: set authenticate to optional or required", p.Warnings.Error())

	_, err = withTenants("rules: '*'\nauthenticate: required\nusersFile: /bad\n").load(t)
	require.ErrorContains(t, err, "/bad:1: ")
	require.ErrorContains(t, err, "/bad:2: ")
}
