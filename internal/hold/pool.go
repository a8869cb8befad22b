package hold

import (
	"hash/fnv"
	"slices"
)

// Every is the group of an event that concerns all of them.
const Every = -1

// GroupAction is an Action, and the group that it is for.
type GroupAction struct {
	Group  int
	Action Action
}

// Pool is one replica and all groups of addresses, of which it takes one that is free.
// Active/standby is a pool of one group. It is a value, as State is; make it with NewPool.
//
// Source: failover.md, "Who does what".
type Pool struct {
	groups []State // not changed once they are there
}

// NewPool is the pool of a process that has just started, and what it does first.
func NewPool(self Identity, groups int, set Settings) (Pool, []GroupAction) {
	p := Pool{make([]State, groups)}
	var all []GroupAction
	for i := range p.groups {
		s, actions := New(self, set)
		p.groups[i] = s
		all = appendActions(all, i, actions)
	}
	return p, all
}

// Step is Step for one group, or Every, and lets the replica go for at most one group. Events
// of one group are Seen, the answers, and Heard; Permit is the pool's own.
func (p Pool) Step(group int, e Event) (Pool, []GroupAction) {
	next := Pool{slices.Clone(p.groups)}
	var all []GroupAction
	step := func(i int, e Event) {
		s, actions := Step(next.groups[i], e)
		next.groups[i] = s
		all = appendActions(all, i, actions)
	}
	for i := range next.groups {
		if group == Every || group == i {
			step(i, e)
		}
	}
	chosen := next.choose()
	for i := range next.groups { // others lose the permission before one gets it
		if next.groups[i].permitted && i != chosen {
			step(i, Event{e.At, Permit{}})
		}
	}
	if chosen >= 0 && !next.groups[chosen].permitted {
		step(chosen, Event{e.At, Permit{OK: true}})
	}
	return next, all
}

// Group is what the pool knows of one group.
func (p Pool) Group(i int) State { return p.groups[i] }

// Ended reports whether nothing is left to do in any group: Done was said in each.
func (p Pool) Ended() bool {
	return !slices.ContainsFunc(p.groups, func(s State) bool { return s.mode != done })
}

// choose is the group that the replica may take: the one it is busy with; else one that is
// free; else one whose holder wants a successor; else none. Where several will do, replicas
// begin at different ones, by their pod.
func (p Pool) choose() int {
	if i := slices.IndexFunc(p.groups, State.engaged); i >= 0 {
		return i
	}
	h := fnv.New32a()
	h.Write([]byte(p.groups[0].self.Pod))
	first := int(h.Sum32() % uint32(len(p.groups)))
	for _, may := range []func(State) bool{State.ready, State.wanted} {
		for i := range p.groups {
			if g := (first + i) % len(p.groups); p.groups[g].mode == standby && may(p.groups[g]) {
				return g
			}
		}
	}
	return -1
}

func appendActions(all []GroupAction, group int, actions []Action) []GroupAction {
	for _, a := range actions {
		all = append(all, GroupAction{group, a})
	}
	return all
}
