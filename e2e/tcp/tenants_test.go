//go:build linux

package tcp

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// A port that is a tenant's leads to its destinations from the tenant's address, and under
// the tenant's guard; others do as before.
func TestTCPTenants(t *testing.T) {
	p := tcpPod{nettest.NewTopology(t)}
	p.Egress.Address("macvlan0", source2V4+"/24", source2V6+"/64")
	p.witness(t, p.ServerA, nettest.ServerAV4, nettest.ServerAV6)
	p.witness(t, p.ServerB, nettest.FarV4)
	p.DNS(t).Set("far.example.com", nettest.Addrs(nettest.FarV4))
	g := program.Start(t, program.Setup{Netns: p.Egress, Command: "tcp", Config: `
source: [` + nettest.SourceV4 + `, ` + nettest.SourceV6 + `, ` + source2V4 + `, ` + source2V6 + `]
resolver: ` + nettest.NodeV4 + `
tenants:
- {name: shop, clients: 10.0.0.0/8, rules: "*", source: [` + source2V4 + `, "` + source2V6 + `"]}
- {name: strict, clients: 192.0.2.0/24, rules: "*", source: ` + source2V4 + `, guard: strict}
tcp:
- {listen: 5432, destinations: ` + nettest.ServerAV4 + `, tenant: shop}
- {listen: 5433, destinations: "[` + nettest.ServerAV6 + `]:5432", tenant: shop}
- {listen: 5434, destinations: "` + nettest.ServerAV4 + `:5432"}
- {listen: 5435, destinations: "far.example.com:5432", tenant: shop}
- {listen: 5436, destinations: "far.example.com:5432", tenant: strict}
- {listen: 5437, destinations: "[` + nettest.ServerAV6 + `]:5432", tenant: strict}
`})
	nettest.Eventually(t, "it is ready", func() bool { status, _ := g.Ask("/readyz"); return status == 200 })
	for port, want := range map[string]string{
		"5432": "server-a saw " + source2V4, "5433": "server-a saw " + source2V6,
		"5434": "server-a saw " + nettest.SourceV4, "5435": "server-b saw " + source2V4,
	} {
		_, saw, err := p.ask(t, nettest.PodV4, port)
		require.NoError(t, err, port)
		assert.Equal(t, want, saw, port)
	}
	for _, port := range []string{"5436", "5437"} { // by its guard, and for want of an address
		_, _, err := p.ask(t, nettest.PodV4, port)
		assert.Error(t, err, port)
	}
}
