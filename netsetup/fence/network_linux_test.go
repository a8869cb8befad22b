package fence

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Addresses of the LAN that the topology does not name.
const (
	gatewayV4, gatewayV6 = "198.51.100.1", "2001:db8:1::1"
	nobodyV4, nobodyV6   = "198.51.100.77", "2001:db8:1::77"
	markV4               = "198.51.100.99" // asked for when all before it has come
)

func aa(s string) netip.Addr { return netip.MustParseAddr(s) }

var both = Group{"egress", []netip.Addr{aa(nettest.SourceV4), aa(nettest.SourceV6)}}

// lan is a topology whose egress pod has macvlan0 up, without the source addresses, and an
// observer of what it sends.
type lan struct {
	*nettest.Topology
	mac   net.HardwareAddr // of macvlan0
	index int
	marks *packet.Conn

	mu   sync.Mutex
	seen [][]byte
	more chan struct{} // of one
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{Topology: nettest.NewTopology(t), more: make(chan struct{}, 1)}
	l.pod(t, func() {
		link := link(t, "macvlan0")
		l.mac, l.index = link.Attrs().HardwareAddr, link.Attrs().Index
		l.address(t, netlink.AddrDel)
		l.marks = raw(t, "macvlan0", unix.ETH_P_ARP)
	})
	var c *packet.Conn
	in(t, l.Node, func() { c = raw(t, "phys0", unix.ETH_P_ALL) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if string(buf[6:12]) != string(l.mac) {
				continue
			}
			l.mu.Lock()
			l.seen = append(l.seen, append([]byte(nil), buf[:n]...))
			l.mu.Unlock()
			select {
			case l.more <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return l
}

// address changes the source addresses of macvlan0. It runs in the pod.
func (l *lan) address(t *testing.T, change func(netlink.Link, *netlink.Addr) error) {
	t.Helper()
	for _, s := range []string{nettest.SourceV4 + "/24", nettest.SourceV6 + "/64"} {
		a, err := netlink.ParseAddr(s)
		require.NoError(t, err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		require.NoError(t, change(link(t, "macvlan0"), a))
	}
}

// bring brings the source addresses, with the routes that went with them.
func (l *lan) bring(t *testing.T) {
	t.Helper()
	l.pod(t, func() {
		l.address(t, netlink.AddrAdd)
		for _, gw := range []string{gatewayV4, gatewayV6} {
			require.NoError(t, netlink.RouteReplace(&netlink.Route{Gw: aa(gw).AsSlice(), LinkIndex: l.index}))
		}
	})
}

func (l *lan) pod(t *testing.T, f func()) { t.Helper(); in(t, l.Egress, f) }

// in runs f in the namespace. f may fail the test.
func in(t *testing.T, n *nettest.Netns, f func()) {
	t.Helper()
	ok := false
	require.NoError(t, n.Do(func() error {
		f()
		ok = true
		return nil
	}))
	require.True(t, ok)
}

func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return l
}

func raw(t *testing.T, name string, kind int) *packet.Conn {
	t.Helper()
	ifi, err := net.InterfaceByName(name)
	require.NoError(t, err)
	c, err := packet.Listen(ifi, packet.Raw, kind, nil)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// spoken is how often each kind of frame about a source address left the pod since the last
// call. A mark shows that none is on its way.
func (l *lan) spoken(t *testing.T) map[string]int {
	t.Helper()
	_, err := l.marks.WriteTo(arpFrame(1, l.mac, "0.0.0.0", markV4), &packet.Addr{HardwareAddr: broadcast})
	require.NoError(t, err)
	limit := time.After(10 * time.Second)
	for {
		l.mu.Lock()
		kinds := map[string]int{}
		for i, f := range l.seen {
			k := kind(f)
			if k == "mark" {
				l.seen = l.seen[i+1:]
				l.mu.Unlock()
				return kinds
			}
			if k != "" {
				kinds[k]++
			}
		}
		l.mu.Unlock()
		select {
		case <-l.more:
		case <-limit:
			t.Fatal("the mark was not seen")
		}
	}
}

// kind is what a frame says for, or of, a source address; "" when it has nothing to do with one.
func kind(f []byte) string {
	v4, v6 := string(aa(nettest.SourceV4).AsSlice()), string(aa(nettest.SourceV6).AsSlice())
	p := f[14:]
	switch binary.BigEndian.Uint16(f[12:]) {
	case unix.ETH_P_ARP:
		sender, target := string(p[14:18]), string(p[24:28])
		switch {
		case target == string(aa(markV4).AsSlice()):
			return "mark"
		case sender == v4 && p[7] == 1:
			return "ARP request"
		case sender == v4:
			return "ARP reply"
		case sender == "\x00\x00\x00\x00" && target == v4:
			return "ARP probe"
		}
	case unix.ETH_P_IP:
		if string(p[12:16]) == v4 {
			return map[byte]string{unix.IPPROTO_TCP: "TCP", unix.IPPROTO_UDP: "UDP"}[p[9]] + "4"
		}
	case unix.ETH_P_IPV6:
		from := string(p[8:24]) == v6
		switch {
		case p[6] == unix.IPPROTO_ICMPV6 && p[40] == 136 && string(p[48:64]) == v6:
			return "advertisement"
		case p[6] == unix.IPPROTO_ICMPV6 && p[40] == 135 && from:
			return "solicitation"
		case from:
			return map[byte]string{unix.IPPROTO_TCP: "TCP", unix.IPPROTO_UDP: "UDP"}[p[6]] + "6"
		}
	}
	return ""
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func arpFrame(op byte, mac net.HardwareAddr, sender, target string) []byte {
	f := append(append([]byte(nil), broadcast...), mac...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, op)
	f = append(append(f, mac...), aa(sender).AsSlice()...)
	f = append(append(f, broadcast...), aa(target).AsSlice()...)
	return append(f, make([]byte, 60-len(f))...)
}

// advertisement is an unsolicited NA about target, from a source that may be another.
func naFrame(mac net.HardwareAddr, source, target string) []byte {
	f := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, unix.IPPROTO_ICMPV6, 255)
	f = append(append(f, aa(source).AsSlice()...), aa("ff02::1").AsSlice()...)
	f = append(f, 136, 0, 0, 0, 0x20, 0, 0, 0)
	f = append(append(f, aa(target).AsSlice()...), 2, 1)
	return append(f, mac...)
}

// send sends a raw frame from the pod. That the fence stops it may be an error, or none.
func (l *lan) send(t *testing.T, frame []byte) {
	t.Helper()
	l.pod(t, func() {
		c := raw(t, "macvlan0", int(binary.BigEndian.Uint16(frame[12:])))
		if _, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
			require.ErrorIs(t, err, unix.ENOBUFS)
		}
	})
}

// connect begins a connection from the pod, and does not wait for it.
func (l *lan) connect(t *testing.T, from, to string) (fd int) {
	t.Helper()
	l.pod(t, func() {
		family := unix.AF_INET
		if aa(to).Is6() {
			family = unix.AF_INET6
		}
		var err error
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		require.NoError(t, unix.Bind(fd, sockaddr(from, 0)))
		if err := unix.Connect(fd, sockaddr(to, 80)); err != nil {
			require.ErrorIs(t, err, unix.EINPROGRESS)
		}
	})
	return fd
}

func sockaddr(addr string, port int) unix.Sockaddr {
	if a := aa(addr); a.Is6() {
		return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
	}
	return &unix.SockaddrInet4{Addr: aa(addr).As4(), Port: port}
}

// serve answers connections at addr, by closing them.
func serve(t *testing.T, n *nettest.Netns, addr string) {
	t.Helper()
	l := n.Listen(net.JoinHostPort(addr, "80"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

// dial connects from an address of the namespace, for up to the limit.
func dial(n *nettest.Netns, from, to string, limit time.Duration) error {
	d := net.Dialer{FallbackDelay: -1, Timeout: limit, LocalAddr: &net.TCPAddr{IP: aa(from).AsSlice()}}
	return n.Do(func() error {
		c, err := d.Dial("tcp", net.JoinHostPort(to, "80"))
		if err == nil {
			c.Close()
		}
		return err
	})
}

func write(t *testing.T, n *nettest.Netns, path, value string) {
	t.Helper()
	in(t, n, func() { require.NoError(t, os.WriteFile(path, []byte(value), 0)) })
}
