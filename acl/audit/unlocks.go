package audit

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// unlocks reports whether the guard denies more without an allow rule, which decides nothing itself, or nothing
// that is not decided alike without it.
func (r *linter) unlocks(no int32) bool {
	l, rule := r.list, &r.list.rules[no]
	a := rule.Prefix.Addr()
	single := rule.Prefix.IsSingleIP()
	guarded := noRules.Guarded(a, 1, netip.Addr{}) != acl.GuardNone
	if !guarded && !single || r.liftedBeside(no) {
		return false
	}
	if r.guard == nil {
		r.guard = noRules.WithGuardOf(l.p)
	}
	if single && !r.own && r.guard.Guarded(a, 1, a) != acl.GuardNone { // not with the guard off
		// It may be the gateway's own, which nothing but a rule for it alone unlocks.
		same, _ := l.addrs.Get(rule.Prefix)
		alone := !slices.ContainsFunc(same, func(n int32) bool { return n != no && !l.rules[n].Deny })
		if !guarded && alone && len(acl.Embedded(a)) == 0 || alone && standardGuard.Guarded(a, 1, netip.Addr{}) == acl.GuardNone && r.allowedAt(a, rule) {
			return true
		}
	}
	return r.closes(no)
}

// standardGuard guards what is guarded in each mode. There it is not asked whether an address is the gateway's own.
var standardGuard = noRules.WithGuard(acl.Guard{})

// liftedBeside reports whether another allow rule plainly lifts the guard wherever rule no does.
func (r *linter) liftedBeside(no int32) bool {
	l, rule := r.list, &r.list.rules[no]
	for prefix, rules := range l.addrs.Supernets(rule.Prefix) {
		if !acl.LiftsAsMuch(prefix, rule.Prefix) {
			continue
		}
		for _, n := range rules {
			if e := &l.rules[n]; n != no && !e.Deny && len(without(rule.Ports, portsOf(e))) == 0 {
				return true
			}
		}
	}
	return false
}

// portsOf are the ports of a rule, all of them as one range.
func portsOf(rule *acl.Rule) []acl.PortRange {
	if rule.Ports == nil {
		return []acl.PortRange{{From: 1, To: 65535}}
	}
	return rule.Ports
}

// allowedAt reports whether some name, or the literal, is plainly allowed at an address by the rules, on a port of
// one of them.
func (r *linter) allowedAt(a netip.Addr, rule *acl.Rule) bool {
	if r.onPorts == nil {
		r.onPorts = r.segments(r.names)
	}
	first := portsOf(rule)[0]
	port := int32(usualPort(int32(first.From), int32(first.To)))
	k, exact := slices.BinarySearchFunc(r.onPorts, port, func(o others, port int32) int { return cmp.Compare(o.from, port) })
	if !exact {
		k--
	}
	o, by := &r.onPorts[k], r.list.first(r.list.ofAddr(a, acl.Embedded(a), nil), uint16(port))
	return len(o.allow) > 0 && o.allow[0] < by || r.list.allows(by) && o.last >= by
}

// closes reports whether the guard denies more without a rule, by a comparison of the lists.
func (r *linter) closes(no int32) bool {
	if r.budget.over("the guard") {
		return true
	}
	l := r.list
	var b strings.Builder
	for i := range l.rules {
		if e := &l.rules[i]; int32(i) != no && !e.Expired {
			b.WriteString(e.Canonical())
			b.WriteByte('\n')
		}
	}
	fewer, err := acl.Parse(b.String())
	if err != nil {
		return true
	}
	o := r.o.Options
	o.Limit = max(time.Until(r.budget.end), time.Nanosecond)
	d := Compare(l.p, fewer.WithGuardOf(l.p), o)
	if !d.Complete() {
		r.budget.give(d.Why)
	}
	return len(d.Changes) > 0 || !d.Complete()
}
