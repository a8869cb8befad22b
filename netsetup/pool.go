package netsetup

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/internal/source"
)

// ParsePool takes EGRESS_POOL: groups of addresses that are held together, with white space
// between the groups and commas between the addresses of one, ADDR or ADDR/LEN each. It
// returns the groups, and all their addresses as sources, whose Gateway and Interface are
// empty. An address is in one group.
func ParsePool(text string) (groups [][]netip.Addr, sources []Source, _ []Problem) {
	p := problems{prefix: "EGRESS_POOL invalid"}
	for i, line := range strings.Split(text, "\n") {
		for _, word := range strings.Fields(line) {
			var group []netip.Addr
			for _, text := range strings.Split(word, ",") {
				prefix, err := source.Parse(text, source.Bring)
				switch {
				case err != nil:
					p.add(i+1, "%q is not ADDR or ADDR/LEN; addresses of a group are separated by commas, groups by white space", text)
				case slices.ContainsFunc(sources, func(s Source) bool { return s.Addr() == prefix.Addr() }):
					p.add(i+1, "%s is there twice", prefix.Addr())
				default:
					group = append(group, prefix.Addr())
					sources = append(sources, Source{Prefix: prefix})
				}
			}
			groups = append(groups, group)
		}
	}
	if len(groups) == 0 && len(p.all) == 0 {
		p.add(1, "name the groups of addresses, ADDR,ADDR ADDR,ADDR")
	}
	return groups, sources, p.all
}

// CheckPool reports what EGRESS_SOURCE and EGRESS_POOL, which are both given, make wrong
// together: they are to name the same addresses.
func CheckPool(groups [][]netip.Addr, sources []Source) []Problem {
	p := problems{prefix: "EGRESS_POOL invalid"}
	pool := slices.Concat(groups...)
	for _, a := range pool {
		if !slices.ContainsFunc(sources, func(s Source) bool { return s.Addr() == a }) {
			p.add(1, "%s is no EGRESS_SOURCE", a)
		}
	}
	for _, s := range sources {
		if !slices.Contains(pool, s.Addr()) {
			p.add(1, "EGRESS_SOURCE %s is in no group", s.Addr())
		}
	}
	return p.all
}
