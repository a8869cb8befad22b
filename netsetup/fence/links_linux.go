package fence

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// present are the addresses of this namespace, with their interfaces.
func present() (map[netip.Addr]string, error) {
	links, err := again(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addrs, err := again(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	all := map[netip.Addr]string{}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			all[addr.Unmap()] = names[a.LinkIndex]
		}
	}
	return all, nil
}

// interfaces are those of this namespace but lo, by index.
func interfaces() (map[int]string, error) {
	links, err := again(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	all := map[int]string{}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			all[l.Attrs().Index] = l.Attrs().Name
		}
	}
	return all, nil
}

// again repeats a dump that the kernel says was disturbed.
func again[T any](dump func() ([]T, error)) (all []T, err error) {
	const tries = 5
	for range tries {
		if all, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, err
}
