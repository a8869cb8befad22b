package netsetup

import (
	"fmt"
	"slices"
	"strings"
)

// Sysctls that make the pod a router, for redirect mode.
const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// lowPorts is the first port that a process without privilege may listen on, for the
// dns-proxy mode: haproxy ran as root, sluice tcp does not.
const lowPorts = "net/ipv4/ip_unprivileged_port_start"

// linkSysctls are those of an interface that [Kernel.Inspect] reads.
func linkSysctls(link string) []string {
	return []string{
		"net/ipv4/conf/" + link + "/arp_ignore",
		"net/ipv4/conf/" + link + "/arp_announce",
		"net/ipv4/conf/" + link + "/rp_filter",
		"net/ipv6/conf/" + link + "/accept_ra",
	}
}

// dotted is a sysctl's name as sysctl(8) and people write it.
func dotted(path string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(path)
}

// set wants a sysctl to have one of the values; the first is what it gets when it
// has none of them. It reports what it is instead when it cannot be set.
func (p *planner) set(key string, values ...string) (is string, ok bool) {
	is, there := p.have.Sysctls[key]
	if there && slices.Contains(values, is) {
		return is, true
	}
	if p.have.ReadOnly {
		return is, !there
	}
	p.want.Sysctls[key] = values[0]
	return is, true
}

// sysctls wants what the interfaces need: where there are several, that each
// answers for its own addresses only and takes what comes by another way; where
// there is an IPv6 source, that no router on the link gives it a second address or
// another default route.
func (p *planner) sysctls() {
	var links, links6 []string
	for i, l := range p.links {
		if !slices.Contains(links, l) {
			links = append(links, l)
		}
		if p.config.Sources[i].Addr().Is6() && !slices.Contains(links6, l) {
			links6 = append(links6, l)
		}
	}
	if len(links) > 1 {
		for _, l := range links {
			p.wish("net/ipv4/conf/"+l+"/arp_ignore", "answers to ARP may come from the wrong interface", "1", "2")
			p.wish("net/ipv4/conf/"+l+"/arp_announce", "ARP questions may carry an address of the other interface", "2")
			p.wish("net/ipv4/conf/"+l+"/rp_filter", "packets that come back by another interface may be dropped", "2")
		}
	}
	for _, l := range links6 {
		p.wish("net/ipv6/conf/"+l+"/accept_ra", "a router on the link may add an address or a default route", "0")
	}
}

// listening lets sluice tcp listen on any port, where the pod does not say so
// already and /proc/sys can be written. Elsewhere it is not this program's to know
// whether a low port is wanted: sluice tcp says so when one is refused.
func (p *planner) listening() {
	if p.config.Mode == DNSProxy {
		p.set(lowPorts, "0")
	}
}

// wish sets a sysctl, or warns of what happens without it.
func (p *planner) wish(key, otherwise string, values ...string) {
	if is, ok := p.set(key, values...); !ok {
		p.warn("%s is %s, not %s, and /proc/sys cannot be written: %s", dotted(key), is, values[0], otherwise)
	}
}

// forwarding makes the pod a router for the families that are redirected.
func (p *planner) forwarding() error {
	for _, f := range []struct {
		key string
		v4  bool
	}{{forward4, true}, {forward6, false}} {
		if !slices.ContainsFunc(p.config.Destinations, func(d Destination) bool { return d.To.Is4() == f.v4 }) {
			continue
		}
		if is, ok := p.set(f.key, "1"); !ok {
			return fmt.Errorf("set %s: it is %s, redirect mode needs 1, and /proc/sys cannot be written; set it in the pod's securityContext.sysctls, or make this container privileged", dotted(f.key), is)
		}
	}
	return nil
}
