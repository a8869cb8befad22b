package audit

import (
	"cmp"
	"slices"
)

// A staircase answers: is there a class whose old rule is at or behind i, and whose new one is at
// or behind j?
type staircase struct {
	classes []class // the latest old rule first
	best    []int32 // the class with the latest new rule so far
}

func newStaircase(cs []class, keep func(*class) bool) (s staircase) {
	for i := range cs {
		if keep(&cs[i]) {
			s.classes = append(s.classes, cs[i])
		}
	}
	slices.SortStableFunc(s.classes, func(a, b class) int { return cmp.Compare(b.old, a.old) })
	s.best = make([]int32, len(s.classes))
	for i := range s.classes {
		if s.best[i] = int32(i); i > 0 && s.classes[s.best[i-1]].now >= s.classes[i].now {
			s.best[i] = s.best[i-1]
		}
	}
	return s
}

// at returns one such class, or nil.
func (s *staircase) at(i, j int32) *class {
	n, _ := slices.BinarySearchFunc(s.classes, i, func(c class, i int32) int {
		if c.old >= i {
			return -1
		}
		return 1
	}) // how many are at or behind i
	if n == 0 {
		return nil
	}
	if c := &s.classes[s.best[n-1]]; c.now >= j {
		return c
	}
	return nil
}

// addrSet is classes of addresses, prepared for what is asked of them.
type addrSet struct {
	all []class
	// of those that the guards of both leave alone or not
	oldFree, nowFree, closed, opened staircase
}

func newAddrSet(cs []class) *addrSet {
	return &addrSet{
		all:     cs,
		oldFree: newStaircase(cs, func(c *class) bool { return !c.oldG }),
		nowFree: newStaircase(cs, func(c *class) bool { return !c.nowG }),
		closed:  newStaircase(cs, func(c *class) bool { return !c.oldG && c.nowG }),
		opened:  newStaircase(cs, func(c *class) bool { return c.oldG && !c.nowG }),
	}
}

// nameSet is the same of names.
type nameSet struct {
	all  []class
	both staircase
	// For what the address decides in one list: the names that the other one allows, or denies,
	// with the old or the new rule turned round, so that "at or behind" means "at or in front of".
	oldAllow, oldDeny, nowAllow, nowDeny staircase
}

func (p *pair) newNameSet(cs []class) *nameSet {
	s := &nameSet{all: cs, both: newStaircase(cs, func(*class) bool { return true })}
	turned := func(old, now int32, keep func(*class) bool) staircase {
		out := slices.Clone(cs)
		out = slices.DeleteFunc(out, func(c class) bool { return !keep(&c) })
		for i := range out {
			out[i].old *= old
			out[i].now *= now
		}
		return newStaircase(out, func(*class) bool { return true })
	}
	s.oldAllow = turned(-1, 1, func(c *class) bool { return p.old.yes(c.old) })
	s.oldDeny = turned(-1, 1, func(c *class) bool { return p.old.no(c.old) })
	s.nowAllow = turned(1, -1, func(c *class) bool { return p.now.yes(c.now) })
	s.nowDeny = turned(1, -1, func(c *class) bool { return p.now.no(c.now) })
	return s
}

// straight is a class of a turned staircase, as it was.
func straight(c *class) *class {
	if c == nil {
		return nil
	}
	out := *c
	out.old, out.now = max(out.old, -out.old), max(out.now, -out.now)
	return &out
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
		}{{was && p.now.no(n.now), &as.oldFree}, {p.old.no(n.old) && is, &as.nowFree}, {was && is, &as.closed}, {was && is, &as.opened}} {
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
		if !try(straight(n)) {
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
		if !try(straight(n)) {
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
