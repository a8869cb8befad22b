package audit

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// others are, on some ports, the rules of the other kind that come first for some target.
type others struct {
	from, to    int32
	deny, allow []int32 // sorted
	last        int32   // of all: none when something is matched by no rule
}

// segments cuts classes at their ports. Of addresses those that the guard denies are left out.
func (r *linter) segments(cs []class) (out []others) {
	cuts := []int32{1, 65536}
	for i := range cs {
		cuts = append(cuts, cs[i].from, cs[i].to+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for i := 0; i+1 < len(cuts); i++ {
		out = append(out, others{from: cuts[i], to: cuts[i+1] - 1, last: -1})
	}
	for i := range cs {
		c := &cs[i]
		k, _ := slices.BinarySearchFunc(out, c.from, func(o others, from int32) int { return cmp.Compare(o.from, from) })
		for ; k < len(out) && out[k].from <= c.to && !c.oldG; k++ {
			o := &out[k]
			o.last = max(o.last, c.old)
			switch {
			case c.old == none:
			case r.list.rules[c.old].Deny:
				o.deny = append(o.deny, c.old)
			default:
				o.allow = append(o.allow, c.old)
			}
		}
		if r.budget.spent("ports") {
			return out
		}
	}
	for i := range out {
		for _, rs := range []*[]int32{&out[i].deny, &out[i].allow} {
			slices.Sort(*rs)
			*rs = slices.Compact(*rs)
		}
	}
	return out
}

// between reports whether some rule is behind a and in front of b.
func between(sorted []int32, a, b int32) bool {
	i, _ := slices.BinarySearch(sorted, a+1)
	return i < len(sorted) && sorted[i] < b
}

// otherWant reports whether tunnels would have to carry something else on some port from..to if another
// rule decided in the place of one.
func (l *list) otherWant(one, other, from, to int32) bool {
	a, b := l.rules[one].Protocol, l.rules[other].Protocol
	if a == b {
		return false
	}
	return from <= 443 && to >= 443 && wants(a, 443) != wants(b, 443) || from != 443 || to != 443
}

// carriesOther reports whether what decides in the place of the allow rule of class c where o is true wants
// something else of tunnels.
func (r *linter) carriesOther(c *class, o *others) bool {
	l, from, to := r.list, max(c.from, o.from), min(c.to, o.to)
	if l.allows(c.now) && o.last > c.old && o.last >= c.now && l.otherWant(c.old, c.now, from, to) {
		return true
	}
	i, _ := slices.BinarySearch(o.allow, c.old+1)
	for ; i < len(o.allow) && o.allow[i] < c.now; i++ {
		if l.otherWant(c.old, o.allow[i], from, to) {
			return true
		}
	}
	return false
}

// needed are the rules without each of which something is decided otherwise, or has to carry something else; next
// is what decides in the place of the others.
func (r *linter) needed() (needed []bool, next []map[int32]bool) {
	l := r.list
	needed = make([]bool, len(l.rules))
	next = make([]map[int32]bool, len(l.rules))
	speaks := l.saysProtocol()
	look := func(cs []class, segments []others) {
		for i := range cs {
			c := &cs[i]
			if c.old == none || needed[c.old] || r.budget.spent("ports") {
				continue
			}
			allow := l.allows(c.old)
			if c.oldG { // denied either way
				if !allow && next[c.old] == nil {
					next[c.old] = map[int32]bool{}
				}
				continue
			}
			k, exact := slices.BinarySearchFunc(segments, c.from, func(o others, from int32) int { return cmp.Compare(o.from, from) })
			if !exact {
				k-- // the one that it begins in
			}
			for ; k < len(segments) && segments[k].from <= c.to; k++ {
				o := &segments[k]
				opposite := o.deny
				if !allow {
					opposite = o.allow
				}
				if between(opposite, c.old, c.now) || l.allows(c.now) != allow && o.last > c.old && o.last >= c.now || speaks && allow && r.carriesOther(c, o) {
					needed[c.old] = true
					break
				}
				if o.last > c.old && next[c.old] == nil {
					next[c.old] = map[int32]bool{}
				}
				if o.last > c.old && c.now < none && len(next[c.old]) < 100 {
					next[c.old][c.now] = true
				}
			}
		}
	}
	addrs, names := r.segments(r.addrs), r.segments(r.names)
	look(r.names, addrs)
	look(r.addrs, names)
	return needed, next
}

// redundant finds the rules without each of which all is decided alike, on every day, and those that expire in
// vain.
func (r *linter) redundant() {
	l := r.list
	needed, next := r.needed()
	could := map[int32]bool{}
	for i := range l.rules {
		no, rule := int32(i), &l.rules[i]
		if needed[i] || next[i] == nil || r.dies[no] || rule.Expired {
			continue
		}
		if rule.Deny || rule.Form != acl.FormAddr || !r.unlocks(no) {
			could[no] = true
		}
	}
	if r.neededLater(could); r.budget.why != "" {
		return
	}
	for _, no := range slices.Sorted(maps.Keys(could)) {
		rule := &l.rules[no]
		f := Finding{Kind: Redundant, Rule: *rule}
		for _, by := range slices.Sorted(maps.Keys(next[no])) {
			f.Lines = append(f.Lines, l.rules[by])
		}
		instead := "what it denies is denied without it too"
		if !rule.Deny {
			instead = "what it allows is allowed without it too"
		}
		if len(f.Lines) > 0 {
			instead = "without it, all is decided alike by " + places(f.Lines)
		}
		if f.Msg = fmt.Sprintf("'%s' could go: %s", rule.Text, instead); !rule.Expires.IsZero() && !rule.Deny {
			f.Kind = ExpiryInVain
			f.Msg = fmt.Sprintf("'%s' expires in vain: %s", rule.Text, strings.Replace(instead, "without it, all is decided alike", "what it allows is allowed anyway", 1))
		}
		f.Target = r.show(no)
		r.add(f)
	}
}

// show is a target that a rule decides.
func (r *linter) show(no int32) Target {
	for i := range r.names {
		n := &r.names[i]
		if n.old != no && r.list.rules[no].Form != acl.FormAddr || n.old < no {
			continue
		}
		for j := range r.addrs {
			a := &r.addrs[j]
			if min(n.old, a.old) == no && !a.oldG {
				if from, to := max(n.from, a.from), min(n.to, a.to); from <= to {
					return r.target(n, a, from, to)
				}
			}
		}
	}
	return Target{}
}

// reaches finds allow rules for addresses that are not globally reachable: private ones, or those
// that the guard is lifted from.
func (r *linter) reaches() {
	l := r.list
	told := map[int32]bool{}
	var buf []int32
	for _, a := range r.allKinds() {
		class := noRules.Guarded(a, 1, netip.Addr{})
		if class == acl.GuardNone || r.budget.spent("addresses") {
			continue
		}
		buf = l.ofAddr(a, acl.Embedded(a), buf)
		buf = append(buf, l.star...)
		r.cutBuf = l.cuts(r.cutBuf[:0], buf, false)
		r.spans(func(from, to int32) {
			port := usualPort(from, to)
			n := l.first(buf, port)
			if told[n] || !l.allows(n) || l.p.Guarded(a, port, netip.Addr{}) != acl.GuardNone {
				return
			}
			told[n] = true
			t := Target{Addr: a, Target: acl.Target{Host: acl.HostFromAddr(a), Port: port}}
			r.add(Finding{Kind: ReachesPrivate, Rule: l.rules[n], Target: t,
				Msg: fmt.Sprintf("'%s' allows addresses that are not globally reachable (%s), such as %s", l.rules[n].Text, class, t)})
		})
	}
}

// resolves tells of address rules because of which every name that no rule is about has to be resolved.
func (r *linter) resolves() {
	l := r.list
	i := slices.IndexFunc(r.nameReps, func(name string) bool {
		return name != "" && len(slices.DeleteFunc(l.ofName(name, nil), func(n int32) bool { return l.rules[n].Form == acl.FormStar })) == 0
	})
	if i < 0 {
		return
	}
	h, err := acl.ParseHost(r.nameReps[i])
	if err != nil {
		return
	}
	var lines []acl.Rule
	var first *class
	seen := map[int32]bool{}
	for j := range r.addrs {
		a := &r.addrs[j]
		t := acl.Target{Host: h, Port: uint16(a.from)}
		if a.oldG || !l.allows(a.old) || l.allows(l.first(l.star, t.Port)) || seen[a.old] || l.p.DecideHost(t).Verdict != acl.NeedAddr {
			continue
		}
		if seen[a.old] = true; first == nil || a.old < first.old {
			first = a
		}
		lines = append(lines, l.rules[a.old])
	}
	if first == nil {
		return
	}
	slices.SortFunc(lines, func(a, b acl.Rule) int { return cmp.Compare(a.Pos, b.Pos) })
	f := Finding{Kind: ResolvesAll, Rule: lines[0], Lines: lines[1:], Target: Target{Addr: r.addrReps[first.rep].addr, Target: acl.Target{Host: h, Port: usualPort(first.from, first.to)}}}
	f.Msg = fmt.Sprintf("because of '%s' every name that no line is about is resolved, for it might have such an address: names can carry data out; write the names that are meant", lines[0].Text)
	if len(lines) > 1 {
		f.Msg += fmt.Sprintf(" (so do %s)", places(lines[1:]))
	}
	r.add(f)
}
