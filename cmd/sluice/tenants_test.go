package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

const tenantsFile = `tenants:
- name: shop
  clients: 10.1.0.0/16
  rules: |
    a.test
    10.0.0.0/8
- name: ci
  clients: [10.2.0.0/16, "2001:db8::/32"]
  guard: "off"
  rules: "*"
`

// acl test --from asks the rules of whoever asks.
func TestACLTestFrom(t *testing.T) {
	file, rules := write(t, "sluice.yaml", tenantsFile), write(t, "rules", "a.test\n")
	for _, tt := range []struct {
		status   int
		out, err string
		args     []string
	}{
		{0, "allow\ta.test:443\ttenant shop: line 5 a.test\t192.0.2.1 allow (line 5 a.test)\n", "", []string{"--config", file, "--from", "10.1.2.3", "a.test=192.0.2.1"}},
		{1, "deny\tb.test:443\ttenant shop: default\t192.0.2.1 deny (default)\n", "", []string{"--config", file, "--from", "10.1.2.3", "b.test=192.0.2.1"}},
		{0, "allow\tb.test:443\ttenant ci: line 10 *\n", "", []string{"--config", file, "--from", "2001:db8::7", "b.test"}},
		{0, "allow\t127.0.0.1:443\ttenant ci: line 10 *\n", "", []string{"--config", file, "--from", "::ffff:10.2.0.1", "127.0.0.1"}},
		{1, "deny\ta.test:443\ttenant default: default\n", "", []string{"--config", file, "--from", "10.3.0.1", "a.test"}},
		{1, "deny\ta.test:443\ttenant default: default\n", "", []string{"--config", file, "a.test"}},
		{2, "", "--from: \"shop\" is no address of a client, no NAMESPACE/SERVICEACCOUNT, no URI of a certificate, and no user of the usersFile\n", []string{"--config", file, "--from", "shop", "a.test"}},
		{2, "", "--from asks for a tenant's rules: name the file that has the tenants with --config\n", []string{"--rules", rules, "--from", "10.1.2.3", "a.test"}},
		{2, "", "--rules and --config are both given; keep one of them\n", []string{"--rules", rules, "--config", file, "a.test"}},
		{2, "", filepath.Dir(file) + "/none: no such file or directory\n", []string{"--config", filepath.Dir(file) + "/none", "a.test"}},
	} {
		status, out, err := sluice(t, nil, "", append([]string{"acl", "test"}, tt.args...)...)
		assert.Equal(t, tt.status, status, "%v", tt.args)
		assert.Contains(t, out, tt.out, "%v", tt.args)
		assert.Contains(t, err, tt.err, "%v", tt.args)
	}
	users := write(t, "users", "deploy:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n")
	shown := write(t, "sluice.yaml", "authenticate: optional\nusersFile: "+users+"\n"+tenantsFile+"- {name: jobs, users: deploy, rules: '*'}\n")
	_, out, _ := sluice(t, nil, "", "acl", "test", "--config", shown, "--from", "deploy", "b.test")
	assert.Contains(t, out, "tenant jobs: line ")
	pem, key := nettest.WriteFiles(t, t.TempDir(), "gateway", nettest.NewCA(t).Issue("127.0.0.1"))
	byTLS := write(t, "sluice.yaml", "listenTLS: ':8443'\ntlsCert: "+pem+"\ntlsKey: "+key+"\nclientCA: "+pem+"\n"+tenantsFile+"- {name: jobs, certificates: 'spiffe://c/ns/*', rules: '*'}\n")
	_, out, _ = sluice(t, nil, "", "acl", "test", "--config", byTLS, "--from", "spiffe://c/ns/a", "b.test")
	assert.Contains(t, out, "tenant jobs: line ")
	_, out, _ = sluice(t, nil, "", "acl", "test", "--json", "--config", file, "--from", "10.1.2.3", "a.test")
	assert.Contains(t, out, `"tenant":"shop","verdict":"depends"`)
}

// Tenants keep what they have in use over reloads; of a reload that was refused nothing
// stays.
func TestUsagesOutliveReloads(t *testing.T) {
	load := func(text string) *config.Proxy {
		c, err := config.LoadProxy(settings.Input{Environ: []string{"SLUICE_CONFIG=" + write(t, "sluice.yaml", text)}})
		require.NoError(t, err)
		return c
	}
	m := &proxyMode{usages: new(tenantUsages)}
	put := func(c *config.Proxy, commit bool) map[string]*policy.Usage {
		s := setOf(c.Shared(), nil, time.Now())
		m.tenants(c, &s, time.Now())
		if commit {
			m.usages.commit()
		}
		all := map[string]*policy.Usage{}
		for _, name := range []string{"shop", "ci", policy.DefaultName} {
			all[name] = s.Generation().Named(name).Usage
		}
		return all
	}
	first := put(load(tenantsFile), true)
	refused := put(load("tenants:\n- {name: other, clients: 10.0.0.0/8, rules: '*'}\n"), false)
	assert.Nil(t, refused["shop"])
	second := put(load(tenantsFile), true)
	for name := range first {
		require.NotNil(t, first[name], name)
		assert.Same(t, first[name], second[name], name)
	}
	var seen []string
	m.usages.each(func(x metrics.Tenant) { seen = append(seen, x.Name) })
	assert.ElementsMatch(t, []string{"shop", "ci", "default"}, seen)
	none := put(load("rules: '*'\n"), true)
	assert.Nil(t, none[policy.DefaultName])
	m.usages.each(func(metrics.Tenant) { t.Error("there are no tenants any more") })
}
