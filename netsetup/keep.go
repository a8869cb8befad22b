package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ParseKeepRoutes takes SLUICE_KEEP_ROUTE: prefixes, ADDR/LEN or ADDR, that go on
// leaving by the default route that the pod came with; commas or white space
// between them. Bits behind the length are cut off, as ip(8) does not.
func ParseKeepRoutes(text string) ([]netip.Prefix, []Problem) {
	p := problems{prefix: "SLUICE_KEEP_ROUTE invalid"}
	var all []netip.Prefix
	for _, w := range words(text) {
		prefix, err := parseKeepRoute(w.text)
		if err != nil {
			p.add(w.line, "%v", err)
		} else if !slices.Contains(all, prefix) {
			all = append(all, prefix)
		}
	}
	if len(all) == 0 && len(p.all) == 0 {
		p.add(1, "name a network of the cluster, ADDR/LEN")
	}
	return all, p.all
}

func parseKeepRoute(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var addr netip.Addr
		addr, err = netip.ParseAddr(s)
		prefix = netip.PrefixFrom(addr.WithZone(""), addr.BitLen())
		if addr.Zone() != "" {
			return prefix, fmt.Errorf("%q has a zone; what is link-local needs no route", s)
		}
	}
	switch addr := prefix.Addr(); {
	case err != nil:
		return prefix, fmt.Errorf("%q is not ADDR/LEN or ADDR", s)
	case addr.Is4In6():
		return prefix, fmt.Errorf("%q is an IPv4 address in IPv6 clothes; write %s", s, addr.Unmap())
	case prefix.Bits() == 0:
		return prefix, fmt.Errorf("%q is everything: nothing would leave by EGRESS_GATEWAY; name the cluster's networks", s)
	case addr.IsMulticast() || addr.IsLoopback():
		return prefix, fmt.Errorf("nothing is routed to %q", s)
	}
	return prefix.Masked(), nil
}

// ParseNameservers is the name servers of a resolv.conf(5) that need a route: not
// those on this host or in a zone. What is no address is left to the resolver to
// complain of.
func ParseNameservers(text string) []netip.Addr {
	var all []netip.Addr
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if a = a.Unmap(); err == nil && a.Zone() == "" && sendable(a) && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// checkKeepRoutes refuses what would take the way to a source's own link.
func (c *Config) checkKeepRoutes(report func(format string, args ...any)) {
	for _, keep := range c.KeepRoutes {
		for _, s := range c.Sources {
			if covers(s.Prefix.Masked(), keep) || keep == hostPrefix(s.Gateway) {
				report("SLUICE_KEEP_ROUTE invalid: %s is on the link of EGRESS_SOURCE %s with its gateway %s; it cannot leave by the cluster as well", keep, s.Prefix, s.Gateway)
				break
			}
		}
	}
}

// covers reports whether all of inner lies in outer.
func covers(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// keptRoutes are the routes of a family that go on leaving as the old defaults
// say: to the name servers and to what the settings name, where no route of the
// cluster, and no source's link, leads there anyway.
func (p *planner) keptRoutes(v4 bool, cluster, defaults []Route) (kept []Route) {
	for _, dst := range p.keptPrefixes(v4) {
		if p.reached(dst, cluster) {
			continue
		}
		if len(defaults) == 0 && slices.Contains(p.config.KeepRoutes, dst) {
			p.warn("%s is to keep its old way, and there is none: the pod came without a default route of its family", dst)
		}
		for _, r := range defaults {
			r.Dst = dst
			kept = append(kept, r)
		}
	}
	return kept
}

func (p *planner) keptPrefixes(v4 bool) (all []netip.Prefix) {
	for _, prefix := range p.config.KeepRoutes {
		if prefix.Addr().Is4() == v4 {
			all = append(all, prefix)
		}
	}
	for _, a := range p.config.Nameservers {
		if a.Is4() == v4 && !slices.ContainsFunc(all, func(k netip.Prefix) bool { return k.Contains(a) }) {
			all = append(all, hostPrefix(a))
		}
	}
	return all
}

// reached reports whether a route of the cluster, or a source's link, leads to all
// of dst.
func (p *planner) reached(dst netip.Prefix, cluster []Route) bool {
	return slices.ContainsFunc(cluster, func(r Route) bool { return covers(r.Dst, dst) }) ||
		slices.ContainsFunc(p.config.Sources, func(s Source) bool {
			return covers(s.Prefix.Masked(), dst) || dst == hostPrefix(s.Gateway)
		})
}

// warnOfLost says what loses its way with the default route: the cluster's other
// services and pods, where nothing but that route led to them. What is known to be
// of the cluster is the service of its API, else a private name server.
func (p *planner) warnOfLost(v4 bool, link string, cluster, defaults []Route) {
	if len(defaults) == 0 {
		return
	}
	was, lost, keep := defaults[0].Link, "out of the pod's own network", "PREFIX for each of the cluster's networks"
	if known := p.knownService(v4); known.IsValid() {
		if p.reached(hostPrefix(known), cluster) || slices.ContainsFunc(p.config.KeepRoutes, func(k netip.Prefix) bool { return k.Contains(known) }) {
			return
		}
		lost = "to " + known.String()
		keep = fmt.Sprintf("%s, or whatever the cluster's networks are", serviceNetwork(known))
	} else {
		further := func(r Route) bool { return r.Gateway.IsValid() || !r.kernel && !r.Dst.IsSingleIP() }
		if slices.ContainsFunc(cluster, further) || slices.ContainsFunc(p.config.KeepRoutes, func(k netip.Prefix) bool { return k.Addr().Is4() == v4 }) {
			return
		}
	}
	p.warn("only the default route by %s led %s; traffic to the cluster's services and pods now leaves by %s (all but that to the pod's name servers); to keep it on %s add --keep-route %s", was, lost, link, was, keep)
}

func (p *planner) knownService(v4 bool) netip.Addr {
	if a := p.config.Service; a.IsValid() && a.Is4() == v4 {
		return a
	}
	for _, a := range p.config.Nameservers {
		if a.Is4() == v4 && a.IsPrivate() {
			return a
		}
	}
	return netip.Addr{}
}

// serviceNetwork is a guess at the network of services that an address is of:
// kubeadm's default, else the length that most clusters have.
func serviceNetwork(a netip.Addr) netip.Prefix {
	bits := 112
	if a.Is4() {
		if kubeadm := netip.MustParsePrefix("10.96.0.0/12"); kubeadm.Contains(a) {
			return kubeadm
		}
		bits = 16
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func (p *planner) warn(format string, args ...any) {
	p.plan.Warnings = append(p.plan.Warnings, fmt.Sprintf(format, args...))
}
