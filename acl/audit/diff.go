package audit

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// Options are how a question is answered. The zero value takes up to ten seconds and a million
// regions, and any address for one of the gateway's own.
type Options struct {
	Limit   time.Duration // 0: 10 s
	Regions int           // 0: 1,000,000
	// Own says that the addresses of the gateway are those of the guards of the policies.
	// Otherwise any address may be one: an allow rule for a single address is what unlocks it there.
	Own bool
}

func (o Options) budget() *budget {
	return &budget{end: time.Now().Add(cmp.Or(o.Limit, 10*time.Second)), regions: cmp.Or(o.Regions, 1_000_000)}
}

// A Target is what a request may be for, with the address that it comes to.
type Target struct {
	acl.Target
	Addr netip.Addr // that a name resolved to, or the literal
	Own  netip.Addr // when it is valid, the gateway has this address
}

// String returns the target as `sluice acl test` takes it: NAME:PORT=ADDR, or LITERAL:PORT.
func (t Target) String() string {
	if t.Host.IsAddr() {
		return t.Target.String()
	}
	return t.Target.String() + "=" + t.Addr.String()
}

// Decide is what a policy decides on t: [acl.Policy.DecideAddr], on the gateway that t is for.
func (t Target) Decide(p *acl.Policy) acl.Decision {
	d := p.DecideAddr(t.Target, t.Addr)
	if t.Own.IsValid() && d.Verdict == acl.Allow {
		if g := p.Guarded(t.Addr, t.Port, t.Own); g != acl.GuardNone {
			return acl.Decision{Kind: acl.ReasonGuard, Guard: g, ByAddr: true}
		}
	}
	return d
}

// A Change is a region of targets on which two policies differ: those that the one decides by the
// rule, the guard or the default of Old, and the other by that of New. Where the one decides by an
// address rule, or by the guard, and the other by the name, all names are one region: Others says so.
// They are the targets that match the forms of both, on Ports, and that no rule in front of either matches.
type Change struct {
	Old, New acl.Decision // on Target
	Others   Side         // whose decision is one of several: by other names
	Ports    []acl.PortRange
	Target   Target // one of the region
	key      regionKey
}

// Side is one of the two policies, or none.
type Side uint8

const (
	Neither Side = iota
	OldSide
	NewSide
)

// Opened reports whether New allows what Old denied.
func (c *Change) Opened() bool { return c.New.Verdict == acl.Allow }

// A Diff is what differs between the verdicts of two policies. [CompareProtocols] has what they ask of tunnels.
type Diff struct {
	// Changes are in the order of the rules of the new policy, then of the old one.
	Changes []Change
	// Why says what made the question too large, when not all changes were found; "" when Changes
	// are all.
	Why string
}

// Complete reports whether all changes were found: without any, the policies are equivalent.
func (d *Diff) Complete() bool { return d.Why == "" }

// Opened are the changes that open something: without any, and Complete, New implies Old.
func (d *Diff) Opened() (out []Change) { return filterChanges(d.Changes, true) }

// Closed are the changes that close something.
func (d *Diff) Closed() (out []Change) { return filterChanges(d.Changes, false) }

func filterChanges(cs []Change, opened bool) (out []Change) {
	for _, c := range cs {
		if c.Opened() == opened {
			out = append(out, c)
		}
	}
	return out
}

// Compare finds all that two policies decide differently, over every name, address and port. It is
// deterministic, as long as it is complete. A nil policy denies everything.
func Compare(old, now *acl.Policy, o Options) Diff { return newPair(old, now, o).compare() }

// compare finds what the lists of p decide differently.
func (p *pair) compare() Diff {
	r := regions{budget: p.budget, limit: p.budget.regions, found: map[regionKey]int{}}
	s, narrow := newScope(p.old, p.now, false)
	switch {
	case !narrow:
		r.cross(p.classes(nil, nil))
	default:
		if s.byName() {
			r.cross(p.classes(s, nil))
		}
		if s.byAddr() {
			r.cross(p.classes(nil, s.addr))
		}
	}
	return r.diff(p.old.p, p.now.p)
}

// regions collects changes.
type regions struct {
	budget *budget
	limit  int
	found  map[regionKey]int // index in list
	list   []region
}

// A regionKey is a pair of what decides.
type regionKey struct {
	old, now   int32 // 0 of a side that decides by one of several names
	oldG, nowG bool
	own        bool
	side       Side
	// Of what the guard of one list decides, whatever the name: the rules for the address, counted from 1.
	oldAddr, nowAddr int32
}

type region struct {
	regionKey
	key    regionKey
	ports  []acl.PortRange
	target Target
}

func (r *regions) cross(p *pair) {
	p.crossAll(func(n, a *class, from, to int32) bool {
		if r.budget.spent("what differs has many parts") {
			return false
		}
		rep := &p.addrReps[a.rep]
		k := regionKey{old: min(n.old, a.old), now: min(n.now, a.now), own: rep.own.IsValid()}
		k.oldG, k.nowG = p.old.allows(k.old) && a.oldG, p.now.allows(k.now) && a.nowG
		order := k
		switch oldName, nowName := a.old >= n.old, a.now >= n.now; {
		case oldName && !nowName:
			k.side, k.old, k.oldG = OldSide, 0, false
		case nowName && !oldName:
			k.side, k.now, k.nowG = NewSide, 0, false
		case oldName && nowName && k.oldG != k.nowG: // the guard decides by the address, and the other list by the name
			if k.side = OldSide; k.oldG {
				k.side = NewSide
			}
			k.old, k.now, k.oldAddr, k.nowAddr = 0, 0, a.old+1, a.now+1
		}
		i, ok := r.found[k]
		if !ok {
			if i = len(r.list); i >= r.limit {
				r.budget.give("what differs has more regions than the limit")
				return false
			}
			r.found[k] = i
			r.list = append(r.list, region{regionKey: order, key: k, target: p.target(n, a, from, to)})
		}
		r.list[i].ports = append(r.list[i].ports, acl.PortRange{From: uint16(from), To: uint16(to)})
		return true
	})
}

// target is an example of a region.
func (p *pair) target(n, a *class, from, to int32) Target {
	t := Target{Addr: p.addrReps[a.rep].addr, Own: p.addrReps[a.rep].own}
	if t.Port = usualPort(from, to); p.on == otherPorts && t.Port == 443 {
		switch {
		case from <= 80:
			t.Port = 80
		case from < 443:
			t.Port = uint16(from)
		default:
			t.Port = 444
		}
	}
	// What address rules decide of a name, they decide of the literal: no rule is behind "*".
	if name := p.nameReps[n.rep]; name != "" && (p.named || a.old >= n.old || a.now >= n.now && !p.next) {
		t.Host, _ = acl.ParseHost(name) // it is made of what rules hold
	} else {
		t.Host = acl.HostFromAddr(t.Addr)
	}
	return t
}

// usualPort is a port from..to: one that people know, if there is any.
func usualPort(from, to int32) uint16 {
	for _, usual := range [...]int32{443, 80} {
		if from <= usual && usual <= to {
			return uint16(usual)
		}
	}
	return uint16(from)
}

// diff returns what was found, each region replayed on the engine.
func (r *regions) diff(old, now *acl.Policy) Diff {
	slices.SortFunc(r.list, func(a, b region) int {
		return cmp.Or(cmp.Compare(a.now, b.now), cmp.Compare(a.old, b.old), compareBool(a.own, b.own), compareBool(a.oldG, b.oldG), compareBool(a.nowG, b.nowG),
			cmp.Compare(a.key.nowAddr, b.key.nowAddr), cmp.Compare(a.key.oldAddr, b.key.oldAddr))
	})
	d := Diff{Why: r.budget.why}
	for i := range r.list {
		c := Change{Others: r.list[i].key.side, key: r.list[i].key, Ports: joinPorts(r.list[i].ports), Target: r.list[i].target}
		c.Old, c.New = c.Target.Decide(old), c.Target.Decide(now)
		if c.Old.Verdict == c.New.Verdict { // the engine has the last word
			d.Why = "a fault of the program: " + c.Target.String() + " was said to differ, and does not; please report it"
			continue
		}
		d.Changes = append(d.Changes, c)
	}
	return d
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// joinPorts sorts ranges and joins those that touch; every port is nil.
func joinPorts(rs []acl.PortRange) []acl.PortRange {
	slices.SortFunc(rs, func(a, b acl.PortRange) int { return cmp.Compare(a.From, b.From) })
	out := rs[:1]
	for _, r := range rs[1:] {
		if last := &out[len(out)-1]; int(r.From) > int(last.To)+1 {
			out = append(out, r)
		} else {
			last.To = max(last.To, r.To)
		}
	}
	if out[0] == (acl.PortRange{From: 1, To: 65535}) {
		return nil
	}
	return out
}
