package config

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/gaissmai/bart"

	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// reachable reports tenants that no client can reach, since earlier ones take all of theirs.
func (r *tenantReader) reachable() {
	taken, shown, pods := new(bart.Table[string]), map[auth.Selector]string{}, map[policy.PodSelector]string{}
	for _, t := range r.all {
		all, by := len(t.Clients)+len(t.Shown)+len(t.Pods) > 0, ""
		for _, sel := range t.Shown {
			taker := shown[sel]
			if star, ok := sel.Star(); ok {
				taker = cmp.Or(shown[star], taker)
			}
			all = all && taker != ""
			by = cmp.Or(by, taker)
			shown[sel] = cmp.Or(taker, t.Name)
		}
		for _, sel := range t.Pods {
			taker := cmp.Or(pods[policy.PodSelector{Namespace: sel.Namespace}], pods[sel])
			all = all && taker != ""
			by = cmp.Or(by, taker)
			pods[sel] = cmp.Or(taker, t.Name)
		}
		for _, p := range t.Clients {
			taker, ok := takenBy(taken, p)
			all = all && ok
			by = cmp.Or(by, taker)
		}
		if all {
			r.FileProblem(t.line, fmt.Sprintf("no client can be tenant %q's: %q above takes them first; move this one up, or name others", t.Name, by))
		}
		for _, p := range t.Clients {
			if _, ok := taken.LookupPrefix(p); !ok {
				taken.Insert(p, t.Name)
			}
		}
	}
}

// takenBy returns who takes the first of the addresses of p, if all of them are taken.
func takenBy(taken *bart.Table[string], p netip.Prefix) (by string, all bool) {
	if by, ok := taken.LookupPrefix(p); ok {
		return by, true
	}
	if p.IsSingleIP() || !taken.OverlapsPrefix(p) {
		return "", false
	}
	low, high := halves(p)
	if by, all = takenBy(taken, low); !all {
		return "", false
	}
	_, all = takenBy(taken, high)
	return by, all
}

// halves are the two prefixes that p consists of.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	b := p.Addr().AsSlice()
	b[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(upper, p.Bits()+1)
}
