package audit

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/sluiceproxy/sluice/acl"
)

// A scope is the targets that match some rule of a few: a target on which two lists differ matches a
// rule that only one of them has, or that has another place among those of both. The nil scope is all.
type scope struct {
	above  map[string][]string // names that lead to what is meant, with the labels that do
	names  map[string]bool     // that are meant themselves
	below  map[string]bool     // with all below
	addrs  bart.Table[bool]
	prefix int
}

func (s *scope) byName() bool { return len(s.names)+len(s.below) > 0 }
func (s *scope) byAddr() bool { return s.prefix > 0 }

// add adds the targets of a rule, and reports whether they are not all.
func (s *scope) add(r *acl.Rule) bool {
	name := r.Name
	switch r.Form {
	case acl.FormAddr:
		s.addrs.Insert(r.Prefix, true)
		s.prefix++
		return true
	case acl.FormName:
		s.names[name] = true
	case acl.FormDomain:
		s.below[name] = true
	case acl.FormGlob:
		if name = newGlob(name, 0).suffix(); name == "" {
			return false
		}
		s.below[name] = true
	default:
		return false
	}
	for rest := name; ; {
		_, up, ok := strings.Cut(rest, ".")
		if !ok {
			if !slices.Contains(s.above[""], rest) {
				s.above[""] = append(s.above[""], rest)
			}
			return true
		}
		if label := rest[:len(rest)-len(up)-1]; !slices.Contains(s.above[up], label) {
			s.above[up] = append(s.above[up], label)
		}
		rest = up
	}
}

func emptyScope() *scope {
	return &scope{above: map[string][]string{}, names: map[string]bool{}, below: map[string]bool{}}
}

// leads reports whether a name, or one below it, may be meant.
func (s *scope) leads(name string) bool {
	return s == nil || s.above[name] != nil || s.names[name] || s.within(name)
}

// holds reports whether a name may be meant.
func (s *scope) holds(name string) bool { return s == nil || s.names[name] || s.within(name) }

func (s *scope) within(name string) bool {
	if len(s.below) == 0 {
		return false
	}
	for rest := name; ; {
		if s.below[rest] {
			return true
		}
		_, up, ok := strings.Cut(rest, ".")
		if !ok {
			return false
		}
		rest = up
	}
}

// addr reports whether an address, or one that it embeds, is meant.
func (s *scope) addr(a netip.Addr) bool {
	return s.addrs.Contains(a) || slices.ContainsFunc(acl.Embedded(a), s.addrs.Contains)
}

// maxEdits is up to how many rules that only one list has it is worth to look at these alone.
const maxEdits = 2000

// newScope returns the scope of what two lists do not have in common; narrow is false when that is
// no help. With protocols it is the scope of what they want of tunnels, too.
func newScope(old, now *list, protocols bool) (s *scope, narrow bool) {
	if !old.p.SameGuard(now.p) {
		return nil, false
	}
	same := func(r, q *acl.Rule) bool {
		if r.Expired || q.Expired {
			return r.Expired == q.Expired // it decides nothing
		}
		return sameRule(r, q) && (!protocols || r.Protocol == q.Protocol)
	}
	edits, ok := edited(old.rules, now.rules, same)
	if !ok {
		return nil, false
	}
	s = emptyScope()
	for _, r := range edits {
		if !r.Expired && !s.add(r) {
			return nil, false
		}
	}
	return s, true
}

// sameRule reports whether two rules have the same canonical spelling.
func sameRule(r, q *acl.Rule) bool {
	return r.Deny == q.Deny && r.Form == q.Form && r.Name == q.Name && r.Prefix == q.Prefix && slices.Equal(r.Ports, q.Ports)
}

// edited returns the rules that a script which turns one list into the other removes or adds; ok is
// false when they are many.
func edited(a, b []acl.Rule, same func(r, q *acl.Rule) bool) (edits []*acl.Rule, ok bool) {
	for len(a) > 0 && len(b) > 0 && same(&a[0], &b[0]) {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && same(&a[len(a)-1], &b[len(b)-1]) {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	// Myers' greedy algorithm, forward, with the way kept.
	all := len(a) + len(b)
	limit := min(all, maxEdits, all/8+16)
	v := make([]int, 2*limit+3)
	var way [][]int
	for d := 0; d <= limit; d++ {
		way = append(way, slices.Clone(v[limit+1-min(d, limit):limit+2+min(d, limit)]))
		for k := -d; k <= d; k += 2 {
			x := 0
			if k == -d || k != d && v[limit+1+k-1] < v[limit+1+k+1] {
				x = v[limit+1+k+1]
			} else {
				x = v[limit+1+k-1] + 1
			}
			for x < len(a) && x-k < len(b) && same(&a[x], &b[x-k]) {
				x++
			}
			if v[limit+1+k] = x; x >= len(a) && x-k >= len(b) {
				return backtrack(way, a, b, d), true
			}
		}
	}
	return nil, false
}

// backtrack walks back from the end; way[d] is what was known in front of step d.
func backtrack(way [][]int, old, now []acl.Rule, d int) (edits []*acl.Rule) {
	x, y := len(old), len(now)
	for ; d > 0; d-- {
		v, mid := way[d], len(way[d])/2
		get := func(k int) int {
			if i := mid + k; i >= 0 && i < len(v) {
				return v[i]
			}
			return -1
		}
		k := x - y
		up := k == -d || k != d && get(k-1) < get(k+1)
		if up {
			x = get(k + 1)
			y = x - (k + 1)
			edits = append(edits, &now[y])
		} else {
			x = get(k - 1)
			y = x - (k - 1)
			edits = append(edits, &old[x])
		}
	}
	return edits
}
