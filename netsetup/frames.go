package netsetup

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Numbers of the protocols in frames.
const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpRequest = 1
	arpReply   = 2

	icmp6           = 58
	icmp6Solicit    = 135
	icmp6Advertise  = 136
	hopLimit        = 255 // neighbour discovery is believed from the link only
	override        = 0x20
	optSourceLLA    = 1
	optTargetLLA    = 2
	minFrame        = 60
	etherHead       = 14
	ipv6Head        = 40
	arpSize         = 28
	neighbourSize   = 24
	hardwareSize    = 6
	linkLayerOption = 8
)

var (
	broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes     = netip.MustParseAddr("ff02::1")
)

func etherFrame(dst, src net.HardwareAddr, kind uint16, payload []byte) []byte {
	f := make([]byte, 0, minFrame)
	f = append(append(f, dst...), src...)
	f = binary.BigEndian.AppendUint16(f, kind)
	f = append(f, payload...)
	for len(f) < minFrame {
		f = append(f, 0)
	}
	return f
}

// arpFrame is an ARP packet to everybody.
func arpFrame(op uint16, mac net.HardwareAddr, sender netip.Addr, target net.HardwareAddr, addr netip.Addr) []byte {
	p := []byte{0, 1, 8, 0, hardwareSize, 4}
	p = binary.BigEndian.AppendUint16(p, op)
	p = append(append(p, mac...), sender.AsSlice()...)
	p = append(append(p, target...), addr.AsSlice()...)
	return etherFrame(broadcastMAC, mac, etherARP, p)
}

// probeFrame asks who has addr without saying that we want it (RFC 5227, or
// RFC 4862 for IPv6).
func probeFrame(mac net.HardwareAddr, addr netip.Addr) []byte {
	if addr.Is4() {
		return arpFrame(arpRequest, mac, netip.IPv4Unspecified(), make(net.HardwareAddr, hardwareSize), addr)
	}
	group := solicitedNode(addr)
	return neighbourFrame(icmp6Solicit, 0, mac, netip.IPv6Unspecified(), group, addr, 0)
}

// questionFrame asks a host on the link for its Ethernet address, as somebody who has no
// address yet: from 0.0.0.0, or from a link-local address if that is valid.
func questionFrame(mac net.HardwareAddr, linkLocal, host netip.Addr) []byte {
	if host.Is4() || !linkLocal.IsValid() {
		return probeFrame(mac, host)
	}
	return neighbourFrame(icmp6Solicit, 0, mac, linkLocal, solicitedNode(host), host, optSourceLLA)
}

// announceFrames tell everybody that addr is at mac. IPv4 has two forms, since
// some hosts believe only the one and some only the other.
func announceFrames(mac net.HardwareAddr, addr netip.Addr) [][]byte {
	if addr.Is4() {
		return [][]byte{
			arpFrame(arpReply, mac, addr, mac, addr),
			arpFrame(arpRequest, mac, addr, broadcastMAC, addr),
		}
	}
	return [][]byte{neighbourFrame(icmp6Advertise, override, mac, addr, allNodes, addr, optTargetLLA)}
}

// solicitedNode is the group that whoever has addr listens to.
func solicitedNode(addr netip.Addr) netip.Addr {
	g, a := netip.MustParseAddr("ff02::1:ff00:0").As16(), addr.As16()
	copy(g[13:], a[13:])
	return netip.AddrFrom16(g)
}

// groupMAC is the Ethernet address of an IPv6 group.
func groupMAC(group netip.Addr) net.HardwareAddr {
	g := group.As16()
	return net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]}
}

// neighbourFrame is a neighbour solicitation or advertisement about target; with
// mac in an option of that kind unless it is 0.
func neighbourFrame(kind, flags byte, mac net.HardwareAddr, src, dst, target netip.Addr, option byte) []byte {
	body := append([]byte{kind, 0, 0, 0, flags, 0, 0, 0}, target.AsSlice()...)
	if option != 0 {
		body = append(append(body, option, 1), mac...)
	}
	binary.BigEndian.PutUint16(body[2:], checksum(src, dst, body))
	p := []byte{6 << 4, 0, 0, 0}
	p = binary.BigEndian.AppendUint16(p, uint16(len(body)))
	p = append(p, icmp6, hopLimit)
	p = append(append(p, src.AsSlice()...), dst.AsSlice()...)
	return etherFrame(groupMAC(dst), mac, etherIPv6, append(p, body...))
}

// checksum is that of ICMPv6, over the addresses too.
func checksum(src, dst netip.Addr, body []byte) uint16 {
	sum := uint32(len(body)) + icmp6
	for _, b := range [][]byte{src.AsSlice(), dst.AsSlice(), body} {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// claim is that a host has an address, or, when it asks, is about to take it.
type claim struct {
	addr netip.Addr
	mac  net.HardwareAddr // the host's; a part of the frame
	asks bool
}

// claimant reads a frame: does somebody other than mac have addr, or is about to
// take it? Whatever is no such claim, broken frames among it, is none.
func claimant(frame []byte, mac net.HardwareAddr, addr netip.Addr) (net.HardwareAddr, bool) {
	c, ok := readClaim(frame, mac)
	return c.mac, ok && c.addr == addr
}

// readClaim reads a frame that is not of mac.
func readClaim(frame []byte, mac net.HardwareAddr) (c claim, ok bool) {
	if len(frame) < etherHead || string(frame[6:12]) == string(mac) {
		return c, false
	}
	switch payload := frame[etherHead:]; binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		c, ok = arpClaim(payload)
	case etherIPv6:
		c, ok = neighbourClaim(payload, frame[6:12])
	}
	return c, ok && string(c.mac) != string(mac)
}

func arpClaim(p []byte) (claim, bool) {
	if len(p) < arpSize || string(p[:6]) != "\x00\x01\x08\x00\x06\x04" {
		return claim{}, false
	}
	c := claim{addr: netip.AddrFrom4([4]byte(p[14:18])), mac: net.HardwareAddr(p[8:14:14])}
	if c.addr.IsUnspecified() {
		c.addr, c.asks = netip.AddrFrom4([4]byte(p[24:28])), true
		return c, binary.BigEndian.Uint16(p[6:]) == arpRequest
	}
	return c, true
}

func neighbourClaim(p []byte, from net.HardwareAddr) (claim, bool) {
	if len(p) < ipv6Head+neighbourSize || p[6] != icmp6 || p[7] != hopLimit {
		return claim{}, false
	}
	src, body := netip.AddrFrom16([16]byte(p[8:24])), p[ipv6Head:]
	c := claim{addr: netip.AddrFrom16([16]byte(body[8:24])), mac: from}
	switch body[0] {
	case icmp6Advertise:
		if o := body[neighbourSize:]; len(o) >= linkLayerOption && o[0] == optTargetLLA && o[1] == 1 {
			c.mac = net.HardwareAddr(o[2:8:8])
		}
		return c, true
	case icmp6Solicit: // from nowhere: it wants the address for itself
		c.asks = true
		return c, src.IsUnspecified()
	}
	return claim{}, false
}
