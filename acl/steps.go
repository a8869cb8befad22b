package acl

import "slices"

// A ruleNo is the place of a rule among the rules, from 0.
type ruleNo uint32

// none is "no rule" wherever the earliest of several rules is sought: every
// rule is earlier.
const none = ^ruleNo(0)

// A cell answers, for one key (a name, a domain, a prefix, a glob): which is the
// earliest rule for this port? Most keys have one rule without a port set, and
// their cell is that rule's ruleNo plus 1; 0 is no rule. The others are the index, with
// cellSteps set, of a step function in a stepTable. While a policy is built, it
// is the index of a list of pending rules instead.
type cell uint32

const cellSteps cell = 1 << 31

// A step says that from this port on, up to the next step, rule is the
// earliest (or none).
type step struct {
	from uint16
	rule ruleNo
}

// A stepTable holds step functions one behind the other, each led by a step
// whose rule is the number of steps that follow.
type stepTable []step

// at returns the earliest rule of c for port, or none.
func (t stepTable) at(c cell, port uint16) ruleNo {
	if c < cellSteps {
		return ruleNo(c) - 1 // unsigned: no rule, 0, becomes none
	}
	return t.find(c, port)
}

func (t stepTable) find(c cell, port uint16) ruleNo {
	i := uint32(c &^ cellSteps)
	return findStep(t[i+1:i+1+uint32(t[i].rule)], port)
}

func findStep(s []step, port uint16) ruleNo {
	lo, hi := 0, len(s)
	for lo < hi {
		if mid := (lo + hi) / 2; s[mid].from <= port {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return none
	}
	return s[lo-1].rule
}

// first returns the earliest rule of c for any port, or none.
func (t stepTable) first(c cell) ruleNo {
	if c < cellSteps {
		return ruleNo(c) - 1
	}
	i := uint32(c &^ cellSteps)
	best := none
	for _, s := range t[i+1 : i+1+uint32(t[i].rule)] {
		best = min(best, s.rule)
	}
	return best
}

// A pending rule waits, while a policy is built, to become steps. prev is the
// index of the one in front of it in the same cell plus 1.
type pending struct {
	portRange
	rule ruleNo
	prev uint32
}

// A stepBuilder collects the rules of cells and turns them into steps.
type stepBuilder struct {
	steps   stepTable
	pending []pending
	// scratch of paint
	items []pending
	cuts  []int
	next  []int32
	owner []ruleNo
}

// add adds a rule, later than all the others in c. It reports false when
// nothing is left for the rule to decide, and c is as it was.
func (b *stepBuilder) add(c *cell, rule ruleNo, ports []portRange) bool {
	switch {
	case *c == 0 && ports == nil:
		*c = cell(rule) + 1
		return true
	case *c != 0 && *c < cellSteps:
		return false
	}
	if ports == nil {
		ports = anyPort
	}
	prev := uint32(*c &^ cellSteps)
	for _, r := range ports {
		b.pending = append(b.pending, pending{r, rule, prev})
		prev = uint32(len(b.pending))
	}
	*c = cell(prev) | cellSteps
	return true
}

// list appends the pending rules of c to items, in the order of the rules.
func (b *stepBuilder) list(items []pending, c cell) []pending {
	if c == 0 {
		return items
	}
	if c < cellSteps {
		return append(items, pending{portRange: anyPort[0], rule: ruleNo(c) - 1})
	}
	start := len(items)
	for i := uint32(c &^ cellSteps); i != 0; i = b.pending[i-1].prev {
		items = append(items, b.pending[i-1])
	}
	slices.Reverse(items[start:])
	return items
}

// finish turns the pending rules of c into steps.
func (b *stepBuilder) finish(c *cell) {
	if *c < cellSteps {
		return
	}
	b.items = b.list(b.items[:0], *c)
	at := len(b.steps)
	b.steps = append(b.steps, step{})
	b.steps = b.paint(b.steps, b.items)
	b.steps[at].rule = ruleNo(len(b.steps) - at - 1)
	*c = cell(at) | cellSteps
}

// idle calls dead for every rule among the pending ones of the given cells that
// gets no port because the others, all of one form, are in front of it.
func (b *stepBuilder) idle(dead func(rule, by ruleNo), cells ...cell) {
	b.items = b.items[:0]
	for _, c := range cells {
		b.items = b.list(b.items, c)
	}
	items := b.items
	slices.SortStableFunc(items, func(x, y pending) int { return int(x.rule) - int(y.rule) })
	steps := b.paint(nil, items)
	busy := make(map[ruleNo]struct{}, len(steps))
	for _, s := range steps {
		busy[s.rule] = struct{}{}
	}
	last := none
	for _, it := range items {
		if _, ok := busy[it.rule]; !ok && it.rule != last {
			dead(it.rule, findStep(steps, it.from))
			last = it.rule
		}
	}
}

// paint appends the step function of items, which are in the order of the
// rules: each port goes to the first that wants it. Ports taken are skipped
// by links, so that the cost hardly depends on how the ranges overlap. The last
// cut starts behind every range and is never taken.
func (b *stepBuilder) paint(out []step, items []pending) []step {
	cuts := b.cuts[:0]
	for _, it := range items {
		cuts = append(cuts, int(it.from), int(it.to)+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	b.cuts = cuts
	b.next = slices.Grow(b.next[:0], len(cuts))[:len(cuts)]
	b.owner = slices.Grow(b.owner[:0], len(cuts))[:len(cuts)]
	for i := range b.next {
		b.next[i], b.owner[i] = int32(i), none
	}
	for _, it := range items {
		i, _ := slices.BinarySearch(cuts, int(it.from))
		for i = free(b.next, i); cuts[i] <= int(it.to); i = free(b.next, i) {
			b.owner[i], b.next[i] = it.rule, int32(i)+1
		}
	}
	last := none
	for i, c := range cuts {
		if b.owner[i] != last && c <= 65535 {
			out = append(out, step{uint16(c), b.owner[i]})
			last = b.owner[i]
		}
	}
	return out
}

// free returns the first index from i on that links to itself, and shortens the
// way for the next time.
func free(next []int32, i int) int {
	for int(next[i]) != i {
		next[i] = next[next[i]]
		i = int(next[i])
	}
	return i
}
