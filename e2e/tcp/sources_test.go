//go:build linux

package tcp

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The second source of each family, and its gateway.
const (
	source2V4, source2V6   = "198.51.100.51", "2001:db8:1::51"
	gateway2V4, gateway2V6 = "198.51.100.2", "2001:db8:1::2"
)

// Of two sources of a family the second is used when all ports of the first are
// taken towards a destination, and leaves by its own gateway: each gateway drops
// what is the other's.
func TestTCPTwoSources(t *testing.T) {
	p := newTCPPod(t)
	gateway2 := p.secondGateway(t)
	p.drops(t, p.Gateway, source2V4, source2V6)
	p.drops(t, gateway2, nettest.SourceV4, nettest.SourceV6)
	p.witness(t, p.ServerA, nettest.ServerAV4, nettest.ServerAV6)
	p.witness(t, p.ServerB, nettest.ServerBV4, nettest.ServerBV6)
	sources := strings.Join([]string{nettest.SourceV4 + "/24", source2V4 + "/24", nettest.SourceV6 + "/64", source2V6 + "/64"}, ", ")
	p.setup(t, sources, strings.Join([]string{"198.51.100.1@" + nettest.SourceV4, gateway2V4 + "@" + source2V4,
		"2001:db8:1::1@" + nettest.SourceV6, gateway2V6 + "@" + source2V6}, " "))
	p.fourPorts(t)
	// Not in the order of the set-up: by itself the kernel chooses the first of that.
	g := p.start(t, source2V4+" "+nettest.SourceV4+" "+source2V6+" "+nettest.SourceV6, strings.Join([]string{
		"5432 " + nettest.ServerAV4, "5433 " + nettest.ServerBV4 + " 5432",
		"6432 " + nettest.ServerAV6 + " 5432", "6433 " + nettest.ServerBV6 + " 5432",
	}, "\n"))
	for _, c := range []struct{ port, other, first, second string }{
		{"5432", "5433", source2V4, nettest.SourceV4},
		{"6432", "6433", source2V6, nettest.SourceV6},
	} {
		var open []net.Conn
		for i := range 8 {
			conn, saw, err := p.ask(t, nettest.PodV4, c.port)
			require.NoError(t, err, g.Stderr())
			assert.Equal(t, "server-a saw "+[]string{c.first, c.second}[i/4], saw, "connection %d", i)
			open = append(open, conn)
		}
		_, _, err := p.ask(t, nettest.PodV4, c.port)
		require.ErrorIs(t, err, syscall.ECONNRESET, "no port is left")
		_, saw, err := p.ask(t, nettest.PodV4, c.other)
		require.NoError(t, err)
		assert.Equal(t, "server-b saw "+c.first, saw, "towards another destination every port is free")
		for _, conn := range open {
			program.Echoes(t, conn, "all at once")
		}
	}
}

// Without EGRESS_SOURCE every port is used towards each destination, too: a socket
// that is bound before it connects would take its port away from all others.
func TestTCPWithoutSource(t *testing.T) {
	p := newTCPPod(t)
	p.witness(t, p.ServerA, nettest.ServerAV4)
	p.witness(t, p.ServerB, nettest.ServerBV4)
	p.fourPorts(t)
	g := p.start(t, "", "5432 "+nettest.ServerAV4+"\n5433 "+nettest.ServerBV4+" 5432")
	for _, c := range []struct{ port, server string }{{"5432", "server-a"}, {"5433", "server-b"}} {
		for range 4 {
			_, saw, err := p.ask(t, nettest.PodV4, c.port)
			require.NoError(t, err, g.Stderr())
			assert.Equal(t, c.server+" saw "+nettest.PodV4, saw)
		}
	}
}

// fourPorts leaves four ports to connections that leave the egress pod.
func (p tcpPod) fourPorts(t testing.TB) {
	t.Helper()
	require.NoError(t, p.Egress.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("40000 40003"), 0)
	}))
}

// drops makes a router drop what comes from the addresses.
func (p tcpPod) drops(t testing.TB, router *nettest.Netns, v4, v6 string) {
	t.Helper()
	p.ip(t, router, "-4 rule add blackhole from "+v4+" priority 100")
	p.ip(t, router, "-6 rule add blackhole from "+v6+" priority 100")
}

// secondGateway is another router between the LAN and the servers.
func (p tcpPod) secondGateway(t testing.TB) *nettest.Netns {
	t.Helper()
	g := nettest.NewNetns(t, "gateway2")
	p.plug(t, g, "eth0", "lan0")
	p.plug(t, g, "wan1", "wan0")
	g.Address("eth0", gateway2V4+"/24", gateway2V6+"/64")
	g.Address("wan1", "203.0.113.2/24", "2001:db8:2::2/64")
	require.NoError(t, g.Do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0)
	}))
	return g
}

// plug connects an interface of ns with a port of a bridge of the gateway.
func (p tcpPod) plug(t testing.TB, ns *nettest.Netns, name, bridge string) {
	t.Helper()
	var gateway netns.NsHandle
	require.NoError(t, p.Gateway.Do(func() (err error) {
		gateway, err = netns.Get()
		return err
	}))
	defer gateway.Close()
	require.NoError(t, ns.Do(func() error {
		at := netlink.NewLinkAttrs()
		at.Name = name
		v := netlink.NewVeth(at)
		v.PeerName, v.PeerNamespace = "p2-"+name, netlink.NsFd(gateway)
		return netlink.LinkAdd(v)
	}))
	p.ip(t, p.Gateway, "link set p2-"+name+" master "+bridge+" up")
}
