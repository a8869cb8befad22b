package acl

import (
	"net/netip"
	"slices"
)

// An outlook tells, for one segment of ports, what addresses can change about
// a request for a name, whatever the name. Whether a name must be resolved then
// takes a few comparisons with the earliest rule that matches the name.
type outlook struct {
	// allow is the earliest rule that allows some address: an allow rule
	// that is the first to match an address which is not guarded.
	allow ruleNo
	// deny is the earliest deny rule that is the first to match some address.
	deny ruleNo
	// full is the first rule by which every address that is not guarded has
	// been matched; none when some address never is.
	full ruleNo
	// guards is true when some address is guarded.
	guards bool
}

// open is an outlook that has every name resolved; it is right, if wasteful,
// when allow and deny are not later than they should be.
func (o *outlook) open(mode GuardMode) { o.full, o.guards = none, mode != GuardOff }

// foresee decides about every address of a name at once, where that is possible.
// name is the earliest rule that matches the name.
func (p *Policy) foresee(name ruleNo, port uint16) Decision {
	i, found := slices.BinarySearch(p.set.segments, port)
	if !found {
		i--
	}
	o := &p.outlooks[i]
	d := p.set.decision(name)
	var someAllowed, someDenied bool
	if d.Verdict == Allow {
		someAllowed = o.allow < name || o.full > name
		someDenied = o.deny < name || o.guards
	} else {
		someAllowed = o.allow < name
		someDenied = o.deny < name || o.guards || o.full == none || o.full > name
	}
	switch {
	case someAllowed && someDenied:
		d.Verdict = NeedAddr
	case someAllowed && d.Verdict == Deny:
		d = p.set.decision(o.allow) // address rules allow everything
	case !someAllowed && d.Verdict == Allow:
		d = p.set.decision(o.deny) // address rules deny everything
	}
	return d
}

// portSegments returns the first ports of the segments in which all ports are
// equal to every address rule.
func (s *ruleSet) portSegments() []uint16 {
	cuts := []uint16{1}
	for i := range s.addrs.rules {
		for _, r := range s.addrs.rules[i].ports {
			cuts = append(cuts, r.from)
			if r.to < 65535 {
				cuts = append(cuts, r.to+1)
			}
		}
	}
	slices.Sort(cuts)
	return slices.Clip(slices.Compact(cuts))
}

// maxProbes bounds how many times an outlooker decides about an address: at
// some 100 ns each, well below a second.
const maxProbes = 4_000_000

// An outlooker computes the outlooks of a policy. Almost always the first allow
// and the first deny rule have an effect, which two or three addresses prove.
// Where they prove nothing (earlier rules hide a rule in part, or together), the
// decision about one address of each range between two borders of prefixes
// gives the exact answer.
type outlooker struct {
	p    *Policy
	s    *ruleSet
	outs []outlook
	hard []bool // segments for which every range must be tried
	left int    // probes left
}

func newOutlooker(p *Policy, probes int) *outlooker {
	return &outlooker{
		p: p, s: p.set,
		outs: make([]outlook, len(p.set.segments)),
		hard: make([]bool, len(p.set.segments)),
		left: probes,
	}
}

func (l *outlooker) run() []outlook {
	l.sweep(false)
	l.sweep(true)
	for i := range l.outs {
		l.survey(i)
	}
	for i, hard := range l.hard {
		if hard {
			l.tryAll(i)
		}
	}
	return l.outs
}

// sweep finds the earliest allow (or deny) rule that has an effect for each
// segment. The rules are taken in order, and each looks only at those of its
// segments that have found none so far.
func (l *outlooker) sweep(deny bool) {
	next := make([]int32, len(l.outs)+1) // next segment to be settled, from i on
	for i := range next {
		next[i] = int32(i)
	}
	settle := func(i int, no ruleNo) {
		next[i] = int32(i + 1)
		if deny {
			l.outs[i].deny = no
		} else {
			l.outs[i].allow = no
		}
	}
	for k := range l.s.addrs.rules {
		r := &l.s.addrs.rules[k]
		if r.deny != deny {
			continue
		}
		if free(next, 0) == len(l.outs) {
			break
		}
		ports := r.ports
		if ports == nil {
			ports = anyPort
		}
		for _, pr := range ports {
			i, _ := slices.BinarySearch(l.s.segments, pr.from)
			for i = free(next, i); i < len(l.outs) && l.s.segments[i] <= pr.to; i = free(next, i+1) {
				effect := l.effect(r, l.s.segments[i])
				if effect == unsure {
					l.hard[i] = true
				}
				if effect != hidden {
					settle(i, r.rule)
				}
			}
		}
	}
	for i := free(next, 0); i < len(l.outs); i = free(next, i+1) {
		settle(i, none)
	}
}

// What a rule is known to do for a port.
const (
	unsure    = iota
	effective // it is the first to match some address (not guarded, to allow)
	hidden    // it is the first to match no address
)

// effect tries to find out cheaply what r does for a port of its own.
func (l *outlooker) effect(r *addrRule, port uint16) int {
	l.left--
	switch {
	case l.left <= 0:
		return unsure
	case l.hides(r, port):
		return hidden
	case l.proves(r, l.s.addrs.entries[r.entry].prefix, port):
		return effective
	}
	return unsure
}

// hides reports whether some earlier rule alone matches all that r matches. A
// deny rule for IPv4 also matches the addresses that embed the range.
func (l *outlooker) hides(r *addrRule, port uint16) bool {
	x, steps := &l.s.addrs, l.s.steps
	if x.matching(steps, r.entry, port) >= r.rule {
		return false
	}
	p := x.entries[r.entry].prefix
	if !r.deny || p.Addr().Is6() || x.denying(steps, r.entry, port) < r.rule {
		return true
	}
	return l.rest(true, port) < r.rule // ISATAP embeds it everywhere
}

// proves reports whether one of a few addresses shows that r has an effect.
func (l *outlooker) proves(r *addrRule, p netip.Prefix, port uint16) bool {
	if l.provesIn(r, p, port) {
		return true
	}
	if r.deny && p.Addr().Is4() {
		for i := range embeddings[:embedFree] {
			if l.provesIn(r, embeddings[i].image(p), port) {
				return true
			}
		}
	}
	return false
}

func (l *outlooker) provesIn(r *addrRule, p netip.Prefix, port uint16) bool {
	for _, a := range [...]netip.Addr{middle(p), p.Addr(), last(p)} {
		if rule, guarded := l.probe(a, port); rule == r.rule && (r.deny || !guarded) {
			return true
		}
	}
	return false
}

// probe decides about one address by the address rules and the guard alone.
func (l *outlooker) probe(a netip.Addr, port uint16) (ruleNo, bool) {
	l.left--
	if a.Is4In6() {
		return none, true // no such address gets here
	}
	return l.s.addrs.earliest(l.s.steps, a, port), l.p.guarded(a, port) != GuardNone
}

// somewhere are addresses that few lists mention, and no guard.
var somewhere = [...]netip.Addr{
	netip.MustParseAddr("8.0.0.0"), netip.MustParseAddr("203.1.0.0"), netip.MustParseAddr("45.67.89.0"),
	netip.MustParseAddr("4000::"), netip.MustParseAddr("2a0f:ffff::"), netip.MustParseAddr("2600::"),
}

// survey finds full and guards of segment i, if that is cheap.
func (l *outlooker) survey(i int) {
	o, port := &l.outs[i], l.s.segments[i]
	if l.p.mode != GuardOff {
		o.guards = l.someGuarded(port)
		l.hard[i] = l.hard[i] || !o.guards
	}
	v4, v6 := l.rest(false, port), l.rest(true, port)
	o.full = max(v4, v6)
	best := ruleNo(0)
	for _, a := range somewhere {
		rule, guarded := l.probe(a, port)
		if guarded {
			continue
		}
		if rule == none {
			o.full = none
			return
		}
		best = max(best, rule)
	}
	l.hard[i] = l.hard[i] || o.full != best
}

// rest returns the earliest rule for a whole address family, or none.
func (l *outlooker) rest(six bool, port uint16) ruleNo {
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if six {
		everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	n, _ := l.s.addrs.table.Get(everything)
	return l.s.addrs.matching(l.s.steps, n, port)
}

// someGuarded reports whether one of the ends of a guarded range is guarded.
func (l *outlooker) someGuarded(port uint16) bool {
	for p := range l.p.guardedPrefixes() {
		if _, guarded := l.probe(p.Addr(), port); guarded {
			return true
		}
		if _, guarded := l.probe(last(p), port); guarded {
			return true
		}
	}
	return false
}
