package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sluiceproxy/sluice/metrics"
)

// standing is what this replica is to a source address.
type standing string

const (
	heldHere   standing = "held"
	heldBehind standing = "held, and fenced: it is not known for now that nobody else has it"
	heldNot    standing = "not held: this replica has other addresses"
	standingBy standing = "standby: this replica waits for its turn"
	unheard    standing = "not held: whose turn it is has not been said yet"
)

func (s standing) String() string { return string(s) }

// each says what this replica is to each of sources; of none, to each that it holds.
func (t *turn) each(sources []netip.Addr, yield func(netip.Addr, standing)) {
	t.mu.Lock()
	held, fenced, heard := t.held, t.fenced, t.heard
	t.mu.Unlock()
	if len(sources) == 0 {
		sources = held
	}
	for _, a := range sources {
		switch {
		case slices.Contains(held, a) && fenced:
			yield(a, heldBehind)
		case slices.Contains(held, a):
			yield(a, heldHere)
		case len(held) > 0:
			yield(a, heldNot)
		case !heard:
			yield(a, unheard)
		default:
			yield(a, standingBy)
		}
	}
}

// standsBy reports whether it is another replica's turn, or nobody's. There is no turn without a
// holder.
func (t *turn) standsBy() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held) == 0
}

// waits is what a replica is that holds nothing.
func (t *turn) waits() standing {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.heard {
		return unheard
	}
	return standingBy
}

// linkText says whether sluice-kube hold is there, where, and what to look at if it is not; "" if it is, and all is known.
func (t *turn) linkText() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.link != nil && t.heard:
		return ""
	case t.link != nil:
		return fmt.Sprintf("sluice-kube hold at %s: reached, and it has said nothing yet", t.socket)
	}
	known, mend := "what it has said last holds", "see its log"
	if !t.heard {
		known = "it has said nothing yet, and no source address is used"
		mend = "does it run in this pod, with this path as its --socket? Else see its log"
	}
	return fmt.Sprintf("sluice-kube hold at %s: not reached (%v): %s; %s", t.socket, t.away, known, mend)
}

// showTurn has the admin port tell what is held.
func (d *daemon[C]) showTurn() {
	each := func(yield func(netip.Addr, standing)) { d.turn.each(d.allSources(), yield) }
	metrics.NewSources(d.registry, func(yield func(source string, held bool)) {
		each(func(a netip.Addr, s standing) { yield(a.String(), s == heldHere) })
	})
	d.console.detail(func() (lines []string) {
		each(func(a netip.Addr, s standing) { lines = append(lines, fmt.Sprintf("source %s: %s", a, s)) })
		if len(lines) == 0 {
			lines = append(lines, "no source is held: "+d.turn.waits().String())
		}
		if text := d.turn.linkText(); text != "" {
			lines = append(lines, text)
		}
		return lines
	})
}

// allSources are those of the gateway and of its tenants; none: any that is held.
func (d *daemon[C]) allSources() (all []netip.Addr) {
	c := d.inForce()
	all = append(all, c.Sources...)
	for _, t := range c.Tenants {
		all = append(all, t.Sources...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}
