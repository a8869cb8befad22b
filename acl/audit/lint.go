package audit

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// A Kind is what a finding is about.
type Kind string

const (
	NeverDecides   Kind = "never-decides"   // earlier lines cover all of it
	HalfDead       Kind = "half-dead"       // earlier lines cover it on some of its ports
	DecidesLater   Kind = "decides-later"   // earlier lines cover it until some of them expire
	Redundant      Kind = "redundant"       // without this line alone everything is decided alike, and tunnels carry the same
	ExpiryInVain   Kind = "expiry-in-vain"  // after its day other lines allow it anyway
	Expired        Kind = "expired"         // its day has passed
	ExpiresSoon    Kind = "expires-soon"    // its day is near
	LookAlike      Kind = "look-alike"      // it opens more than what it looks like
	SingleLabel    Kind = "single-label"    // a name without a dot
	HostBits       Kind = "host-bits"       // a CIDR that is read as another
	ResolvesAll    Kind = "resolves-all"    // every unknown name has to be resolved
	ReachesPrivate Kind = "reaches-private" // it allows addresses that are not globally reachable
)

// A Finding is something about a rule.
type Finding struct {
	Kind Kind
	Rule acl.Rule
	// Lines are the other rules that matter: of NeverDecides, HalfDead and DecidesLater earlier ones that cover it, none
	// of which could go; of Redundant and ExpiryInVain those that decide in its place.
	Lines  []acl.Rule
	Ports  []acl.PortRange // of HalfDead and DecidesLater: those on which it never, or not yet, decides; nil: all of its own
	Until  time.Time       // of DecidesLater: the last day, at 00:00 UTC, on which it does not decide
	Target Target          // that shows it; zero where none can
	Msg    string
	Opens  bool // more may be open than was meant
}

// LintOptions are how rules are looked at.
type LintOptions struct {
	Options
	Now  time.Time     // for what has expired; zero: nothing is said of that
	Soon time.Duration // how long before its day a rule is told of; 0: 30 days
	Keep bool          // rules go on when their day has passed
}

// Report is what Lint found.
type Report struct {
	Findings []Finding // in the order of the rules
	Why      string    // what made the list too large; "" when Findings are all
}

// Complete reports whether Findings are all that there are.
func (r *Report) Complete() bool { return r.Why == "" }

// Lint finds what is doubtful about a list, over every name, address and port. The policy is that of
// all rules, or that of a time: see [acl.Policy.At].
func Lint(p *acl.Policy, o LintOptions) Report {
	l := newList(p)
	r := &linter{list: l, o: o, pair: &pair{old: l, now: l, next: true, budget: o.budget(), own: o.Own}}
	for r.ending = 0; int(r.ending) < len(l.rules) && !r.ends(r.ending); {
		r.ending++
	}
	r.prepare()
	r.findNames(nil)
	r.findAddrs(nil)
	if r.budget.why == "" {
		r.dead()
		r.redundant()
		r.reaches()
		r.resolves()
	}
	for i := range l.rules {
		r.findings = append(r.findings, expiry(&l.rules[i], &o)...)
		r.findings = append(r.findings, openings(&l.rules[i])...)
		r.findings = append(r.findings, odd(&l.rules[i])...)
	}
	slices.SortStableFunc(r.findings, func(a, b Finding) int { return cmp.Compare(a.Rule.Pos, b.Rule.Pos) })
	return Report{Findings: r.findings, Why: r.budget.why}
}

// A linter looks at one list. The classes of its pair have the first and the second rule that
// matches.
type linter struct {
	*pair
	list     *list
	o        LintOptions
	findings []Finding
	dies     map[int32]bool   // rules that never decide
	covers   map[string]cover // of those, by their spelling, that are covered for good by lines for names, or for addresses, as they are
	sorted   []netip.Addr     // kinds of addresses; nil: not sorted yet
	inners   []inner          // what they embed, sorted
	guard    *acl.Policy      // of the list, without rules; nil: not made yet
	onPorts  []others         // what names there are on ports; nil: not looked for yet
	lasting  bool             // rules that expire cover nothing
	ending   int32            // the first rule that ends some day, or none
}

func (r *linter) add(f Finding) { r.findings = append(r.findings, f) }

// place is where a rule stands, for people.
func place(rule acl.Rule) string {
	if rule.Source != "" {
		return fmt.Sprintf("line %d of %s", rule.Line, rule.Source)
	}
	return fmt.Sprintf("line %d", rule.Line)
}

// places lists rules: the first ten, with how many more there are.
func places(rules []acl.Rule) string {
	const most = 10
	var b strings.Builder
	for i, r := range rules {
		if i == most {
			fmt.Fprintf(&b, ", and %d more", len(rules)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(place(r) + " (" + r.Text + ")")
	}
	return b.String()
}

// dead finds the rules that never decide, at all or on some of their ports.
func (r *linter) dead() {
	alive := r.alive()
	r.dies, r.covers = map[int32]bool{}, map[string]cover{}
	for i := range r.list.rules {
		if rule := &r.list.rules[i]; !rule.Expired {
			r.deadOn(int32(i), without(rule.Ports, alive[i]), len(alive[i]) == 0)
		}
	}
}

// alive are the ports on which each rule decides something.
func (r *linter) alive() [][]acl.PortRange {
	alive := make([][]acl.PortRange, len(r.list.rules))
	live := func(rule, from, to int32) {
		if from <= to {
			alive[rule] = append(alive[rule], acl.PortRange{From: uint16(from), To: uint16(to)})
		}
	}
	free := func(rule int32, a *class) bool { return r.list.rules[rule].Deny || !a.oldG }
	lastName, lastAddr := r.latest()
	for i := range r.names {
		n := &r.names[i]
		if n.old == none {
			continue
		}
		if lastAddr > n.old {
			live(n.old, n.from, n.to)
			continue
		}
		for j := range r.addrs {
			if a := &r.addrs[j]; a.old > n.old && free(n.old, a) {
				live(n.old, max(n.from, a.from), min(n.to, a.to))
			}
		}
	}
	for i := range r.addrs {
		a := &r.addrs[i]
		if a.old == none || !free(a.old, a) || r.budget.spent("addresses and names") {
			continue
		}
		if lastName > a.old {
			live(a.old, a.from, a.to)
			continue
		}
		for j := range r.names {
			if n := &r.names[j]; n.old > a.old {
				live(a.old, max(n.from, a.from), min(n.to, a.to))
			}
		}
	}
	return alive
}

// latest are the latest rules of classes of every port.
func (r *linter) latest() (name, addr int32) {
	name, addr = -1, -1
	for i := range r.names {
		if r.names[i].everyPort() {
			name = max(name, r.names[i].old)
		}
	}
	for i := range r.addrs {
		if a := &r.addrs[i]; a.everyPort() && !a.oldG {
			addr = max(addr, a.old)
		}
	}
	return name, addr
}

// deadOn says that a rule does not decide on the ports gone, which whole says are all that it has.
func (r *linter) deadOn(no int32, gone []acl.PortRange, whole bool) {
	if len(gone) == 0 {
		return
	}
	spelling := ""
	if whole {
		r.dies[no], spelling = true, r.list.rules[no].Canonical()
		if c, ok := r.covers[spelling]; ok { // what covers a line covers each one like it
			r.add(r.neverDecides(no, c, gone, true))
			return
		}
	}
	later := r.later(no, gone)
	if always := without(gone, later); len(always) > 0 {
		r.lasting = true
		whole := whole && len(later) == 0
		c, ok := r.covered(no, always)
		if r.lasting = false; ok {
			r.add(r.neverDecides(no, c, always, whole))
		}
		if ok && whole && c.alike {
			r.covers[spelling] = c
		}
	}
	if len(later) > 0 {
		r.decidesLater(no, later, whole && len(without(gone, later)) == 0)
	}
}

// without returns the ports of a rule, nil is any, that are none of rs.
func without(ports, rs []acl.PortRange) (out []acl.PortRange) {
	if ports == nil {
		ports = []acl.PortRange{{From: 1, To: 65535}}
	}
	if len(rs) > 0 {
		if rs = joinPorts(slices.Clone(rs)); rs == nil {
			return nil
		}
	}
	for _, p := range ports {
		from := int(p.From)
		for _, r := range rs {
			if int(r.To) < from || r.From > p.To {
				continue
			}
			if int(r.From) > from {
				out = append(out, acl.PortRange{From: uint16(from), To: r.From - 1})
			}
			from = int(r.To) + 1
		}
		if from <= int(p.To) {
			out = append(out, acl.PortRange{From: uint16(from), To: p.To})
		}
	}
	return out
}

// covered is what covers a rule on ports; ok is false when the time is over.
func (r *linter) covered(no int32, ports []acl.PortRange) (c cover, ok bool) {
	c = r.cover(no, ports)
	return c, r.budget.why == ""
}

// neverDecides says what covers a rule on ports, which whole says are all that it has.
func (r *linter) neverDecides(no int32, c cover, ports []acl.PortRange, whole bool) Finding {
	rule := r.list.rules[no]
	f := Finding{Kind: NeverDecides, Rule: rule, Target: c.target}
	for _, by := range c.lines {
		f.Lines = append(f.Lines, r.list.rules[by])
	}
	where := "never decides"
	if !whole {
		f.Kind, f.Ports = HalfDead, ports
		where = "never decides on port " + portList(ports)
	}
	switch {
	case len(f.Lines) == 0:
		f.Msg = fmt.Sprintf("'%s' %s: the guard denies what it allows", rule.Text, where)
	case len(f.Lines) == 1:
		f.Msg = fmt.Sprintf("'%s' %s: %s comes first", rule.Text, where, places(f.Lines))
	default:
		f.Msg = fmt.Sprintf("'%s' %s: together these come first: %s", rule.Text, where, places(f.Lines))
	}
	if f.Target.Host.IsValid() {
		f.Msg += "; " + f.Target.String() + " is decided by " + f.Target.Decide(r.list.p).Reason()
	}
	if whole && !rule.Deny && rule.Form == acl.FormAddr && r.unlocks(no) {
		f.Msg += "; it still lifts the guard from there, should that be an address of the gateway or a guarded one"
	}
	return f
}

// portList is 80, 443-445.
func portList(rs []acl.PortRange) string {
	var b strings.Builder
	for i, p := range rs {
		if i > 0 {
			b.WriteString(",")
		}
		if fmt.Fprintf(&b, "%d", p.From); p.To != p.From {
			fmt.Fprintf(&b, "-%d", p.To)
		}
	}
	return b.String()
}
