package netsetup

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

const bothFamilies = nettest.SourceV4 + "/24 " + nettest.SourceV6 + "/64"

func everything(t testing.TB) Config {
	return unprobed(t, Init, bothFamilies, gatewayV4+" "+gatewayV6,
		"80 tcp "+nettest.ServerAV4+"\n8080 udp "+nettest.ServerAV4+" 80\n3868 sctp "+nettest.ServerAV4+"\n80 tcp "+nettest.ServerAV6+" 8080\n"+nettest.ServerBV4)
}

// events counts what netlink tells of changes while f runs.
func events(t *testing.T, p *nettest.Topology, f func()) (all []string) {
	t.Helper()
	open := func(protocol int, groups uint32, add ...int) int {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
		require.NoError(t, err)
		require.NoError(t, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}))
		for _, g := range add {
			require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g))
		}
		return fd
	}
	var route, filter int
	in(t, p.Egress, func() {
		route = open(unix.NETLINK_ROUTE, unix.RTMGRP_LINK|unix.RTMGRP_IPV4_IFADDR|unix.RTMGRP_IPV6_IFADDR|
			unix.RTMGRP_IPV4_ROUTE|unix.RTMGRP_IPV6_ROUTE|unix.RTMGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
		filter = open(unix.NETLINK_NETFILTER, 0, unix.NFNLGRP_NFTABLES)
	})
	defer unix.Close(route)
	defer unix.Close(filter)
	f()
	buf := make([]byte, 1<<16)
	for name, fd := range map[string]int{"route": route, "nftables": filter} {
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				require.ErrorIs(t, err, unix.EAGAIN)
				break
			}
			all = append(all, fmt.Sprintf("%s: %d octets, type %d", name, n, buf[4]))
		}
	}
	return all
}

// settled reports whether the link is up with what it sends over, which the kernel finds
// some time after it was set up, and none of its addresses is still being tried.
func settled(t *testing.T, name string) bool {
	t.Helper()
	l := link(t, name)
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	require.NoError(t, err)
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			return false
		}
	}
	return l.Attrs().OperState == netlink.OperUp
}

func TestSecondRunChangesNothing(t *testing.T) {
	p := network(t)
	c := everything(t)
	first := events(t, p, func() { require.NotEmpty(t, mustSetup(t, p, c).Changes) })
	require.Greater(t, len(first), 10, "the monitor sees changes")
	nettest.Eventually(t, "the kernel has told of the link what it tells later", func() (ok bool) {
		in(t, p.Egress, func() { ok = settled(t, "macvlan0") })
		return ok
	})
	require.Empty(t, events(t, p, func() { require.Empty(t, mustSetup(t, p, c).Changes) }))
	require.Equal(t, []string{
		"default via 198.51.100.1 dev macvlan0 proto 83 src 198.51.100.50",
		"default via 2001:db8:1::1 dev macvlan0 proto 83 src 2001:db8:1::50",
	}, defaults(inspect(t, p)))
}

// TestFailureGoesBack fails each step in turn, of a first set-up and of a change
// of everything, and looks whether all is as it was.
func TestFailureGoesBack(t *testing.T) {
	p := network(t)
	moved := unprobed(t, Init, otherV4+" 2001:db8:1::51", gateway2V4+" 2001:db8:1::2", "80 tcp "+nettest.ServerBV4)
	failAtEach(t, p, "first", everything(t))
	mustSetup(t, p, everything(t))
	failAtEach(t, p, "move", moved)
}

func failAtEach(t *testing.T, p *nettest.Topology, name string, c Config) {
	t.Helper()
	before := inspect(t, p)
	plan, err := NewPlan(c, before)
	require.NoError(t, err)
	require.NotEmpty(t, plan.Changes)
	for i, change := range plan.Changes {
		boom := errors.New("boom")
		withKernel(t, p, func(k *Kernel) {
			n := 0
			k.inject = func(Change) error {
				if n++; n > i {
					return boom
				}
				return nil
			}
			_, err = k.Setup(context.Background(), c)
		})
		require.ErrorIs(t, err, boom)
		require.ErrorContains(t, err, change.step())
		after := inspect(t, p)
		require.Equal(t, defaults(before), defaults(after), "%s, step %d: %s", name, i, change)
		for _, c := range append(diff(after, before), diff(before, after)...) {
			t.Errorf("%s, step %d, %s: not undone: %s", name, i, change, c)
		}
	}
}

func TestRealFailureNamesTheStep(t *testing.T) {
	p := network(t)
	c := unprobed(t, HTTPProxy, nettest.SourceV4, gatewayV4, "")
	in(t, p.Egress, func() { // something else has the way to the gateway
		dst := toIPNet(pp(gatewayV4 + "/32"))
		require.NoError(t, netlink.RouteAdd(&netlink.Route{Dst: dst, Type: unix.RTN_BLACKHOLE, Table: tableSource}))
	})
	before := defaults(inspect(t, p))
	_, err := setup(t, p, c)
	require.ErrorContains(t, err, "ip route add "+gatewayV4+"/32 dev macvlan0 table 7710 proto 83 scope link: file exists (what was there before is restored)")
	require.Equal(t, before, defaults(inspect(t, p)))
}

func TestChangedSourceMovesOver(t *testing.T) {
	p := network(t)
	server(t, p.ServerA, "tcp", at(nettest.ServerAV4, 80))
	server(t, p.ServerA, "tcp", at(nettest.ServerAV6, 80))
	mustSetup(t, p, unprobed(t, HTTPProxy, bothFamilies, gatewayV4+" "+gatewayV6, ""))
	require.Equal(t, "server-a "+nettest.SourceV4, ask(t, dial(t, p.Egress, "tcp", "", at(nettest.ServerAV4, 80))))
	require.Equal(t, "server-a "+nettest.SourceV6, ask(t, dial(t, p.Egress, "tcp", "", at(nettest.ServerAV6, 80))))

	// Another address, another length of the same address.
	c := unprobed(t, HTTPProxy, otherV4+"/24 "+nettest.SourceV6+"/128", gatewayV4+" "+gatewayV6, "")
	mustSetup(t, p, c)
	now := inspect(t, p)
	require.Empty(t, now.carriers(aa(nettest.SourceV4)))
	require.Contains(t, now.Addrs, Addr{"macvlan0", pp(otherV4 + "/24")})
	require.Contains(t, now.Addrs, Addr{"macvlan0", pp(nettest.SourceV6 + "/128")})
	require.Equal(t, "server-a "+otherV4, ask(t, dial(t, p.Egress, "tcp", "", at(nettest.ServerAV4, 80))))
	require.Equal(t, "server-a "+nettest.SourceV6, ask(t, dial(t, p.Egress, "tcp", "", at(nettest.ServerAV6, 80))))

	// No IPv6 any more: it leaves as it did before the first run.
	c.Sources = c.Sources[:1]
	mustSetup(t, p, c)
	require.Equal(t, "default via "+nettest.NodeV6+" dev eth0", defaults(inspect(t, p))[1])
	require.Empty(t, mustSetup(t, p, c).Changes)
}

// TestFoundAddressStays: what somebody else (Multus) put on the interface is not
// taken away.
func TestFoundAddressStays(t *testing.T) {
	p := network(t)
	p.Egress.Address("macvlan0", nettest.SourceV4+"/24")
	mustSetup(t, p, unprobed(t, HTTPProxy, nettest.SourceV4, gatewayV4, ""))
	mustSetup(t, p, unprobed(t, HTTPProxy, otherV4, gatewayV4, ""))
	now := inspect(t, p)
	require.Contains(t, now.Addrs, Addr{"macvlan0", pp(nettest.SourceV4 + "/24")})
	require.Contains(t, now.Addrs, Addr{"macvlan0", pp(otherV4 + "/32")})
}

func TestInterfaceIsMade(t *testing.T) {
	p := network(t)
	in(t, p.Egress, func() { require.NoError(t, netlink.LinkDel(link(t, "macvlan0"))) })
	c := unprobed(t, HTTPProxy, "10.128.0.77", nettest.NodeV4, "")
	c.Master = "eth0"
	failAtEach(t, p, "made", c)
	mustSetup(t, p, c)
	require.Equal(t, []string{"default via 10.128.0.1 dev macvlan0 proto 83 src 10.128.0.77", "default via fd00:128::1 dev eth0"}, defaults(inspect(t, p)))
	require.Empty(t, mustSetup(t, p, c).Changes)
}

// TestPrintedPlanIsTheTruth runs what --dry-run prints, by ip and nft, and finds
// nothing left to do.
func TestPrintedPlanIsTheTruth(t *testing.T) {
	p := network(t)
	c := everything(t)
	var more []Problem
	if c.Sources, more = ParseSources(bothFamilies + " " + otherV4 + " 2001:db8:1::51/64"); len(more) == 0 {
		more = ParseGateways(gatewayV4+" "+gatewayV6, c.Sources)
	}
	require.Empty(t, more)
	runsAsPrinted(t, p, c)
}

func runsAsPrinted(t *testing.T, p *nettest.Topology, c Config) {
	t.Helper()
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			nettest.Unavailable(t, fmt.Sprintf("%v: install iproute2 and nftables", err))
		}
	}
	before := inspect(t, p)
	plan, err := NewPlan(c, before)
	require.NoError(t, err)
	var script []string
	for _, line := range strings.Split(plan.String(), "\n") {
		if !strings.HasPrefix(line, "arping") && !strings.HasPrefix(line, "ndsend") {
			script = append(script, withoutSysctl(line))
		}
	}
	in(t, p.Egress, func() {
		out, err := exec.Command("sh", "-e", "-c", strings.Join(script, "\n")).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	plan, err = NewPlan(c, inspect(t, p))
	require.NoError(t, err)
	require.Empty(t, plan.Changes, "%s", plan)

	// And back, by the plan for that.
	for _, change := range diff(inspect(t, p), before) {
		in(t, p.Egress, func() {
			out, err := exec.Command("sh", "-e", "-c", withoutSysctl(change.String())).CombinedOutput()
			if change.Op != RouteDel { // it may have gone with an address
				require.NoError(t, err, "%s: %s", change, out)
			}
		})
	}
	require.Equal(t, defaults(before), defaults(inspect(t, p)))
}

// withoutSysctl does what sysctl(8) does: the program is not everywhere.
func withoutSysctl(line string) string {
	setting, ok := strings.CutPrefix(line, "sysctl -qw ")
	if !ok {
		return line
	}
	key, value, _ := strings.Cut(setting, "=")
	return fmt.Sprintf("echo %s > %s", value, sysctlFile(dotted(key)))
}
