package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// CheckSources reports the sources that are not addresses of this host, by binding a
// socket to each.
func CheckSources(s policy.Sources) error {
	for _, a := range s.All() {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
		if err != nil {
			return fmt.Errorf("EGRESS_SOURCE %s is not an address of this host (%s): let sluice-netsetup assign it first, or name one of these", a, hostAddrs())
		}
		c.Close()
	}
	return nil
}

// ErrNotHeld is the error of a connection from a source address that another replica has, or
// nobody. It says nothing about the server.
var ErrNotHeld = errors.New("this replica holds no source address for now: another has it, or it changes hands; try again")

// unroutable says why a family is out of reach.
func unroutable(s policy.Sources, dst netip.Addr) error {
	if s.Nowhere() {
		return &Error{Kind: Unroutable, Err: ErrNotHeld}
	}
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
