package outbound

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Sources are the addresses that outbound sockets bind to (EGRESS_SOURCE). The
// first of a family is used for every connection of that family; the next only
// when all ports of the one before are taken towards the same destination. With
// no address at all the kernel chooses; with addresses of one family only,
// targets of the other are unreachable, never reached from another address.
//
// The zero value leaves the choice to the kernel. Sources are immutable.
type Sources struct {
	v4, v6 []netip.Addr
}

// NewSources sorts addrs by family, keeping their order.
func NewSources(addrs []netip.Addr) Sources {
	var s Sources
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			s.v4 = append(s.v4, a)
		} else {
			s.v6 = append(s.v6, a)
		}
	}
	return s
}

// unbound is the source of a socket that is not bound.
var unbound = []netip.Addr{{}}

// For returns the sources to try for dst, in order; an invalid address stands for
// the kernel's choice. None: dst is out of reach.
func (s Sources) For(dst netip.Addr) []netip.Addr {
	switch {
	case len(s.v4) == 0 && len(s.v6) == 0:
		return unbound
	case dst.Is4():
		return s.v4
	}
	return s.v6
}

// String lists the addresses, or says that the kernel chooses.
func (s Sources) String() string {
	if len(s.v4) == 0 && len(s.v6) == 0 {
		return "the kernel's choice"
	}
	var b strings.Builder
	for _, a := range append(append([]netip.Addr(nil), s.v4...), s.v6...) {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
	}
	return b.String()
}

// Check reports the sources that are not addresses of this host, by binding a
// socket to each.
func (s Sources) Check() error {
	for _, a := range append(append([]netip.Addr(nil), s.v4...), s.v6...) {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
		if err != nil {
			return fmt.Errorf("EGRESS_SOURCE %s is not an address of this host (%s): let sluice-netsetup assign it first, or name one of these", a, hostAddrs())
		}
		c.Close()
	}
	return nil
}

// unroutable says why a family is out of reach.
func (s Sources) unroutable(dst netip.Addr) error {
	family := "IPv6"
	if dst.Is4() {
		family = "IPv4"
	}
	return &Error{Kind: Unroutable, Err: fmt.Errorf("no %s source address for %s: EGRESS_SOURCE is %s", family, dst, s)}
}

func hostAddrs() string {
	addrs, err := HostAddrs()
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return "it has " + strings.Join(list, ", ")
}

// HostAddrs returns the addresses that are assigned to this host, for the guard.
func HostAddrs() ([]netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this host: %w", err)
	}
	var list []netip.Addr
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				list = append(list, ip.Unmap())
			}
		}
	}
	return list, nil
}
