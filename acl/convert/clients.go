package convert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// region is a group of clients that all src acls treat alike: those in prefix, less those in
// the longer prefixes of other regions. The zero region is of all clients in none.
type region struct{ prefix netip.Prefix }

// regions are those of the clients in some of the prefixes, the longest first.
func regions(prefixes []netip.Prefix) (all []region) {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		if c := b.Bits() - a.Bits(); c != 0 {
			return c
		}
		return a.Addr().Compare(b.Addr())
	})
	for _, p := range slices.Compact(prefixes) {
		all = append(all, region{p})
	}
	return all
}

// group is regions with the same rules and sources.
type group struct {
	clients []netip.Prefix
	rules   string
	sources []netip.Addr
}

func (g group) same(h group) bool { return g.rules == h.rules && slices.Equal(g.sources, h.sources) }

// groups puts regions together, longest prefixes first, into as few tenants as their order
// allows: tenants are tried in turn, so the longer prefix has to come before the one around
// it. rest is what holds for all other clients.
func groups(found []group, rest group) (all []group) {
	for _, g := range found {
		p := g.clients[0]
		after, place := -1, -1 // g has to come behind after
		for i, o := range all {
			if slices.ContainsFunc(o.clients, func(q netip.Prefix) bool { return p.Overlaps(q) }) && !o.same(g) {
				after = i
			}
			if o.same(g) {
				place = i
			}
		}
		if place > after {
			all[place].clients = append(all[place].clients, p)
			continue
		}
		all = append(all, g)
	}
	// What decides as the rest does, and hides nothing behind it, is the rest.
	for last := len(all) - 1; last >= 0 && all[last].same(rest); last-- {
		all = all[:last]
	}
	for i := range all {
		all[i].clients = outermost(all[i].clients)
	}
	return all
}

// outermost leaves out prefixes inside of others, and sorts them.
func outermost(ps []netip.Prefix) (all []netip.Prefix) {
	for _, p := range ps {
		if !slices.ContainsFunc(ps, func(q netip.Prefix) bool { return q != p && q.Bits() <= p.Bits() && q.Overlaps(p) }) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return all
}

// tenants makes r's tenants of groups.
func (r *Result) tenants(all []group, rest group) {
	r.Rules = rest.rules
	if len(rest.sources) > 0 && len(all) > 0 { // the top level has the sources of all tenants
		all = append(all, group{clients: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, rules: rest.rules, sources: rest.sources})
		r.Rules = ""
	}
	for i, g := range all {
		r.Tenants = append(r.Tenants, Tenant{Name: fmt.Sprintf("clients-%d", i+1), Clients: g.clients, Sources: g.sources, Rules: g.rules})
		r.source(g.sources)
	}
	r.source(rest.sources)
}

// bound reports whether some groups have sources and others, which may connect, have none.
func bound(all []group) bool {
	some, none := false, false
	for _, g := range all {
		some = some || len(g.sources) > 0
		none = none || len(g.sources) == 0 && g.rules != ""
	}
	return some && none
}

// source adds to the gateway's addresses.
func (r *Result) source(addrs []netip.Addr) {
	for _, a := range addrs {
		if !slices.Contains(r.Sources, a) {
			r.Sources = append(r.Sources, a)
		}
	}
}

// onlyComments reports whether a text has no rule.
func onlyComments(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return false
		}
	}
	return true
}
