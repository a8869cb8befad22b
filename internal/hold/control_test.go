package hold

import (
	"testing"
	"time"
)

const tick = 10 * time.Millisecond

// short are settings for worlds of which a tick is 10 ms: P a tick, V two, L four.
var short = Settings{
	Pending: tick, Held: 2 * tick, Lease: 35 * time.Millisecond, Renew: tick / 2,
	GatewayMisses: 1, Retry: tick, ProxyGone: tick, SuccessorWait: 2 * tick, DrainTimeout: tick,
}

// shortest are settings with V a tick, L three.
var shortest = Settings{
	Pending: tick, Held: tick, Lease: 23 * time.Millisecond, Renew: tick / 2,
	GatewayMisses: 1, Retry: tick, ProxyGone: tick, SuccessorWait: tick, DrainTimeout: tick,
}

func alike(n int, s Settings, faults int, kinds faultKind) *rules {
	return &rules{replicas: n, set: [3]Settings{s, s, s}, rate: [3]int{10, 10, 10}, faults: faults, kinds: kinds, coarse: true, alike: true, blind: true}
}

// apart has the clock of A slow and those of the others fast by 10 %, and times so fine that it
// counts: P and V are 11 ticks of A together, L is 1.15 times that.
func apart(replicas int) *rules {
	s := shortest
	s.Pending, s.Held, s.Lease = 2*tick, 9*tick, 127*time.Millisecond
	r := alike(replicas, s, 0, 0)
	r.rate = [3]int{10, 11, 11}
	return r
}

// unannounced drops what the Lease says about P + V.
func unannounced(s *State, h Happening) Happening {
	s.previous, s.lease.Bound = 0, 0
	if e, ok := h.(Seen); ok {
		e.Lease.Bound = 0
		return e
	}
	return h
}

// freed takes any empty holder for one that has given the Lease up.
func freed(_ *State, h Happening) Happening {
	if e, ok := h.(Seen); ok && e.Lease.Holder == "" && !e.Lease.Missing {
		e.Lease.Nonce = Nonce{1, 1}
		e.Lease.Mark = mark(e.Lease.UID, e.Lease.Nonce)
		return e
	}
	return h
}

// hasty takes the first sight of a Lease for one of long ago.
func hasty(s *State, h Happening) Happening {
	if e, ok := h.(Seen); ok && !s.known && !e.Lease.Missing {
		s.known, s.lease, s.changed = true, e.Lease, -time.Hour
	}
	return h
}

// Each of these breaks one rule, and the exploration must find that two hold: one that finds
// nothing proves nothing.
//
// Source: failover.md, "Shown, not said", 3.
func TestExhaustiveControls(t *testing.T) {
	flawed := func(faults int, kinds faultKind, f flaws) *rules {
		r := alike(2, shortest, faults, kinds)
		r.flaws = f
		return r
	}
	brief := flawed(0, 0, flaws{mend: unannounced})
	brief.set[0].Lease, brief.set[1].Lease = tick, tick
	noMargin := apart(2)
	noMargin.set[0].Lease, noMargin.set[1].Lease = 11*tick, 11*tick
	noMargin.flaws.mend = unannounced
	differ := alike(2, shortest, 0, 0)
	differ.set[0], differ.flaws.mend = short, unannounced
	held := func(r *rules) *rules { r.holding = true; return r }
	first := flawed(0, 0, flaws{mend: hasty})
	first.fresh = true
	kept := flawed(2, timeout, flaws{})
	for i := range kept.set {
		kept.set[i] = short
		kept.set[i].Keep, kept.set[i].Grace = true, time.Hour
	}
	tests := []struct {
		name  string
		rules *rules
	}{
		{"a bare add in place of the commit", flawed(0, 0, flaws{bareAdd: true})},
		{"pending without a nonce", held(flawed(1, timeout, flaws{anyNonce: true}))},
		{"L less than P + V", brief},
		{"the Lease given up before the address is removed", held(flawed(1, sigterm, flaws{earlyLetGone: true}))},
		{"identity by the name of the pod", flawed(0, 0, flaws{sameName: true})},
		{"the update sent before the prepare is done", flawed(0, 0, flaws{earlyPrepare: true})},
		{"an update without resourceVersion", flawed(0, 0, flaws{anyVersion: true})},
		{"the first sight of a Lease starts no wait", first},
		{"a deleted Lease starts no wait", held(flawed(1, deleted, flaws{mend: freed}))},
		{"an empty holder taken as released", held(flawed(1, stranger, flaws{mend: freed}))},
		{"a missing Lease taken by the one who creates it", held(flawed(2, deleted, flaws{createTakes: true}))},
		{"settings that differ, unannounced", held(differ)},
		{"clocks apart by 10 %, L no longer than P + V", noMargin},
		{"keep, with the network between the two cut", held(kept)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { explore(tt.rules, limits{states: 3_000_000}).overlap(t) })
	}
}

// What doc.go says that it cannot know: somebody holds whose P + V is longer than the own L, and
// the Lease that said so was deleted or overwritten before it was seen.
func TestExhaustiveLimit(t *testing.T) {
	for _, kinds := range []faultKind{deleted | restart, stranger} {
		r := differing(2, kinds)
		r.holding = kinds&deleted != 0
		explore(r, limits{states: 3_000_000}).overlap(t)
	}
}
