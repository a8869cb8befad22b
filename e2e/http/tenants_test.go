//go:build linux

package http

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const secondV4, secondV6 = "198.51.100.51", "2001:db8:1::51"

const twoTenants = `source: [` + nettest.SourceV4 + `/24, ` + nettest.SourceV6 + `, ` + secondV4 + `, ` + secondV6 + `]
resolver: ` + nettest.NodeV4 + `
contact: platform@example.com
tenants:
- name: shop
  clients: [10.128.0.16/28, "fd00:128::1:0/112"]
  source: [` + nettest.SourceV4 + `, "` + nettest.SourceV6 + `"]
  rules: |
    a.example.com
    2001:db8:2::/64
- name: ci
  clients: 10.128.0.32/28
  source: [` + secondV4 + `, "` + secondV6 + `"]
  contact: ci@example.com
  rules: "*.example.com"
`

// as is curl in that pod.
func (o *outside) as(t testing.TB, pod *nettest.Netns, args ...string) program.Output {
	t.Helper()
	return program.Command(t, pod, nil, "curl",
		append([]string{"--silent", "--show-error", "--include", "--max-time", "60", "--proxy", proxyURL, "--cacert", o.CA.File}, args...)...)
}

// Two namespaces with two source addresses on one gateway: each server sees that of the
// tenant, whatever the client asks for, and a third namespace is refused, with the reason.
func TestTwoTenantsTwoSources(t *testing.T) {
	o := newOutside(t)
	o.Egress.Address("macvlan0", secondV4+"/24", secondV6+"/64")
	shop := o.Pod(t, "shop", "10.128.0.17/24", "fd00:128::17/64")
	ci := o.Pod(t, "ci", "10.128.0.33/24", "fd00:128::33/64")
	for name, addr := range map[string]string{"a": nettest.ServerAV4, "a6": nettest.ServerAV6, "b": nettest.ServerBV4} {
		o.DNS.Set(name+".example.com", nettest.Addrs(addr))
	}
	o.DNS.Set("other.example.net", nettest.Addrs(nettest.ServerBV4))
	g := start(t, program.Setup{Netns: o.Egress, Config: twoTenants})
	for _, test := range []struct {
		pod  *nettest.Netns
		url  string
		want string
	}{
		{shop, "http://a.example.com/", "server-a saw " + nettest.SourceV4},
		{shop, "https://a.example.com/", "server-a saw " + nettest.SourceV4},
		{shop, "http://[" + nettest.ServerAV6 + "]/", "server-a saw " + nettest.SourceV6},
		{ci, "http://a.example.com/", "server-a saw " + secondV4},
		{ci, "https://b.example.com/", "server-b saw " + secondV4},
		{ci, "http://a6.example.com/", "server-a saw " + secondV6},
		{ci, "https://a6.example.com/", "server-a saw " + secondV6},
		{shop, "http://a.example.com/", "server-a saw " + nettest.SourceV4}, // once more, with connections in the pool
	} {
		got := o.as(t, test.pod, test.url)
		assert.Equal(t, test.want, lastLine(got.Out), "%s: %s", test.url, got.Err)
	}
	tunnelled := o.as(t, ci, "--proxytunnel", "http://a.example.com/")
	assert.Equal(t, "server-a saw "+secondV4, lastLine(tunnelled.Out), tunnelled.Err)

	denied := o.as(t, shop, "http://b.example.com/")
	assert.Equal(t, "HTTP/1.1 403 Egress denied: no rule allows it", statusLine(denied.Out), denied.Err)
	for pod, contact := range map[*nettest.Netns]string{ci: "ci@example.com", shop: "platform@example.com"} {
		got := o.as(t, pod, "http://other.example.net/")
		assert.Equal(t, "HTTP/1.1 403 Egress denied: no rule allows it", statusLine(got.Out), got.Err)
		assert.Contains(t, got.Out, "Whom to ask:  "+contact)
	}
	for _, url := range []string{"http://a.example.com/", "https://a.example.com/"} {
		third := o.as(t, o.Client, url)
		assert.Equal(t, "HTTP/1.1 403 Egress denied: this client is no tenant's", statusLine(third.Out), third.Err)
	}

	// The gateway is nobody's client: not by an address of its own either.
	self := o.as(t, o.Egress, "http://a.example.com/")
	assert.Equal(t, "HTTP/1.1 502 Bad Gateway: the client is this gateway itself", statusLine(self.Out), self.Err)

	for _, metric := range []string{`sluice_tenant_requests_total{tenant="ci",verdict="allow"} 5`, `sluice_tenant_open{tenant="shop"} 0`, `sluice_tenant_requests_total{tenant="default",verdict="deny"}`} {
		nettest.Eventually(t, metric, func() bool { _, all := g.Ask("/metrics"); return strings.Contains(all, metric) })
	}
	_, page := g.Ask("/")
	assert.Contains(t, page, "<td>ci</td><td>10.128.0.32/28</td><td>"+secondV4+", "+secondV6+"</td>")
	require.Contains(t, strings.Join(g.AccessLog(), ""), `"tenant":"ci","method":"GET"`)
}
