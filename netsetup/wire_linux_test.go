package netsetup

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// TestProbe: an address that another host has is found, with that host's MAC
// address, and the pod stays as it was.
func TestProbe(t *testing.T) {
	p := network(t)
	p.Gateway.Address("lan0", nettest.SourceV4+"/32", nettest.SourceV6+"/128")
	var mac string
	in(t, p.Gateway, func() { mac = link(t, "lan0").Attrs().HardwareAddr.String() })
	before := inspect(t, p)
	for source, gateway := range map[string]string{nettest.SourceV4: gatewayV4, nettest.SourceV6 + "/64": gatewayV6} {
		_, err := setup(t, p, config(t, HTTPProxy, source, gateway, ""))
		var duplicate *DuplicateError
		require.ErrorAs(t, err, &duplicate)
		require.Equal(t, mac, duplicate.MAC.String())
		require.ErrorContains(t, err, "probe for duplicate addresses: EGRESS_SOURCE "+duplicate.Addr.String()+
			" is in use: the host with MAC address "+mac+" has it too, seen on macvlan0;")
		require.Empty(t, diff(inspect(t, p), before))
		require.Equal(t, defaults(before), defaults(inspect(t, p)))
	}
	// Its neighbours are free.
	began := time.Now()
	mustSetup(t, p, config(t, HTTPProxy, otherV4+" 2001:db8:1::51", gatewayV4+" "+gatewayV6, ""))
	require.GreaterOrEqual(t, time.Since(began), (probeCount-1)*probeInterval+probeWait)
}

// TestTwoPodsAtOnce: two that ask for one address at the same time see each other's
// question.
func TestTwoPodsAtOnce(t *testing.T) {
	p := network(t)
	p.Egress.Address("macvlan0") // up
	for _, addr := range []string{nettest.SourceV4, nettest.SourceV6} {
		errs := make(chan error, 2)
		for _, x := range []struct {
			n    *nettest.Netns
			link string
		}{{p.Egress, "macvlan0"}, {p.Gateway, "lan0"}} {
			go func() {
				errs <- x.n.Do(func() error {
					return probe(context.Background(), []Addr{{x.link, hostPrefixOf(addr)}})
				})
			}()
		}
		var found *DuplicateError
		require.ErrorAs(t, errors.Join(<-errs, <-errs), &found, "%s", addr)
	}
}

func TestProbeIsEnded(t *testing.T) {
	p := network(t)
	p.Egress.Address("macvlan0")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	in(t, p.Egress, func() {
		require.ErrorIs(t, probe(ctx, []Addr{{"macvlan0", hostPrefixOf(otherV4)}}), context.Canceled)
		require.ErrorContains(t, probe(ctx, []Addr{{"net9", hostPrefixOf(otherV4)}}), "interface net9: ")
		require.ErrorContains(t, Announce(ctx, []Addr{{"lo", hostPrefixOf(otherV4)}}, 0), "announce: interface lo has no Ethernet address")
	})
}

// TestAnnounce: the wire carries a gratuitous ARP in both forms and an unsolicited
// advertisement, and again later; a router that had another MAC address for the
// source learns the new one.
func TestAnnounce(t *testing.T) {
	p := network(t)
	var mac net.HardwareAddr
	in(t, p.Egress, func() { mac = link(t, "macvlan0").Attrs().HardwareAddr })
	stale(t, p)
	var conn *packet.Conn
	in(t, p.Gateway, func() {
		ifi, err := net.InterfaceByName("lan0")
		require.NoError(t, err)
		conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		require.NoError(t, err)
	})
	t.Cleanup(func() { _ = conn.Close() })
	plan := mustSetup(t, p, unprobed(t, HTTPProxy, bothFamilies, gatewayV4+" "+gatewayV6, ""))
	again := 200 * time.Millisecond
	in(t, p.Egress, func() { require.NoError(t, Announce(context.Background(), plan.Announce, again)) })

	var when []time.Time
	got := map[string]int{}
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
	buf := make([]byte, 2000)
	for len(when) < 6 {
		n, _, err := conn.ReadFrom(buf)
		require.NoError(t, err, "seen up to now: %v", got)
		f := buf[:n]
		if string(f[6:12]) != string(mac) {
			continue
		}
		kind := ""
		switch binary.BigEndian.Uint16(f[12:]) {
		case etherARP:
			if string(f[28:32]) == string(aa(nettest.SourceV4).AsSlice()) && string(f[38:42]) == string(f[28:32]) {
				kind = map[byte]string{1: "request", 2: "reply"}[f[21]]
			}
		case etherIPv6:
			if f[20] == icmp6 && f[54] == icmp6Advertise && string(f[62:78]) == string(aa(nettest.SourceV6).AsSlice()) && string(f[38:54]) == string(allNodes.AsSlice()) {
				require.Equal(t, append([]byte{optTargetLLA, 1}, mac...), f[78:86])
				require.Zero(t, checksum(aa(nettest.SourceV6), allNodes, f[54:86]))
				kind = "advertisement"
			}
		}
		if kind != "" {
			got[kind]++
			when = append(when, time.Now())
		}
	}
	require.Equal(t, map[string]int{"request": 2, "reply": 2, "advertisement": 2}, got)
	in(t, p.Gateway, func() {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			neighbours, err := netlink.NeighList(link(t, "lan0").Attrs().Index, family)
			require.NoError(t, err)
			found := false
			for _, n := range neighbours {
				if n.IP.Equal(net.ParseIP(nettest.SourceV4)) || n.IP.Equal(net.ParseIP(nettest.SourceV6)) {
					found = true
					require.Equal(t, mac.String(), n.HardwareAddr.String())
				}
			}
			require.True(t, found)
		}
	})
}

// stale gives the gateway neighbours of another node for the sources.
func stale(t *testing.T, p *nettest.Topology) {
	t.Helper()
	in(t, p.Gateway, func() {
		for _, s := range []string{nettest.SourceV4, nettest.SourceV6} {
			require.NoError(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: link(t, "lan0").Attrs().Index, State: netlink.NUD_STALE,
				IP: aa(s).AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}))
		}
	})
}

func TestClaims(t *testing.T) {
	t.Parallel()
	me, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	v4, v6 := aa("192.0.2.10"), aa("2001:db8::a")
	nobody := make(net.HardwareAddr, 6)
	plain := neighbourFrame(icmp6Advertise, override, other, v6, allNodes, v6, 0)
	for name, c := range map[string]struct {
		frame []byte
		addr  string
		want  bool
	}{
		"ARP answer":           {arpFrame(arpReply, other, v4, me, aa("0.0.0.0")), "192.0.2.10", true},
		"ARP question by it":   {arpFrame(arpRequest, other, v4, nobody, aa("192.0.2.1")), "192.0.2.10", true},
		"ARP probe":            {probeFrame(other, v4), "192.0.2.10", true},
		"our own":              {probeFrame(me, v4), "192.0.2.10", false},
		"ARP question for it":  {arpFrame(arpRequest, other, aa("192.0.2.1"), nobody, v4), "192.0.2.10", false},
		"ARP of another":       {arpFrame(arpReply, other, aa("192.0.2.11"), me, v4), "192.0.2.10", false},
		"IPv6 answer":          {announceFrames(other, v6)[0], "2001:db8::a", true},
		"IPv6, no option":      {plain, "2001:db8::a", true},
		"IPv6 probe":           {probeFrame(other, v6), "2001:db8::a", true},
		"IPv6 question for it": {neighbourFrame(icmp6Solicit, 0, other, aa("2001:db8::1"), solicitedNode(v6), v6, 0), "2001:db8::a", false},
		"IPv6 of another":      {announceFrames(other, aa("2001:db8::b"))[0], "2001:db8::a", false},
		"other family":         {announceFrames(other, v6)[0], "192.0.2.10", false},
		"broken off":           {announceFrames(other, v6)[0][:60], "2001:db8::a", false},
		"nothing":              {nil, "2001:db8::a", false},
		"from afar":            {farAway(plain), "2001:db8::a", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mac, ok := claimant(c.frame, me, aa(c.addr))
			require.Equal(t, c.want, ok)
			if ok {
				require.Equal(t, other.String(), mac.String())
			}
		})
	}
}

// farAway is a frame whose hop limit says that a router passed it on.
func farAway(f []byte) []byte {
	f = append([]byte(nil), f...)
	f[etherHead+7] = 254
	return f
}
