package fence

import (
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The kernel speaks for an address only while that is held, of both families: connections,
// ARP and neighbour discovery, its own questions and answers.
func TestKernelSpeaks(t *testing.T) {
	for name, weak := range map[string]bool{"with egress hook": false, "output alone": true} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			serve(t, l.ServerA, nettest.ServerAV4)
			serve(t, l.ServerA, nettest.ServerAV6)
			var f *Fence
			l.pod(t, func() { f = one(t, both, weak) })
			l.bring(t)
			servers := map[string]string{nettest.SourceV4: nettest.ServerAV4, nettest.SourceV6: nettest.ServerAV6}
			gateways := map[string]string{nettest.SourceV4: gatewayV4, nettest.SourceV6: gatewayV6}
			silent := func() {
				t.Helper()
				for source, server := range servers {
					require.Error(t, dial(l.Egress, source, server, 200*time.Millisecond))
					// The gateway asks for the address, and the kernel here answers.
					require.Error(t, dial(l.Gateway, gateways[source], source, 200*time.Millisecond))
				}
				require.Empty(t, l.spoken(t))
			}
			silent()
			l.pod(t, func() { hold(t, f, 20*time.Second) })
			for source, server := range servers {
				require.NoError(t, dial(l.Egress, source, server, 10*time.Second))
				require.ErrorIs(t, dial(l.Gateway, gateways[source], source, 10*time.Second), unix.ECONNREFUSED)
			}
			spoken := l.spoken(t)
			for _, kind := range []string{"ARP reply", "TCP4", "advertisement", "TCP6"} {
				require.NotZero(t, spoken[kind], "%s of %v", kind, spoken)
			}
			l.pod(t, func() { require.NoError(t, f.LetGo()) })
			forget(t, l)
			silent()
			// It ends by itself as well.
			l.pod(t, func() { hold(t, f, 300*time.Millisecond) })
			nettest.Eventually(t, "it has expired", func() (over bool) {
				l.pod(t, func() {
					left, err := f.Held()
					require.NoError(t, err)
					over = left == 0
				})
				return over
			})
			l.spoken(t)
			silent()
			l.pod(t, func() {
				n, err := f.Dropped()
				require.NoError(t, err)
				require.NotZero(t, n)
			})
		})
	}
}

// forget has everybody forget their neighbours, so that they ask again.
func forget(t *testing.T, l *lan) {
	t.Helper()
	for _, n := range []*nettest.Netns{l.Egress, l.Gateway} {
		in(t, n, func() {
			for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
				neighbours, err := netlink.NeighList(0, family)
				require.NoError(t, err)
				for _, n := range neighbours {
					if n.State&(unix.NUD_NOARP|unix.NUD_PERMANENT) == 0 {
						require.NoError(t, netlink.NeighDel(&n))
					}
				}
			}
		})
	}
}

// What the hook for output does not see: frames that a program makes, segments that waited
// for the neighbour's address, and what is forwarded. The egress hook stops all of it. That
// the weaker fence does not is the negative control: this test can see what leaves.
func TestBesideOutput(t *testing.T) {
	source4, source6 := nettest.SourceV4, nettest.SourceV6
	frames := func(mac []byte) map[string][]byte {
		return map[string][]byte{
			"gratuitous reply":                arpFrame(2, mac, source4, source4),
			"gratuitous request":              arpFrame(1, mac, source4, source4),
			"who-has":                         arpFrame(1, mac, source4, gatewayV4),
			"advertisement":                   naFrame(mac, source6, source6),
			"advertisement from another addr": naFrame(mac, "fe80::1", source6),
		}
	}
	for name, weak := range map[string]bool{"with egress hook": false, "output alone": true} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			var f *Fence
			l.pod(t, func() { f = one(t, both, weak) })
			l.bring(t)
			for what, frame := range frames(l.mac) {
				l.send(t, frame)
				require.Equal(t, weak, len(l.spoken(t)) > 0, what)
			}
			waiting(t, l, f, weak)

			// A question from nowhere is no claim.
			l.send(t, arpFrame(1, l.mac, "0.0.0.0", source4))
			require.Equal(t, map[string]int{"ARP probe": 1}, l.spoken(t))
			l.pod(t, func() { hold(t, f, 20*time.Second) })
			for what, frame := range frames(l.mac) {
				l.send(t, frame)
				require.Len(t, l.spoken(t), 1, what)
			}
		})
	}
}

// waiting begins connections to hosts that do not answer while the address is held, lets go,
// and then says where the hosts are: what waited for that leaves, if nothing stops it.
func waiting(t *testing.T, l *lan, f *Fence, leaves bool) {
	t.Helper()
	l.pod(t, func() { hold(t, f, 20*time.Second) })
	l.connect(t, nettest.SourceV4, nobodyV4)
	l.connect(t, nettest.SourceV6, nobodyV6)
	l.pod(t, func() { require.NoError(t, f.LetGo()) })
	l.spoken(t)
	l.pod(t, func() {
		for _, a := range []string{nobodyV4, nobodyV6} {
			require.NoError(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: l.index, IP: aa(a).AsSlice(), State: unix.NUD_PERMANENT,
				HardwareAddr: []byte{2, 0, 0, 0, 0, 9}}))
		}
	})
	spoken := l.spoken(t)
	require.Equal(t, leaves, spoken["TCP4"] > 0, "%v", spoken)
	require.Equal(t, leaves, spoken["TCP6"] > 0, "%v", spoken)
}

// Connections of others that leave from the address are stopped as well, and go on when it
// is held again.
func TestForwarded(t *testing.T) {
	for name, weak := range map[string]bool{"with egress hook": false, "output alone": true} {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t)
			serve(t, l.ServerA, nettest.ServerAV4)
			var f *Fence
			l.pod(t, func() { f = one(t, both, weak) })
			l.bring(t)
			write(t, l.Egress, "/proc/sys/net/ipv4/ip_forward", "1")
			l.Client.Route(nettest.ServerAV4+"/32", nettest.PodV4)
			l.pod(t, func() { snat(t) })
			require.Error(t, dial(l.Client, nettest.ClientV4, nettest.ServerAV4, 200*time.Millisecond))
			require.Empty(t, l.spoken(t))
			l.pod(t, func() { hold(t, f, 20*time.Second) })
			require.NoError(t, dial(l.Client, nettest.ClientV4, nettest.ServerAV4, 10*time.Second))
			require.NotZero(t, l.spoken(t)["TCP4"])
			l.pod(t, func() { require.NoError(t, f.LetGo()) })
			l.spoken(t)
			require.Error(t, dial(l.Client, nettest.ClientV4, nettest.ServerAV4, 200*time.Millisecond))
			require.Empty(t, l.spoken(t))
		})
	}
}

// snat has what leaves by macvlan0 leave from the source, as redirect mode does.
func snat(t *testing.T) {
	t.Helper()
	conn, err := nftables.New()
	require.NoError(t, err)
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nat"})
	chain := conn.AddChain(&nftables.Chain{Table: table, Name: "postrouting", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	name := make([]byte, 16)
	copy(name, "macvlan0")
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(is(expr.MetaKeyOIFNAME, name...),
		&expr.Immediate{Register: 1, Data: aa(nettest.SourceV4).AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1})})
	require.NoError(t, conn.Flush())
}
