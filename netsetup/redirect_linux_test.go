package netsetup

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestRedirect(t *testing.T) {
	p := network(t)
	server(t, p.ServerA, "tcp", at(nettest.ServerAV4, 80))
	server(t, p.ServerA, "udp", at(nettest.ServerAV4, 5353))
	server(t, p.ServerA, "tcp", at(nettest.ServerAV6, 8080))
	server(t, p.ServerA, "udp", at(nettest.ServerAV6, 5353))
	server(t, p.ServerB, "tcp", at(nettest.ServerBV4, 7777))
	server(t, p.ServerB, "tcp", at(nettest.ServerBV6, 7777))
	c := unprobed(t, Init, bothFamilies, gatewayV4+" "+gatewayV6, strings.Join([]string{
		"80 tcp " + nettest.ServerAV4, "8080 tcp " + nettest.ServerAV4 + " 80", "53 udp " + nettest.ServerAV4 + " 5353",
		"80 tcp " + nettest.ServerAV6 + " 8080", "53 udp " + nettest.ServerAV6 + " 5353",
		"3868 sctp " + nettest.ServerAV4 + " 3869",
		nettest.ServerBV4, nettest.ServerBV6}, "\n"))
	mustSetup(t, p, c)
	for _, client := range []struct{ v4, v6 string }{
		{nettest.ClientV4, nettest.ClientV6}, // on the pod's own network
		{remoteV4, remoteV6},                 // beyond the default route that was there
	} {
		for _, x := range []struct{ network, from, to, want string }{
			{"tcp", client.v4, at(nettest.PodV4, 80), "server-a " + nettest.SourceV4},
			{"tcp", client.v4, at(nettest.PodV4, 8080), "server-a " + nettest.SourceV4},
			{"udp", client.v4, at(nettest.PodV4, 53), "server-a " + nettest.SourceV4},
			{"tcp", client.v4, at(nettest.PodV4, 7777), "server-b " + nettest.SourceV4},
			{"tcp", client.v6, at(nettest.PodV6, 80), "server-a " + nettest.SourceV6},
			{"udp", client.v6, at(nettest.PodV6, 53), "server-a " + nettest.SourceV6},
			{"tcp", client.v6, at(nettest.PodV6, 7777), "server-b " + nettest.SourceV6},
		} {
			require.Equal(t, x.want, ask(t, dial(t, p.Client, x.network, x.from, x.to)), "%v", x)
		}
	}
	require.Equal(t, nettest.SourceV4+" to port 3869", sctpSeen(t, p))

	got := map[string]uint64{}
	withKernel(t, p, func(k *Kernel) {
		cs, err := k.Counters()
		require.NoError(t, err)
		for _, c := range cs {
			got[familyWord(c.V6)+" "+c.Rule] = c.Packets
		}
	})
	for rule, want := range map[string]uint64{
		"ip 80 tcp " + nettest.ServerAV4: 2, "ip 8080 tcp " + nettest.ServerAV4 + " 80": 2, "ip 53 udp " + nettest.ServerAV4 + " 5353": 2,
		"ip 3868 sctp " + nettest.ServerAV4 + " 3869": 1, "ip " + nettest.ServerBV4: 2, "ip6 " + nettest.ServerBV6: 2,
		"ip source " + nettest.SourceV4 + " by macvlan0": 9, "ip refused": 0,
	} {
		require.Equal(t, want, got[rule], "%s in %v", rule, got)
	}
	require.Greater(t, got["ip redirected"], uint64(20))
}

// sctpSeen sends the first packet of an SCTP association, which this kernel cannot
// make by itself, to the pod, and tells what the server sees of it.
func sctpSeen(t *testing.T, p *nettest.Topology) string {
	t.Helper()
	raw := func(n *nettest.Netns) (f *os.File) {
		in(t, n, func() {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
			require.NoError(t, err)
			f = os.NewFile(uintptr(fd), "sctp")
		})
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	seen, from := raw(p.ServerA), raw(p.Client)
	init := []byte{0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 1, 2, 3, 4, 0, 0, 16, 0, 0, 1, 0, 1, 9, 9, 9, 9}
	binary.BigEndian.PutUint16(init[2:], 3868)
	binary.LittleEndian.PutUint32(init[8:], crc32.Checksum(init, crc32.MakeTable(crc32.Castagnoli)))
	conn, err := from.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), init, 0, &unix.SockaddrInet4{Addr: aa(nettest.PodV4).As4()})
	}))
	require.NoError(t, err)
	require.NoError(t, seen.SetReadDeadline(time.Now().Add(5*time.Second)))
	b := make([]byte, 100)
	n, err := seen.Read(b)
	require.NoError(t, err)
	require.Equal(t, 20+len(init), n)
	return netip.AddrFrom4([4]byte(b[12:16])).String() + " to port " + itoa(binary.BigEndian.Uint16(b[22:]))
}

func itoa(n uint16) string {
	s := at("0.0.0.0", int(n))
	return s[strings.LastIndexByte(s, ':')+1:]
}

// TestReload: connections live through a change of the rules, the counters go on,
// and new connections go by the new rules.
func TestReload(t *testing.T) {
	p := network(t)
	server(t, p.ServerA, "tcp", at(nettest.ServerAV4, 80))
	server(t, p.ServerB, "tcp", at(nettest.ServerBV4, 80))
	mustSetup(t, p, unprobed(t, Init, nettest.SourceV4, gatewayV4, "80 tcp "+nettest.ServerAV4))
	old := dial(t, p.Client, "tcp", "", at(nettest.PodV4, 80))
	require.Equal(t, "server-a "+nettest.SourceV4, ask(t, old))

	mustSetup(t, p, unprobed(t, Init, nettest.SourceV4, gatewayV4, "81 tcp "+nettest.ServerAV4+"\n80 tcp "+nettest.ServerBV4))
	require.Equal(t, "server-a "+nettest.SourceV4, ask(t, old))
	require.Equal(t, "server-b "+nettest.SourceV4, ask(t, dial(t, p.Client, "tcp", "", at(nettest.PodV4, 80))))
	withKernel(t, p, func(k *Kernel) {
		cs, err := k.Counters()
		require.NoError(t, err)
		i := 0
		for ; cs[i].Chain != chainPostrouting; i++ {
		}
		require.Equal(t, uint64(2), cs[i].Packets, "one before the reload, one after")
	})
}

// TestNothingElseIsPassedOn: the pod is no router for what no rule redirects.
func TestNothingElseIsPassedOn(t *testing.T) {
	p := network(t)
	server(t, p.ServerA, "tcp", at(nettest.ServerAV4, 8080)) // not of the rule
	server(t, p.Client, "tcp", at(nettest.ClientV4, 80))
	mustSetup(t, p, unprobed(t, Init, nettest.SourceV4, gatewayV4, "80 tcp "+nettest.ServerBV4))
	in(t, p.Client, func() { // a pod that takes the egress pod for its router
		gw := aa(nettest.PodV4)
		require.NoError(t, netlink.RouteAdd(&netlink.Route{Dst: toIPNet(hostPrefixOf(nettest.ServerAV4)), Gw: gw.AsSlice()}))
	})
	in(t, p.Gateway, func() { // a host outside that takes it for the way into the cluster
		require.NoError(t, netlink.RouteReplace(&netlink.Route{Dst: toIPNet(hostPrefixOf(nettest.ClientV4)), Gw: aa(nettest.SourceV4).AsSlice()}))
	})
	for _, x := range []struct {
		from *nettest.Netns
		to   string
	}{{p.Client, at(nettest.ServerAV4, 8080)}, {p.Gateway, at(nettest.ClientV4, 80)}} {
		_, err := tryDial(x.from, "tcp", "", x.to, 300*time.Millisecond)
		require.Error(t, err, "%v", x.to)
	}
	refused := uint64(0)
	withKernel(t, p, func(k *Kernel) {
		cs, err := k.Counters()
		require.NoError(t, err)
		refused = cs[len(cs)-1].Packets
		require.Equal(t, "refused", cs[len(cs)-1].Rule)
	})
	require.GreaterOrEqual(t, refused, uint64(2))
}

func hostPrefixOf(s string) netip.Prefix { return hostPrefix(aa(s)) }

// TestWayBack: what the pod answers from its own address goes back by eth0, to
// clients that only the old default route led to as well; what it begins leaves
// from the source.
func TestWayBack(t *testing.T) {
	p := network(t)
	mustSetup(t, p, unprobed(t, HTTPProxy, bothFamilies, gatewayV4+" "+gatewayV6, ""))
	server(t, p.Egress, "tcp", "[::]:8080")
	server(t, p.ServerA, "tcp", at(nettest.ServerAV4, 80))
	for from, to := range map[string]string{
		nettest.ClientV4: nettest.PodV4, remoteV4: nettest.PodV4, nettest.ClientV6: nettest.PodV6, remoteV6: nettest.PodV6,
	} {
		require.Equal(t, "egress "+from, ask(t, dial(t, p.Client, "tcp", from, at(to, 8080))))
	}
	require.Equal(t, "server-a "+nettest.SourceV4, ask(t, dial(t, p.Egress, "tcp", "", at(nettest.ServerAV4, 80))))
}

// TestMultihome: two sources by two gateways at once, on one interface and on two.
// Each gateway drops what is the other's.
func TestMultihome(t *testing.T) {
	for name, second := range map[string]string{"one interface": "macvlan0", "two interfaces": "net2"} {
		t.Run(name, func(t *testing.T) {
			p := network(t)
			if second == "net2" {
				macvlan(t, p, "net2")
			}
			gateway2 := secondGateway(t, p)
			blackhole(t, p.Gateway, otherV4)
			blackhole(t, gateway2, nettest.SourceV4)
			c := unprobed(t, HTTPProxy, nettest.SourceV4+"/24 "+otherV4+"/24",
				gatewayV4+"@"+nettest.SourceV4+" "+gateway2V4+"@"+otherV4, "")
			require.Empty(t, ParseInterfaces("macvlan0@"+nettest.SourceV4+" "+second+"@"+otherV4, c.Sources))
			mustSetup(t, p, c)
			require.Empty(t, mustSetup(t, p, c).Changes)
			server(t, p.ServerA, "tcp", at(nettest.ServerAV4, 80))
			server(t, p.ServerA, "udp", at(nettest.ServerAV4, 53))
			server(t, p.Egress, "tcp", "0.0.0.0:8080")
			for _, src := range []string{nettest.SourceV4, otherV4} {
				require.Equal(t, "server-a "+src, ask(t, dial(t, p.Egress, "tcp", src, at(nettest.ServerAV4, 80))))
				require.Equal(t, "server-a "+src, ask(t, dial(t, p.Egress, "udp", src, at(nettest.ServerAV4, 53))))
				// Connections from outside: the answer leaves by the source's own gateway.
				require.Equal(t, "egress "+nettest.ServerAV4, ask(t, dial(t, p.ServerA, "tcp", "", at(src, 8080))))
			}
			if second == "net2" {
				got := inspect(t, p).Sysctls
				require.Equal(t, "1", got["net/ipv4/conf/net2/arp_ignore"])
				require.Equal(t, "2", got["net/ipv4/conf/macvlan0/arp_announce"])
				require.Equal(t, "2", got["net/ipv4/conf/net2/rp_filter"])
			}
		})
	}
}

// secondGateway is another router between the LAN and the servers.
func secondGateway(t *testing.T, p *nettest.Topology) *nettest.Netns {
	t.Helper()
	g := nettest.NewNetns(t, "gateway2")
	plug(t, g, p.Gateway, "eth0", "lan0")
	plug(t, g, p.Gateway, "wan1", "wan0")
	g.Address("eth0", gateway2V4+"/24")
	g.Address("wan1", "203.0.113.2/24")
	in(t, g, func() { require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)) })
	return g
}

// plug connects an interface of n with a port of the bridge in peer.
func plug(t *testing.T, n, peer *nettest.Netns, name, bridge string) {
	t.Helper()
	port := "p2-" + name
	in(t, n, func() {
		at := netlink.NewLinkAttrs()
		at.Name = name
		v := netlink.NewVeth(at)
		v.PeerName = port
		require.NoError(t, netlink.LinkAdd(v))
		require.NoError(t, netlink.LinkSetNsFd(link(t, port), namespace(t, peer)))
	})
	in(t, peer, func() {
		require.NoError(t, netlink.LinkSetMaster(link(t, port), link(t, bridge)))
		require.NoError(t, netlink.LinkSetUp(link(t, port)))
	})
}

// blackhole makes a router drop what comes from addr.
func blackhole(t *testing.T, n *nettest.Netns, addr string) {
	t.Helper()
	in(t, n, func() {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Type, r.Src = netlink.FAMILY_V4, 100, unix.RTN_BLACKHOLE, toIPNet(hostPrefixOf(addr))
		require.NoError(t, netlink.RuleAdd(r))
	})
}
