package acl

import (
	"net/netip"
	"slices"
)

// A Reach tells which addresses a policy may let anybody connect to on one port, by whatever
// name: what is kept open towards others is of no use any more. The zero Reach has none. Make
// it with [Policy.Reach]; it may be used concurrently.
type Reach struct {
	p      *Policy
	port   uint16
	byName ruleNo // the earliest that allows a name, or everything
}

// Reach reads the rules once; the policy may be nil.
func (p *Policy) Reach(port uint16) Reach {
	r := Reach{p: p, port: port, byName: none}
	if p == nil {
		return r
	}
	var reader formReader
	for i := range p.set.rules {
		rule := &p.set.rules[i]
		if rule.deny() || rule.size&ruleAddr != 0 || p.set.expired(ruleNo(i)) {
			continue
		}
		f, _ := reader.read(rule.text(p.set)) // it was good
		if f.ports == nil || slices.ContainsFunc(f.ports, func(o portRange) bool { return o.from <= port && port <= o.to }) {
			r.byName = ruleNo(i)
			break
		}
	}
	return r
}

// Allows reports whether some name, or a itself, may be connected to at a. It never says false
// when one may. It may say true when none may, where deny rules for names stand in front of
// all names that would be allowed.
func (r Reach) Allows(a netip.Addr) bool {
	a = a.Unmap()
	if r.p == nil || r.port == 0 || !a.IsValid() || a.Zone() != "" || r.p.guarded(a, r.port) != GuardNone {
		return false
	}
	by := r.p.set.addrs.earliest(r.p.set.steps, a, r.port)
	return r.byName < by || by != none && !r.p.set.rules[by].deny()
}
