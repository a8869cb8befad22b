package nettest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Packet is a TCP or UDP packet, or another IP packet with ports 0.
type Packet struct {
	Proto    byte // unix.IPPROTO_TCP …
	Src, Dst netip.AddrPort
}

func (p Packet) String() string { return fmt.Sprintf("%d %s > %s", p.Proto, p.Src, p.Dst) }

// Capture sees every IP packet on an interface, as tcpdump does.
type Capture struct {
	file *os.File

	mu      sync.Mutex
	packets []Packet
	more    chan struct{} // closed and replaced at each packet
}

// Capture begins to capture on eth0, until the test ends.
func (n *Netns) Capture(t testing.TB) *Capture {
	t.Helper()
	c := &Capture{more: make(chan struct{})}
	index := n.link("eth0").Attrs().Index
	err := n.Do(func() error {
		every := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, every)
		if err != nil {
			return err
		}
		c.file = os.NewFile(uintptr(fd), "capture")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(every), Ifindex: index})
	})
	if err != nil {
		t.Fatalf("capture in namespace %s: %v", n.Name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read()
	}()
	t.Cleanup(func() {
		_ = c.file.Close()
		<-done
	})
	return c
}

func (c *Capture) read() {
	frame := make([]byte, 1<<16)
	for {
		n, err := c.file.Read(frame)
		if err != nil {
			if errors.Is(err, unix.ENETDOWN) {
				continue
			}
			return
		}
		if p, ok := parseFrame(frame[:n]); ok {
			c.mu.Lock()
			c.packets = append(c.packets, p)
			close(c.more)
			c.more = make(chan struct{})
			c.mu.Unlock()
		}
	}
}

// parseFrame reads Ethernet, IPv4 or IPv6 without extensions, and the ports.
func parseFrame(b []byte) (p Packet, ok bool) {
	if len(b) < 14+40 && (len(b) < 14+20 || b[14]>>4 != 4) {
		return p, false
	}
	ip, payload := b[14:], []byte(nil)
	var src, dst netip.Addr
	switch binary.BigEndian.Uint16(b[12:]) {
	case unix.ETH_P_IP:
		p.Proto, payload = ip[9], ip[min(int(ip[0]&15)*4, len(ip)):]
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	case unix.ETH_P_IPV6:
		p.Proto, payload = ip[6], ip[40:]
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	default:
		return p, false
	}
	var from, to uint16
	if (p.Proto == unix.IPPROTO_TCP || p.Proto == unix.IPPROTO_UDP) && len(payload) >= 4 {
		from, to = binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
	}
	p.Src, p.Dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return p, true
}

// MarkPort is where [Topology.Seen] sends its marks; nobody listens there.
const MarkPort = 9

// Seen returns the TCP packets to and from addr that the capture saw up to now. To
// be sure that none is on its way, it sends a mark from the egress pod to addr and
// waits for it to be captured: packets of one path do not overtake each other.
func (p *Topology) Seen(t testing.TB, c *Capture, addr string) []Packet {
	t.Helper()
	dst := netip.MustParseAddr(addr)
	var mark net.Conn
	err := p.Egress.Do(func() (err error) {
		mark, err = net.Dial("udp", netip.AddrPortFrom(dst, MarkPort).String())
		return err
	})
	if err != nil {
		t.Fatalf("send a mark: %v", err)
	}
	defer mark.Close()
	own := mark.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, err := mark.Write([]byte("mark")); err != nil {
		t.Fatalf("send a mark: %v", err)
	}
	var seen []Packet
	for _, packet := range c.waitFor(t, func(q Packet) bool { return q.Src == own && q.Dst.Addr() == dst }) {
		if packet.Proto == unix.IPPROTO_TCP && (packet.Dst.Addr() == dst || packet.Src.Addr() == dst) {
			seen = append(seen, packet)
		}
	}
	return seen
}

// waitFor returns the packets up to the one that is wanted.
func (c *Capture) waitFor(t testing.TB, wanted func(Packet) bool) []Packet {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		c.mu.Lock()
		packets, more := c.packets, c.more
		c.mu.Unlock()
		for i, p := range packets {
			if wanted(p) {
				return packets[:i]
			}
		}
		select {
		case <-more:
		case <-limit:
			var all []string
			for _, p := range packets {
				all = append(all, p.String())
			}
			t.Fatalf("the packet waited for did not come; captured:\n%s", strings.Join(all, "\n"))
		}
	}
}
