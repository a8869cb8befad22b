package netsetup

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Plan is what has to be done to a namespace. It is made by [NewPlan] and never
// changed.
type Plan struct {
	// Changes lead from what is there to what is wanted, in their order; none when
	// all is in place.
	Changes []Change
	// Announce are the sources on their interfaces, for [Announce].
	Announce []Addr
	// Warnings are of what could not be done and may matter. Each is one line.
	Warnings []string

	before State // what [Kernel.Apply] goes back to
}

// planner makes a plan: it turns want, which begins as a copy of have, into what
// is to be.
type planner struct {
	config Config
	have   State
	want   State
	links  []string // of the sources
	plan   *Plan
}

// NewPlan makes the plan that leads from have to what c wants. It opens nothing.
// The error is of what cannot work: no interface to be found, or a sysctl that is
// needed and cannot be set.
func NewPlan(c Config, have State) (*Plan, error) {
	if c.Mode == NoMode || c.Mode == UnitTest {
		return nil, fmt.Errorf("plan the network: mode %q sets nothing up", c.Mode)
	}
	if ps := c.Check(); len(ps) > 0 {
		return nil, errors.New(ps[0].Msg)
	}
	links, create, err := chooseLinks(c, have)
	if err != nil {
		return nil, err
	}
	p := &planner{config: c, have: have, want: have.clone(), links: links, plan: &Plan{before: have}}
	p.raise(create)
	if err := p.sources(); err != nil {
		return nil, err
	}
	for _, v4 := range []bool{true, false} {
		p.routes(v4)
	}
	p.sysctls()
	p.listening()
	if c.Mode.Redirects() {
		p.want.Chains = wantChains(c, p.links)
		if err := p.forwarding(); err != nil {
			return nil, err
		}
	}
	p.plan.Changes = diff(p.have, p.want)
	p.probes()
	return p.plan, nil
}

// raise makes the interface that is missing, and sets all of them up.
func (p *planner) raise(create *Link) {
	if create != nil {
		p.want.Links = append(p.want.Links, *create)
	}
	for i, l := range p.want.Links {
		if slices.Contains(p.links, l.Name) {
			p.want.Links[i].Up = true
		}
	}
}

// sources puts the addresses where they belong, with a rule for each, and takes
// away those that we brought earlier and nobody wants now. Those that come and go are
// left as they are.
func (p *planner) sources() error {
	keep := map[Addr]bool{}
	var rules []Rule
	for i, s := range p.config.Sources {
		addr, brought, err := placeSource(s, p.links[i], p.have)
		if err != nil {
			return err
		}
		keep[addr] = true
		if !p.config.Hold && !slices.Contains(p.want.Addrs, addr) {
			p.want.Addrs = append(p.want.Addrs, addr)
		}
		n := tableSource + i
		rules = append(rules, Rule{Priority: n, Table: n, From: s.Addr(), V6: s.Addr().Is6(), Brought: brought})
		p.plan.Announce = append(p.plan.Announce, Addr{p.links[i], netip.PrefixFrom(s.Addr(), s.Addr().BitLen())})
	}
	for _, r := range p.have.Rules {
		held := p.config.Hold && slices.ContainsFunc(p.config.Sources, func(s Source) bool { return s.Addr() == r.From })
		if r.Brought && !held {
			p.want.Addrs = slices.DeleteFunc(p.want.Addrs, func(a Addr) bool { return a.Prefix.Addr() == r.From && !keep[a] })
		}
	}
	p.want.Rules = rules
	return nil
}

// routes makes the routes of a family.
func (p *planner) routes(v4 bool) {
	var first *Source
	link := ""
	for i := range p.config.Sources {
		if s := &p.config.Sources[i]; s.Addr().Is4() == v4 && first == nil {
			first, link = s, p.links[i]
		}
	}
	cluster, defaults := p.clusterRoutes(v4)
	// What we made earlier goes, and comes back below if it is still wanted.
	p.want.Routes = slices.DeleteFunc(p.want.Routes, func(r Route) bool {
		return r.is4() == v4 && (ours(r.Table) || r.Table == tableMain && (r.own || first != nil && r.isDefault()))
	})
	if first == nil {
		for _, r := range defaults { // nothing leaves by us any more: the cluster's default returns
			r = r.in(tableMain)
			r.own = false
			if !p.wants(r) {
				p.want.Routes = append(p.want.Routes, r)
			}
		}
		return
	}
	p.toGateway(tableMain, link, first.Gateway)
	way := Route{Table: tableMain, Dst: everywhere(v4), Gateway: first.Gateway, Link: link}
	if !p.config.Hold {
		way.Src = first.Addr()
	}
	p.add(way)
	kept := p.keptRoutes(v4, cluster, defaults)
	for _, r := range kept {
		p.add(r.in(tableMain))
	}
	p.warnOfLost(v4, link, cluster, defaults)
	for i, s := range p.config.Sources {
		if s.Addr().Is4() == v4 {
			if p.config.Hold && !s.Prefix.IsSingleIP() { // else the kernel makes it for the address
				p.add(Route{Table: tableMain, Dst: s.Prefix.Masked(), Link: p.links[i]})
			}
			p.sourceTable(tableSource+i, s, p.links[i], slices.Concat(cluster, kept))
		}
	}
	if len(defaults) > 0 {
		p.clusterTable(v4, cluster, defaults)
	}
}

// everywhere is the destination of a default route.
func everywhere(v4 bool) netip.Prefix {
	if v4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// add wants a route of ours.
func (p *planner) add(r Route) {
	if !r.is4() && r.Metric == 0 {
		r.Metric = 1024 // what the kernel makes of 0
	}
	r.own = true
	if !p.wants(r) {
		p.want.Routes = append(p.want.Routes, r)
	}
}

func (p *planner) wants(r Route) bool { return slices.ContainsFunc(p.want.Routes, r.same) }

// toGateway says that the gateway is on the link, whatever the source's length
// says. A link-local one is anyway.
func (p *planner) toGateway(table int, link string, gw netip.Addr) {
	if !gw.IsLinkLocalUnicast() || gw.Is4() {
		p.add(Route{Table: table, Dst: netip.PrefixFrom(gw, gw.BitLen()), Link: link})
	}
}

// sourceTable is where packets from the source look: its link, its gateway, and
// the cluster as everybody else.
func (p *planner) sourceTable(table int, s Source, link string, cluster []Route) {
	p.toGateway(table, link, s.Gateway)
	if !s.Prefix.IsSingleIP() {
		p.add(Route{Table: table, Dst: s.Prefix.Masked(), Link: link})
	}
	for _, r := range cluster {
		p.add(r.in(table))
	}
	p.add(Route{Table: table, Dst: everywhere(s.Addr().Is4()), Gateway: s.Gateway, Link: link})
}

// clusterRoutes are the routes of a family that do not leave by our interfaces:
// those more specific than the default, and the defaults, which an earlier run may
// have moved to our table.
func (p *planner) clusterRoutes(v4 bool) (specific, defaults []Route) {
	var moved []Route
	for _, r := range p.have.Routes {
		switch {
		case r.is4() != v4 || r.Link == "" || slices.Contains(p.links, r.Link):
		case r.Table == tableCluster && r.isDefault():
			moved = append(moved, r)
		case r.Table != tableMain || r.own:
		case r.isDefault():
			defaults = append(defaults, r)
		case !r.Dst.Addr().IsMulticast() && !(r.Dst.Addr().Is6() && r.Dst.Addr().IsLinkLocalUnicast()):
			specific = append(specific, r)
		}
	}
	if len(defaults) == 0 {
		defaults = moved
	}
	return specific, defaults
}

// clusterTable keeps the way back to clients that were reached by the default
// route: what the pod answers from its address in the cluster, and what comes back
// for connections that are passed on, goes as it went before.
func (p *planner) clusterTable(v4 bool, cluster, defaults []Route) {
	for _, r := range slices.Concat(cluster, defaults) {
		p.add(r.in(tableCluster))
	}
	var from []string
	for _, r := range defaults {
		if slices.Contains(from, r.Link) {
			continue
		}
		from = append(from, r.Link)
		for _, a := range globals(p.have, r.Link, v4) {
			p.want.Rules = append(p.want.Rules, Rule{Priority: priorityPod, Table: tableCluster, From: a, V6: !v4})
		}
	}
	if !p.config.Mode.Redirects() {
		return
	}
	for i, link := range p.links {
		if !slices.Contains(p.links[:i], link) {
			p.want.Rules = append(p.want.Rules, Rule{Priority: priorityForward, Table: tableCluster, IIF: link, V6: !v4})
		}
	}
}

// probes asks, as soon as the interfaces are up, whether somebody has the
// addresses that are about to be brought.
func (p *planner) probes() {
	var ask []Addr
	for _, c := range p.plan.Changes {
		if c.Op == AddrAdd && len(p.have.carriers(c.Addr.Prefix.Addr())) == 0 {
			ask = append(ask, c.Addr)
		}
	}
	if len(ask) > 0 && !p.config.SkipProbe {
		p.plan.Changes = order(append(p.plan.Changes, Change{Op: Probe, Probe: ask}))
	}
}

// String is the plan as commands of a shell: what --dry-run prints.
func (p *Plan) String() string {
	var b strings.Builder
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "# warning: %s\n", w)
	}
	if len(p.Changes) == 0 {
		b.WriteString("# all is in place\n")
	}
	for _, c := range p.Changes {
		b.WriteString(c.String())
		b.WriteByte('\n')
	}
	for _, a := range p.Announce {
		if addr := a.Prefix.Addr(); addr.Is4() {
			fmt.Fprintf(&b, "arping -q -A -c 1 -I %[1]s %[2]s; arping -q -U -c 1 -I %[1]s %[2]s # and again after 2 s\n", a.Link, addr)
		} else {
			fmt.Fprintf(&b, "ndsend %s %s # and again after 2 s\n", addr, a.Link)
		}
	}
	return b.String()
}
