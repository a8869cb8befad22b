package audit

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// ends reports whether a rule matches nothing any more some day.
func (r *linter) ends(no int32) bool {
	rule := &r.list.rules[no]
	return !r.o.Keep && !rule.Deny && !rule.Expires.IsZero()
}

// later are those of the ports, on which earlier rules cover rule no, on which it decides when some of
// these have expired.
func (r *linter) later(no int32, ports []acl.PortRange) (out []acl.PortRange) {
	if no <= r.ending {
		return nil
	}
	r.lasting = true
	defer func() { r.lasting = false }()
	names, addrs := r.parts(no, ports)
	r.bare(names, addrs, func(n, a *part) {
		out = append(out, acl.PortRange{From: uint16(max(n.from, a.from)), To: uint16(min(n.to, a.to))})
	})
	if r.budget.why != "" || len(out) == 0 {
		return nil
	}
	if out = joinPorts(out); out == nil {
		return []acl.PortRange{{From: 1, To: 65535}}
	}
	return out
}

// bare calls f for what no rule that lasts covers: of the parts of names and addresses those that have a port
// in common.
func (r *linter) bare(names, addrs []part, f func(n, a *part)) {
	open := func(ps []part) (out []*part) {
		for i := range ps {
			if !slices.ContainsFunc(ps[i].by, func(e int32) bool { return !r.ends(e) }) {
				out = append(out, &ps[i])
			}
		}
		return out
	}
	openAddrs := open(addrs)
	for _, n := range open(names) {
		for _, a := range openAddrs {
			if r.budget.spent("names and addresses") {
				return
			}
			if max(n.from, a.from) <= min(n.to, a.to) {
				f(n, a)
			}
		}
	}
}

// decidesLater tells of a rule that decides on ports when others have expired; alone says that it decides nothing
// now, and nothing covers it for good.
func (r *linter) decidesLater(no int32, ports []acl.PortRange, alone bool) {
	var until time.Time
	last := func(p *part) (day time.Time) {
		for _, e := range p.by {
			if d := r.list.rules[e].Expires; d.After(day) {
				day = d
			}
		}
		return day
	}
	r.bare(r.nameParts(no, ports), r.addrParts(no, ports), func(n, a *part) {
		day := last(n)
		if d := last(a); d.After(day) {
			day = d
		}
		if until.IsZero() || day.Before(until) {
			until = day
		}
	})
	c, ok := r.covered(no, ports)
	if !ok {
		return
	}
	f := r.neverDecides(no, c, ports, true)
	f.Kind, f.Until = DecidesLater, until
	on := ""
	if !alone {
		f.Ports, on = ports, " on port "+portList(ports)
	}
	f.Msg = fmt.Sprintf("'%s' decides nothing%s until %s: %s comes first, and what expires then leaves it to this line", f.Rule.Text, on, until.Format(time.DateOnly), places(f.Lines))
	if f.Target.Host.IsValid() {
		f.Msg += "; " + f.Target.String() + " is decided by " + f.Target.Decide(r.list.p).Reason()
	}
	r.add(f)
}

// neededLater takes out of the rules that could go those that decide something when others have expired.
func (r *linter) neededLater(could map[int32]bool) {
	if r.o.Keep {
		return
	}
	for at, ok := r.list.p.NextExpiry(r.o.Now); ok && len(could) > 0; at, ok = r.list.p.NextExpiry(at) {
		if time.Now().After(r.budget.end) {
			r.budget.give("rules expire on many days: the time is over")
		}
		l := newList(r.list.p.At(at))
		then := &linter{list: l, o: r.o, pair: &pair{old: l, now: l, next: true, budget: r.budget, own: r.own}}
		then.prepare()
		then.findNames(nil)
		then.findAddrs(nil)
		if r.budget.why != "" {
			return
		}
		needed, _ := then.needed()
		for no := range could {
			rule := &l.rules[no]
			if !rule.Expired && (needed[no] || !rule.Deny && rule.Form == acl.FormAddr && then.unlocks(no)) {
				delete(could, no)
			}
		}
	}
}
