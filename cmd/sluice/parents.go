package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// parents are the parent proxies of tenants, whose health stays while generations come and go. The
// metrics and the status page show them.
type parents struct{ lasting[*policy.Parents] }

// share has the parents of s be as healthy as those in force are.
func (x *parents) share(s *policy.Set) {
	x.take(s, func(t *policy.Tenant) *policy.Parents { return t.Parents })
}

// each is what the metrics show.
func (x *parents) each(f func(metrics.Parent)) {
	for _, of := range x.all() {
		of.it.Each(func(p *policy.Parent) {
			m := metrics.Parent{Tenant: of.tenant, URL: p.URL, Up: p.Health.Up() && p.Problem == nil, Outcomes: map[string]uint64{}}
			for o := range policy.Outcomes {
				m.Outcomes[policy.Outcome(o).String()] = p.Health.Count(policy.Outcome(o))
			}
			f(m)
		})
	}
}

// show has the status page tell of them.
func (x *parents) show(st *admin.Status) {
	for _, of := range x.all() {
		for _, w := range of.it.All() {
			row := admin.Parents{Tenant: of.tenant, For: "every destination", ByName: w.ByName}
			if len(w.For) > 0 {
				row.For = strings.Join(w.For, ", ")
			}
			for _, p := range w.Via {
				row.Via = append(row.Via, parentState(p))
			}
			st.Parents = append(st.Parents, row)
		}
	}
}

// parentState is a parent with how it is.
func parentState(p *policy.Parent) string {
	switch {
	case p.Direct:
		return p.String()
	case p.Problem != nil:
		return fmt.Sprintf("%s: not used: %v", p, p.Problem)
	case !p.Health.Up():
		return p.String() + ": down, asked when there is no other, and again soon"
	}
	return p.String() + ": up"
}

// listensAt reports whether the proxy itself listens there.
func (m *proxyMode) listensAt(a netip.AddrPort) bool {
	for _, l := range slices.Concat(m.proxies, m.secure, m.socks) {
		at := l.Addr()
		switch {
		case at.Port() != a.Port():
		case at.Addr().Unmap() == a.Addr():
			return true
		case at.Addr().IsUnspecified():
			own, err := outbound.HostAddrs()
			return err != nil || a.Addr().IsLoopback() || slices.Contains(own, a.Addr())
		}
	}
	return false
}

// way says how connections to t leave, "" if directly: by whom, in which order.
func way(p *policy.Parents, t acl.Target, addrs []netip.Addr) string {
	if p == nil {
		return ""
	}
	w := p.ByName(t)
	if w == nil {
		if t.Host.IsAddr() {
			addrs = []netip.Addr{t.Host.Addr()}
		}
		w, _ = p.Of(t, slices.Clone(addrs))
	}
	if w == nil {
		return ""
	}
	var names []string
	for _, via := range w.Via {
		names = append(names, via.String())
	}
	text := strings.Join(names, ", then ")
	if w.ByName {
		text += "; by name: no address is judged"
	}
	return text
}
