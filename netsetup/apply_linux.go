package netsetup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Setup brings the namespace to what c wants, and returns the plan that it carried
// out. When all is in place it changes nothing. When a change fails, what was
// there before is restored, and the error names the change.
//
// It plans again after the changes, until nothing is left to do: the kernel takes
// routes away with addresses, and the second look sees that.
func (k *Kernel) Setup(ctx context.Context, c Config) (*Plan, error) {
	var first, p *Plan
	var done []Change
	const rounds = 4
	for range rounds {
		now, err := k.Inspect(c.Mode.Redirects())
		if err != nil {
			return nil, k.back(first, done, err)
		}
		if p, err = NewPlan(c, now); err != nil {
			return nil, k.back(first, done, err)
		}
		if first == nil {
			first = p
		}
		if len(p.Changes) == 0 {
			return first, nil
		}
		for _, change := range p.Changes {
			done = append(done, change)
			if err := k.attempt(ctx, change); err != nil {
				return nil, k.back(first, done, fmt.Errorf("%s: %w", change.step(), err))
			}
		}
	}
	return nil, k.back(first, done, fmt.Errorf("set up the network: somebody else changes it at the same time; let one program do it; the last change was: %s", p.Changes[0].step()))
}

func (k *Kernel) attempt(ctx context.Context, c Change) error {
	if k.inject != nil {
		if err := k.inject(c); err != nil {
			return err
		}
	}
	return k.do(ctx, c)
}

// back undoes what was done, and says so. It goes by what is there now, not by a
// log: what the kernel did on the way is undone as well.
func (k *Kernel) back(first *Plan, done []Change, cause error) error {
	if first == nil || len(done) == 0 {
		return cause
	}
	before := first.before
	loaded := slices.ContainsFunc(done, func(c Change) bool { return c.Op == NATLoad })
	now, err := k.Inspect(loaded)
	if err != nil {
		return fmt.Errorf("%w; and what was there before could not be restored: %w", cause, err)
	}
	if !loaded {
		before.Chains = nil
	}
	var failed []error
	for _, c := range diff(now, before) {
		if !undoes(c, done) {
			continue
		}
		if err := k.do(context.Background(), c); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c.step(), err))
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%w; and not all of what was there before could be restored: %w", cause, errors.Join(failed...))
	}
	return fmt.Errorf("%w (what was there before is restored)", cause)
}

// undoes reports whether c, of a plan to go back, undoes one of ours. What came
// about by others in the meantime stays.
func undoes(c Change, done []Change) bool {
	made := func(op Op, same func(Change) bool) bool {
		return slices.ContainsFunc(done, func(d Change) bool { return d.Op == op && same(d) })
	}
	switch c.Op {
	case LinkDel:
		return made(LinkAdd, func(d Change) bool { return d.Link.Name == c.Link.Name })
	case LinkDown:
		return made(LinkUp, func(d Change) bool { return d.Link.Name == c.Link.Name })
	case AddrDel, AddrMove:
		return made(AddrAdd, func(d Change) bool { return d.Addr == c.Addr })
	case RouteDel:
		return c.Route.own
	case SysctlSet:
		return made(SysctlSet, func(d Change) bool { return d.Key == c.Key })
	}
	return true
}

// step names the change in an error.
func (c Change) step() string {
	switch c.Op {
	case NATLoad:
		return "load the nat rules"
	case Probe:
		return "probe for duplicate addresses"
	}
	return c.String()
}

// do carries out one change.
func (k *Kernel) do(ctx context.Context, c Change) error {
	if k.Trace != nil {
		k.Trace(c)
	}
	switch c.Op {
	case LinkAdd:
		return k.addLink(c.Link)
	case LinkUp, LinkDown, LinkDel:
		return k.changeLink(c.Op, c.Link.Name)
	case SysctlSet:
		return os.WriteFile(sysctlFile(c.Key), []byte(c.Value), 0)
	case Probe:
		return probe(ctx, c.Probe)
	case RuleAdd, RuleDel:
		return k.changeRule(c)
	case AddrAdd, AddrMove, AddrDel:
		return k.changeAddr(c)
	case RouteAdd, DefaultAdd, RouteReplace, DefaultReplace, RouteDel:
		return k.changeRoute(c)
	case NATLoad:
		return loadChains(c.NAT, c.Gone)
	}
	return fmt.Errorf("unknown change %d", c.Op)
}

func (k *Kernel) addLink(l Link) error {
	parent, err := k.nl.LinkByName(l.Parent)
	if err != nil {
		return err
	}
	at := netlink.NewLinkAttrs()
	at.Name, at.ParentIndex = l.Name, parent.Attrs().Index
	return k.nl.LinkAdd(&netlink.Macvlan{LinkAttrs: at, Mode: netlink.MACVLAN_MODE_BRIDGE})
}

func (k *Kernel) changeLink(op Op, name string) error {
	l, err := k.nl.LinkByName(name)
	if err != nil {
		return err
	}
	switch op {
	case LinkUp:
		return k.nl.LinkSetUp(l)
	case LinkDown:
		return k.nl.LinkSetDown(l)
	}
	return k.nl.LinkDel(l)
}

func (k *Kernel) changeRule(c Change) error {
	r := netlink.NewRule()
	r.Family = netlink.FAMILY_V4
	if c.Rule.V6 {
		r.Family = netlink.FAMILY_V6
	}
	r.Priority, r.Table, r.IifName, r.Protocol = c.Rule.Priority, c.Rule.Table, c.Rule.IIF, c.Rule.protocol()
	if c.Rule.From.IsValid() {
		r.Src = toIPNet(hostPrefix(c.Rule.From))
	}
	if c.Op == RuleAdd {
		return k.nl.RuleAdd(r)
	}
	return k.nl.RuleDel(r)
}

func (k *Kernel) changeAddr(c Change) error {
	l, err := k.nl.LinkByName(c.Addr.Link)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: toIPNet(c.Addr.Prefix)}
	if c.Op != AddrAdd {
		return k.nl.AddrDel(l, a)
	}
	if c.Addr.Prefix.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return k.nl.AddrAdd(l, a)
}

func (k *Kernel) changeRoute(c Change) error {
	r, err := k.toNetlink(c.Route)
	if err != nil {
		return err
	}
	switch c.Op {
	case RouteAdd, DefaultAdd:
		return k.nl.RouteAdd(r)
	case RouteReplace, DefaultReplace:
		return k.nl.RouteReplace(r)
	}
	if err := k.nl.RouteDel(r); !errors.Is(err, unix.ESRCH) { // it went with an address
		return err
	}
	return nil
}

// toNetlink is r with all that was read of it, if it was.
func (k *Kernel) toNetlink(r Route) (*netlink.Route, error) {
	n := netlink.Route{}
	if r.raw != nil {
		n = *r.raw
		n.Flags &= unix.RTNH_F_ONLINK
		n.Table = r.Table
		if !r.isDefault() { // it may be kept: what was read is the default route
			n.Dst = toIPNet(r.Dst)
		}
		switch {
		case r.own:
			n.Protocol = protocolOwn
		case n.Protocol == protocolOwn: // handed back; whose it was is forgotten
			n.Protocol = unix.RTPROT_BOOT
		}
		return &n, nil
	}
	l, err := k.nl.LinkByName(r.Link)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", r.Link, err)
	}
	n = netlink.Route{LinkIndex: l.Attrs().Index, Dst: toIPNet(r.Dst), Table: r.Table, Priority: r.Metric, MTU: r.MTU, Protocol: protocolOwn}
	if r.Gateway.IsValid() {
		n.Gw = r.Gateway.AsSlice()
	} else if r.is4() {
		n.Scope = netlink.SCOPE_LINK
	}
	if r.Src.IsValid() {
		n.Src = r.Src.AsSlice()
	}
	return &n, nil
}
