package audit

import (
	"cmp"
	"slices"
	"sort"
)

// A staircase answers: is there a class whose old rule is at or behind i, and whose new one is at
// or behind j? Turned round, a side asks for "at or in front of", of numbers with the other sign.
type staircase struct {
	classes []class // of all
	olds    []int32 // of those that are kept, the latest first
	best    []int32 // which of these and those in front has the latest new rule: an index in classes
	turn    int32   // -1 when the new rules are turned round
}

// at returns one such class, or nil.
func (s *staircase) at(i, j int32) *class {
	n := sort.Search(len(s.olds), func(k int) bool { return s.olds[k] < i }) // how many are at or behind i
	if n == 0 {
		return nil
	}
	if c := &s.classes[s.best[n-1]]; c.now*s.turn >= j {
		return c
	}
	return nil
}

// A stair is classes in the order of their old rules, of which staircases are made.
type stair struct {
	classes []class
	order   []int32
}

func newStair(cs []class) stair {
	keys := make([]uint64, len(cs))
	for i := range cs {
		keys[i] = uint64(cs[i].old)<<32 | uint64(i)
	}
	slices.Sort(keys)
	s := stair{classes: cs, order: make([]int32, len(cs))}
	for i, k := range keys {
		s.order[i] = int32(uint32(k))
	}
	return s
}

// keep makes the staircase of those that are kept; old and now are -1 for a side that is turned round. Of
// classes with the same rules the first one is the answer.
func (s stair) keep(old, now int32, keep func(*class) bool) staircase {
	out := staircase{classes: s.classes, turn: now}
	add := func(k int32) {
		c := &s.classes[k]
		if !keep(c) {
			return
		}
		if n := len(out.best); n > 0 && s.classes[out.best[n-1]].now*now >= c.now*now {
			k = out.best[n-1]
		}
		out.olds, out.best = append(out.olds, c.old*old), append(out.best, k)
	}
	if old < 0 {
		for _, k := range s.order {
			add(k)
		}
		return out
	}
	for end := len(s.order); end > 0; { // the latest first, and those of one rule in their order
		start := end - 1
		for start > 0 && s.classes[s.order[start-1]].old == s.classes[s.order[start]].old {
			start--
		}
		for _, k := range s.order[start:end] {
			add(k)
		}
		end = start
	}
	return out
}

// addrSet is classes of addresses, prepared for what is asked of them.
type addrSet struct {
	all []class
	// of those that the guard of one leaves alone
	oldFree, nowFree staircase
}

func newAddrSet(cs []class) *addrSet {
	s := newStair(cs)
	return &addrSet{
		all:     cs,
		oldFree: s.keep(1, 1, func(c *class) bool { return !c.oldG }),
		nowFree: s.keep(1, 1, func(c *class) bool { return !c.nowG }),
	}
}

// nameSet is the same of names.
type nameSet struct {
	all  []class
	both staircase
	// For what the address decides in one list: the names that the other one allows, or denies,
	// with the old or the new rule turned round.
	oldAllow, oldDeny, nowAllow, nowDeny staircase
	// For where the guard alone makes the difference: the names that both allow, turned round.
	allow staircase
}

func (p *pair) newNameSet(cs []class) *nameSet {
	s := newStair(cs)
	return &nameSet{
		all:      cs,
		both:     s.keep(1, 1, func(*class) bool { return true }),
		oldAllow: s.keep(-1, 1, func(c *class) bool { return p.old.yes(c.old) }),
		oldDeny:  s.keep(-1, 1, func(c *class) bool { return p.old.no(c.old) }),
		nowAllow: s.keep(1, -1, func(c *class) bool { return p.now.yes(c.now) }),
		nowDeny:  s.keep(1, -1, func(c *class) bool { return p.now.no(c.now) }),
		allow:    s.keep(-1, -1, func(c *class) bool { return p.old.yes(c.old) && p.now.yes(c.now) }),
	}
}

// cross finds what differs between names and addresses, on ports from..to.
func (p *pair) cross(ns *nameSet, as *addrSet, emit func(n, a *class) bool) {
	if len(ns.all) == 0 || len(as.all) == 0 {
		return
	}
	for i := range ns.all { // by name in both
		n := &ns.all[i]
		was, is := p.old.yes(n.old), p.now.yes(n.now)
		for _, s := range [...]struct {
			want  bool
			where *staircase
		}{{was && p.now.no(n.now), &as.oldFree}, {p.old.no(n.old) && is, &as.nowFree}} {
			if !s.want {
				continue
			}
			if a := s.where.at(n.old, n.now); a != nil && !emit(n, a) {
				return
			}
		}
	}
	for i := range as.all {
		if a := &as.all[i]; !p.crossAddr(ns, a, emit) {
			return
		}
	}
}

// crossAddr finds what a's rules decide in one list, or in both. It reports whether emit wants more.
func (p *pair) crossAddr(ns *nameSet, a *class, emit func(n, a *class) bool) bool {
	was, is := p.old.yes(a.old) && !a.oldG, p.now.yes(a.now) && !a.nowG
	wasNot, isNot := a.oldG || p.old.no(a.old), a.nowG || p.now.no(a.now)
	try := func(n *class) bool { return n == nil || emit(n, a) }
	if a.oldG != a.nowG && !try(ns.allow.at(-a.old, -a.now)) { // both by name, and the guard
		return false
	}
	if (was && isNot || wasNot && is) && a.old < none && a.now < none {
		if !try(ns.both.at(a.old+1, a.now+1)) {
			return false
		}
	}
	if a.now < none { // the new list decides by the address, the old one by the name
		var n *class
		switch {
		case isNot && !a.oldG:
			n = ns.oldAllow.at(-a.old, a.now+1)
		case is && !a.oldG:
			n = ns.oldDeny.at(-a.old, a.now+1)
		case is: // whatever the name, the guard denied it
			if n = ns.oldAllow.at(-a.old, a.now+1); n == nil {
				n = ns.oldDeny.at(-a.old, a.now+1)
			}
		}
		if !try(n) {
			return false
		}
	}
	if a.old < none {
		var n *class
		switch {
		case wasNot && !a.nowG:
			n = ns.nowAllow.at(a.old+1, -a.now)
		case was && !a.nowG:
			n = ns.nowDeny.at(a.old+1, -a.now)
		case was:
			if n = ns.nowAllow.at(a.old+1, -a.now); n == nil {
				n = ns.nowDeny.at(a.old+1, -a.now)
			}
		}
		if !try(n) {
			return false
		}
	}
	return true
}

// crossAll finds all that differs.
func (p *pair) crossAll(emit func(n, a *class, from, to int32) bool) {
	wide := func(c class) bool { return c.everyPort() }
	narrow := func(c class) bool { return !c.everyPort() }
	on := func(from, to int32) func(n, a *class) bool {
		return func(n, a *class) bool { return emit(n, a, from, to) }
	}
	names, addrs := p.newNameSet(filter(p.names, wide)), newAddrSet(filter(p.addrs, wide))
	p.cross(names, addrs, on(1, 65535))
	someNames, someAddrs := filter(p.names, narrow), filter(p.addrs, narrow)
	var cuts []int32
	for _, cs := range [][]class{someNames, someAddrs} {
		for i := range cs {
			cuts = append(cuts, cs[i].from, cs[i].to+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	byFrom := func(cs []class) {
		slices.SortStableFunc(cs, func(a, b class) int { return cmp.Compare(a.from, b.from) })
	}
	byFrom(someNames)
	byFrom(someAddrs)
	var hereNames, hereAddrs []class
	for i := 0; i+1 < len(cuts); i++ {
		from, to := cuts[i], cuts[i+1]-1
		here := func(have []class, rest *[]class) []class {
			have = slices.DeleteFunc(have, func(c class) bool { return c.to < from })
			for len(*rest) > 0 && (*rest)[0].from <= from {
				have, *rest = append(have, (*rest)[0]), (*rest)[1:]
			}
			return have
		}
		hereNames, hereAddrs = here(hereNames, &someNames), here(hereAddrs, &someAddrs)
		if p.budget.spent("ports: each range is looked at by itself") {
			return
		}
		someN, someA := p.newNameSet(slices.Clone(hereNames)), newAddrSet(slices.Clone(hereAddrs))
		p.cross(someN, addrs, on(from, to))
		p.cross(someN, someA, on(from, to))
		p.cross(names, someA, on(from, to))
	}
}

func filter(cs []class, keep func(class) bool) (out []class) {
	for _, c := range cs {
		if keep(c) {
			out = append(out, c)
		}
	}
	return out
}
