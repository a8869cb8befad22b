package netsetup

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Addresses of the topology's LAN that it does not name, and a client that the
// pod reaches by its default route only.
const (
	gatewayV4, gatewayV6 = "198.51.100.1", "2001:db8:1::1"
	otherV4              = "198.51.100.51"
	gateway2V4           = "198.51.100.2"
	remoteV4, remoteV6   = "172.16.5.5", "fd00:555::5"
)

// network is a topology whose egress pod is not set up yet: macvlan0 is down and
// bare, and everything leaves by eth0.
func network(t testing.TB) *nettest.Topology {
	t.Helper()
	p := nettest.NewTopology(t)
	in(t, p.Egress, func() {
		l := link(t, "macvlan0")
		for _, s := range []string{nettest.SourceV4 + "/24", nettest.SourceV6 + "/64"} {
			a, err := netlink.ParseAddr(s)
			require.NoError(t, err)
			require.NoError(t, netlink.AddrDel(l, a))
		}
		require.NoError(t, netlink.LinkSetDown(l))
	})
	p.Egress.Route("default", nettest.NodeV4)
	p.Egress.Route("default", nettest.NodeV6)
	// A client elsewhere in the cluster, that no route of the pod names.
	p.Client.Address("eth0", remoteV4+"/32", remoteV6+"/128")
	p.Node.Route(remoteV4+"/32", nettest.ClientV4)
	p.Node.Route(remoteV6+"/128", nettest.ClientV6)
	return p
}

// in runs f in the namespace. f may fail the test.
func in(t testing.TB, n *nettest.Netns, f func()) {
	t.Helper()
	ok := false
	require.NoError(t, n.Do(func() error {
		f()
		ok = true
		return nil
	}))
	require.True(t, ok)
}

func link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return l
}

// macvlan makes an interface on the node's link and moves it into the egress pod.
func macvlan(t testing.TB, p *nettest.Topology, name string) {
	t.Helper()
	pod := namespace(t, p.Egress)
	in(t, p.Node, func() {
		at := netlink.NewLinkAttrs()
		at.Name, at.ParentIndex = name, link(t, "phys0").Attrs().Index
		m := &netlink.Macvlan{LinkAttrs: at, Mode: netlink.MACVLAN_MODE_BRIDGE}
		require.NoError(t, netlink.LinkAdd(m))
		require.NoError(t, netlink.LinkSetNsFd(m, pod))
	})
}

// namespace is a descriptor of n, open for the test.
func namespace(t testing.TB, n *nettest.Netns) int {
	t.Helper()
	var h netns.NsHandle
	in(t, n, func() {
		var err error
		h, err = netns.Get()
		require.NoError(t, err)
	})
	t.Cleanup(func() { _ = h.Close() })
	return int(h)
}

// withKernel runs f with a Kernel of the egress pod.
func withKernel(t testing.TB, p *nettest.Topology, f func(k *Kernel)) {
	t.Helper()
	in(t, p.Egress, func() {
		k, err := OpenKernel()
		require.NoError(t, err)
		defer k.Close()
		f(k)
	})
}

func setup(t testing.TB, p *nettest.Topology, c Config) (plan *Plan, err error) {
	t.Helper()
	withKernel(t, p, func(k *Kernel) { plan, err = k.Setup(context.Background(), c) })
	return plan, err
}

func mustSetup(t testing.TB, p *nettest.Topology, c Config) *Plan {
	t.Helper()
	plan, err := setup(t, p, c)
	require.NoError(t, err)
	return plan
}

func inspect(t testing.TB, p *nettest.Topology) (s State) {
	t.Helper()
	withKernel(t, p, func(k *Kernel) {
		var err error
		s, err = k.Inspect(true)
		require.NoError(t, err)
	})
	return s
}

// defaults are the default routes of the main table.
func defaults(s State) (all []string) {
	for _, r := range s.Routes {
		if r.isDefault() && r.Table == tableMain {
			all = append(all, r.words())
		}
	}
	return all
}

// unprobed is config without the second that the probe takes.
func unprobed(t testing.TB, mode Mode, source, gateway, destination string) Config {
	t.Helper()
	c := config(t, mode, source, gateway, destination)
	c.SkipProbe = true
	return c
}

// server answers each line with its name and the address that it came from.
func server(t testing.TB, n *nettest.Netns, network, addr string) {
	t.Helper()
	if network == "udp" {
		pc := n.ListenPacket(addr)
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, 1500)
			for {
				_, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(writerTo{pc, from}, "%s %s\n", n.Name, from.(*net.UDPAddr).AddrPort().Addr().Unmap())
			}
		}()
		t.Cleanup(func() { _ = pc.Close(); <-done })
		return
	}
	l := n.Listen(addr)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn // their clients may be cut off, and never close them
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					_, _ = fmt.Fprintf(c, "%s %s\n", n.Name, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// dial connects from an address of n, or from any if it is "".
func dial(t testing.TB, n *nettest.Netns, network, from, addr string) net.Conn {
	t.Helper()
	c, err := tryDial(n, network, from, addr, 5*time.Second)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c
}

func tryDial(n *nettest.Netns, network, from, addr string, limit time.Duration) (c net.Conn, err error) {
	d := net.Dialer{FallbackDelay: -1, Timeout: limit}
	if from != "" {
		ap := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
		if d.LocalAddr = ap; network == "tcp" {
			d.LocalAddr = (*net.TCPAddr)(ap)
		}
	}
	err = n.Do(func() error {
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

// ask sends a line and returns the answer.
func ask(t testing.TB, c net.Conn) string {
	t.Helper()
	_, err := fmt.Fprintln(c, "who am I?")
	require.NoError(t, err)
	answer, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	return answer[:len(answer)-1]
}

func at(addr string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)).String()
}
