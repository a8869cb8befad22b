package netsetup

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Services of the cluster: beyond the node, and nobody outside knows the way.
const (
	dnsV4, dnsV6         = "10.96.0.10", "fd00:96::a"
	serviceV4, serviceV6 = "10.96.7.7", "fd00:96::7"
	calicoGateway        = "169.254.1.1"
)

// calicoNetwork is a network whose pod has an address without a network, and one
// way: the default route by a gateway that is on the link because the route says so.
func calicoNetwork(t testing.TB) *nettest.Topology {
	t.Helper()
	p := network(t)
	p.Client.Address("eth0", dnsV4+"/32", dnsV6+"/128", serviceV4+"/32", serviceV6+"/128")
	p.Node.Route("10.96.0.0/12", nettest.ClientV4)
	p.Node.Route("fd00:96::/112", nettest.ClientV6)
	p.Node.Address("br0", calicoGateway+"/32")
	in(t, p.Egress, func() {
		l := link(t, "eth0")
		a, err := netlink.ParseAddr(nettest.PodV4 + "/24")
		require.NoError(t, err)
		require.NoError(t, netlink.AddrDel(l, a)) // and the routes by it
		a, err = netlink.ParseAddr(nettest.PodV4 + "/32")
		require.NoError(t, err)
		require.NoError(t, netlink.AddrAdd(l, a))
		require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: toIPNet(pp("0.0.0.0/0")),
			Gw: netip.MustParseAddr(calicoGateway).AsSlice(), Flags: int(netlink.FLAG_ONLINK)}))
		require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: toIPNet(pp(calicoGateway + "/32")), Scope: netlink.SCOPE_LINK}))
	})
	return p
}

// TestNameserversKeepTheirWay: the cluster's DNS, which nothing but the default
// route leads to, is reached as before, by whoever asks; and what --keep-route
// names. Everything else leaves by the gateway.
func TestNameserversKeepTheirWay(t *testing.T) {
	p := calicoNetwork(t)
	for _, network := range []string{"udp", "tcp"} {
		for _, addr := range []string{dnsV4, dnsV6, serviceV4, serviceV6} {
			server(t, p.Client, network, at(addr, 53))
		}
	}
	server(t, p.ServerA, "tcp", at(nettest.ServerAV4, 80))
	server(t, p.ServerA, "tcp", at(nettest.ServerAV6, 80))
	c := unprobed(t, HTTPProxy, bothFamilies, gatewayV4+" "+gatewayV6, "")
	c.Nameservers = []netip.Addr{aa(dnsV4), aa(dnsV6)}
	reaches := func(v4, v6 string) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			require.Equal(t, "client "+nettest.PodV4, ask(t, dial(t, p.Egress, network, "", at(v4, 53))))
			require.Equal(t, "client "+nettest.PodV6, ask(t, dial(t, p.Egress, network, "", at(v6, 53))))
		}
		require.Equal(t, "server-a "+nettest.SourceV4, ask(t, dial(t, p.Egress, "tcp", "", at(nettest.ServerAV4, 80))))
		require.Equal(t, "server-a "+nettest.SourceV6, ask(t, dial(t, p.Egress, "tcp", "", at(nettest.ServerAV6, 80))))
	}
	failAtEach(t, p, "first", c)
	require.Len(t, mustSetup(t, p, c).Warnings, 2)
	reaches(dnsV4, dnsV6)
	for _, addr := range []string{serviceV4, serviceV6} { // as the warning says
		_, err := tryDial(p.Egress, "tcp", "", at(addr, 53), 200*time.Millisecond)
		require.Error(t, err, addr)
	}
	require.Empty(t, events(t, p, func() { require.Empty(t, mustSetup(t, p, c).Changes) }))

	c.KeepRoutes = []netip.Prefix{pp("10.96.0.0/12"), pp("fd00:96::/112")}
	failAtEach(t, p, "keep", c)
	require.Empty(t, mustSetup(t, p, c).Warnings)
	reaches(dnsV4, dnsV6)
	reaches(serviceV4, serviceV6)
	require.Empty(t, events(t, p, func() { require.Empty(t, mustSetup(t, p, c).Changes) }))
}

// TestPrintedPlanKeepsRoutes: what --dry-run prints of kept routes is what is done,
// with the gateway that is on the link by the route's own word.
func TestPrintedPlanKeepsRoutes(t *testing.T) {
	p := calicoNetwork(t)
	c := unprobed(t, HTTPProxy, bothFamilies, gatewayV4+" "+gatewayV6, "")
	c.KeepRoutes = []netip.Prefix{pp("10.96.0.0/12"), pp("fd00:96::/112")}
	runsAsPrinted(t, p, c)
}
