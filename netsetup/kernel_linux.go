package netsetup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kernel reads and changes the network namespace that the thread was in when it
// was opened. Its methods must be called on a thread of that namespace, one at a
// time.
type Kernel struct {
	// Trace, if not nil, is called before each change.
	Trace func(Change)

	nl     *netlink.Handle
	inject func(Change) error // by tests: fails a change
}

// OpenKernel opens a Kernel of the calling thread's namespace. Who opens it calls
// Close.
func OpenKernel() (*Kernel, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &Kernel{nl: nl}, nil
}

// Close frees what the Kernel holds.
func (k *Kernel) Close() { k.nl.Close() }

// Inspect reads what is there; the chains of the nat tables only when nat says so.
func (k *Kernel) Inspect(nat bool) (State, error) {
	s := State{Sysctls: map[string]string{}}
	names, err := k.inspectLinks(&s)
	if err != nil {
		return s, fmt.Errorf("list interfaces: %w", err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := k.inspectRoutes(&s, family, names); err != nil && !noIPv6(family, err) {
			return s, fmt.Errorf("list routes: %w", err)
		}
		if err := k.inspectRules(&s, family); err != nil && !noIPv6(family, err) {
			return s, fmt.Errorf("list rules: %w", err)
		}
	}
	keys := []string{forward4, forward6, lowPorts}
	for _, l := range s.Links {
		keys = append(keys, linkSysctls(l.Name)...)
	}
	for _, key := range keys {
		if b, err := os.ReadFile(sysctlFile(key)); err == nil {
			s.Sysctls[key] = strings.TrimSpace(string(b))
		}
	}
	s.ReadOnly = unix.Access(sysctlFile(forward4), unix.W_OK) != nil
	if nat {
		if s.Chains, err = readChains(); err != nil {
			return s, fmt.Errorf("list nat rules: %w", err)
		}
	}
	return s, nil
}

// noIPv6 reports whether err is that the kernel has no IPv6: there is nothing to
// list then.
func noIPv6(family int, err error) bool {
	return family == netlink.FAMILY_V6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP))
}

func sysctlFile(key string) string { return filepath.Join("/proc/sys", key) }

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

func (k *Kernel) inspectLinks(s *State) (names map[int]string, err error) {
	links, err := again(k.nl.LinkList)
	if err != nil {
		return nil, err
	}
	names = map[int]string{}
	for _, l := range links {
		at := l.Attrs()
		names[at.Index] = at.Name
		s.Links = append(s.Links, Link{Name: at.Name, Kind: l.Type(), Up: at.Flags&net.FlagUp != 0})
	}
	addrs, err := again(func() ([]netlink.Addr, error) { return k.nl.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		p := toPrefix(a.IPNet)
		if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() || names[a.LinkIndex] == "lo" {
			continue // comes and goes with the interface, or is nobody's source
		}
		s.Addrs = append(s.Addrs, Addr{Link: names[a.LinkIndex], Prefix: p})
	}
	return names, nil
}

func (k *Kernel) inspectRoutes(s *State, family int, names map[int]string) error {
	filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := again(func() ([]netlink.Route, error) {
		return k.nl.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST || r.Table != tableMain && !ours(r.Table) {
			continue
		}
		index := r.LinkIndex
		if len(r.MultiPath) > 0 {
			index = r.MultiPath[0].LinkIndex
		}
		dst := everywhere(family == netlink.FAMILY_V4)
		if r.Dst != nil {
			dst = toPrefix(r.Dst)
		}
		gw, _ := netip.AddrFromSlice(r.Gw)
		src, _ := netip.AddrFromSlice(r.Src)
		s.Routes = append(s.Routes, Route{
			Table: r.Table, Dst: dst, Gateway: gw.Unmap(), Link: names[index], Src: src.Unmap(), Metric: r.Priority, MTU: r.MTU,
			OnLink: r.Flags&unix.RTNH_F_ONLINK != 0,
			own:    r.Protocol == protocolOwn, kernel: r.Protocol == unix.RTPROT_KERNEL, raw: &r,
		})
	}
	return nil
}

func (k *Kernel) inspectRules(s *State, family int) error {
	rules, err := again(func() ([]netlink.Rule, error) { return k.nl.RuleList(family) })
	if err != nil {
		return err
	}
	for _, r := range rules {
		if !ours(r.Priority) {
			continue
		}
		rule := Rule{Priority: r.Priority, Table: r.Table, IIF: r.IifName, V6: family == netlink.FAMILY_V6}
		if r.Src != nil {
			rule.From = toPrefix(r.Src).Addr()
		}
		rule.Brought = rule.From.IsValid() && r.Priority >= tableSource && r.Protocol == protocolOwn
		s.Rules = append(s.Rules, rule)
	}
	return nil
}

// toPrefix is n as a netip.Prefix. An address of 4 bytes, or one that a library
// widened to 16, is IPv4.
func toPrefix(n *net.IPNet) netip.Prefix {
	a, _ := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if bits == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, ones)
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
