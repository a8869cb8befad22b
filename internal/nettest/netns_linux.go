package nettest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Unavailable skips the test because the machine lacks what it needs; why says
// what, and what to do. In CI (CI=true) as root nothing may be lacking: there the
// test fails.
func Unavailable(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
		t.Fatalf("must not be skipped in CI: %s", why)
	}
	t.Skip(why)
}

// Need is the path of a program that is installed; the test is skipped as by [Unavailable]
// when it is not.
func Need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Unavailable(t, name+" is not installed")
	}
	return path
}

// Netns is a network namespace without a name: it is gone when the test and the
// processes in it are. It takes root, or a user namespace (unshare -Urn), but
// touches nothing outside itself. Methods may be called concurrently.
type Netns struct {
	Name string // for messages

	t  testing.TB
	ns netns.NsHandle
	nl *netlink.Handle
}

// NewNetns makes a namespace with its loopback interface up. The test's Cleanup
// closes it. Where the kernel does not let us make one, the test is skipped.
func NewNetns(t testing.TB, name string) *Netns {
	t.Helper()
	n := &Netns{Name: name, t: t, ns: netns.None()}
	err := onOwnThread(func() (err error) {
		n.ns, err = netns.New()
		return err
	})
	if err != nil {
		Unavailable(t, fmt.Sprintf("cannot make a network namespace (%v): run as root, or under unshare -Urn", err))
	}
	t.Cleanup(func() { _ = n.ns.Close() })
	if n.nl, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE); err != nil {
		t.Fatalf("open netlink in namespace %s: %v", name, err)
	}
	t.Cleanup(n.nl.Close)
	// Link-local addresses are usable at once: nothing else is on these links, and
	// without them a router cannot ask for its neighbours.
	n.sysctl("net/ipv6/conf/all/accept_dad", "0")
	n.sysctl("net/ipv6/conf/default/accept_dad", "0")
	n.must(n.nl.LinkSetUp(n.link("lo")))
	return n
}

// onOwnThread runs f on a thread of its own, which dies with the call: its
// namespace may be changed.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		defer close(done)      // also when f fails the test, which ends the goroutine
		done <- f()
	}()
	err, ok := <-done
	if !ok {
		return errors.New("the test has failed there")
	}
	return err
}

// Do runs f on a thread that is in the namespace. Sockets and processes that f
// makes stay in it; goroutines that f starts are not.
func (n *Netns) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// Start starts cmd in the namespace.
func (n *Netns) Start(cmd *exec.Cmd) error { return n.Do(cmd.Start) }

// Listen listens at addr, a literal address with a port.
func (n *Netns) Listen(addr string) net.Listener {
	n.t.Helper()
	var l net.Listener
	n.must(n.Do(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	}))
	return l
}

// ListenPacket opens a UDP socket at addr, a literal address with a port.
func (n *Netns) ListenPacket(addr string) net.PacketConn {
	n.t.Helper()
	var pc net.PacketConn
	n.must(n.Do(func() (err error) {
		pc, err = net.ListenPacket("udp", addr)
		return err
	}))
	return pc
}

// DialContext connects to addr, a literal address with a port: what an
// [net/http.Transport] takes.
func (n *Netns) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, err // a name would be looked up outside the namespace
	}
	var c net.Conn
	err := n.Do(func() (err error) {
		c, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

func (n *Netns) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("namespace %s: %v", n.Name, err)
	}
}

func (n *Netns) sysctl(key, value string) {
	n.t.Helper()
	n.must(n.Do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0) }))
}

func (n *Netns) link(name string) netlink.Link {
	n.t.Helper()
	l, err := n.nl.LinkByName(name)
	if err != nil {
		n.t.Fatalf("namespace %s: interface %s: %v", n.Name, name, err)
	}
	return l
}

// forward makes the namespace a router.
func (n *Netns) forward() {
	n.t.Helper()
	n.sysctl("net/ipv4/ip_forward", "1")
	n.sysctl("net/ipv6/conf/all/forwarding", "1")
}

// bridge makes a switch, up, with the addresses, "ADDR/LEN" each.
func (n *Netns) bridge(name string, addrs ...string) {
	n.t.Helper()
	at := netlink.NewLinkAttrs()
	at.Name = name
	n.must(n.nl.LinkAdd(&netlink.Bridge{LinkAttrs: at}))
	// It keeps the MAC address that it has: else a port that is added later may give it another,
	// and who knows the old one loses packets for seconds.
	n.must(n.nl.LinkSetHardwareAddr(n.link(name), n.link(name).Attrs().HardwareAddr))
	n.Address(name, addrs...)
}

// cable connects an interface here with a port of the bridge in peer.
func (n *Netns) cable(name string, peer *Netns, bridge string, addrs ...string) {
	n.t.Helper()
	at := netlink.NewLinkAttrs()
	at.Name = name
	v := netlink.NewVeth(at)
	v.PeerName, v.PeerNamespace = "p-"+n.Name, netlink.NsFd(peer.ns)
	n.must(n.nl.LinkAdd(v))
	port := peer.link(v.PeerName)
	peer.must(peer.nl.LinkSetMaster(port, peer.link(bridge)))
	peer.must(peer.nl.LinkSetUp(port))
	n.Address(name, addrs...)
}

// macvlan makes an interface name on top of parent and moves it to pod, where it
// is still down and without an address.
func (n *Netns) macvlan(name, parent string, pod *Netns) {
	n.t.Helper()
	at := netlink.NewLinkAttrs()
	at.Name, at.ParentIndex = name, n.link(parent).Attrs().Index
	m := &netlink.Macvlan{LinkAttrs: at, Mode: netlink.MACVLAN_MODE_BRIDGE}
	n.must(n.nl.LinkAdd(m))
	n.must(n.nl.LinkSetNsFd(m, int(pod.ns)))
}

// Address gives the interface addresses, "ADDR/LEN" each, and sets it up.
func (n *Netns) Address(name string, addrs ...string) {
	n.t.Helper()
	l := n.link(name)
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		n.must(err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		n.must(n.nl.AddrAdd(l, a))
	}
	n.must(n.nl.LinkSetUp(l))
}

// Route adds a route to dst, "default" or a prefix, by the gateway via. Of what
// interface, the gateway tells.
func (n *Netns) Route(dst, via string) {
	n.t.Helper()
	gw := netip.MustParseAddr(via)
	n.must(n.nl.RouteAdd(&netlink.Route{Dst: network(dst, gw), Gw: gw.AsSlice()}))
}

// Everywhere makes every address one of the namespace itself: what is sent anywhere stays in it, and
// is refused where nobody listens. None becomes an address of an interface.
func (n *Netns) Everywhere() {
	n.t.Helper()
	for _, any := range []string{"0.0.0.0/0", "::/0"} {
		n.must(n.nl.RouteAdd(&netlink.Route{
			Dst: network(any, netip.Addr{}), LinkIndex: n.link("lo").Attrs().Index, Type: unix.RTN_LOCAL,
			Table: unix.RT_TABLE_MAIN, Scope: unix.RT_SCOPE_HOST,
		}))
	}
}

// Blackhole makes the router drop what goes to addr without a word.
func (n *Netns) Blackhole(addr string) { n.deadEnd(addr, unix.RTN_BLACKHOLE) }

// Unreachable makes the router answer that addr cannot be reached.
func (n *Netns) Unreachable(addr string) { n.deadEnd(addr, unix.RTN_UNREACHABLE) }

func (n *Netns) deadEnd(addr string, kind int) {
	n.t.Helper()
	a := netip.MustParseAddr(addr)
	dst := network(netip.PrefixFrom(a, a.BitLen()).String(), a)
	n.must(n.nl.RouteAdd(&netlink.Route{Dst: dst, Type: kind}))
}

// network is a prefix, or "default" of the family of addr.
func network(s string, addr netip.Addr) *net.IPNet {
	if s == "default" {
		s = "0.0.0.0/0"
		if addr.Is6() {
			s = "::/0"
		}
	}
	p := netip.MustParsePrefix(s)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Bracketed writes addr as a URL and net.Listen want it.
func Bracketed(addr string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]"
	}
	return addr
}
