package door

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// When places run short, somebody gives way: first who has not said yet what it wants, then
// who is idle between requests; and among those first the client that has most connections,
// its oldest first. So whoever opens all places and says nothing holds up nobody but itself.

// Room is what a member would give way as.
type Room uint8

const (
	InUse    Room = iota // it does not
	Headless             // it has not said whole yet what it wants
	Idle                 // between two requests
)

// shedAtOnce is how many are chosen in one look at all.
const shedAtOnce = 64

// queueLasts is for how long those are the ones to give way: others may have come since that
// should before them.
const queueLasts = 250 * time.Millisecond

// waitersMost bounds the newcomers that wait at once for a place that is being given up.
const waitersMost = 64

// grace is how long a client that has no more connections than the newcomer keeps a place
// without saying what it wants: else those who come would drive each other out. So long a
// newcomer waits, too.
const grace = time.Second

// candidate is a member that may give way, while it is of that client.
type candidate struct {
	m      Member
	of     Lease
	client netip.Addr
	most   int // connections that the client has
	age    time.Duration
}

// EnterOrShed is Enter that has a member give way where places run short. await says that one
// is about to: Await lets m in then.
func (d *Door) EnterOrShed(m Member, l Limits) (why Refusal, await bool) {
	why = d.Enter(m, l)
	if why != Full && why != NoDescriptors || d.Draining() {
		return why, false
	}
	if l.ConnsPerClient > 0 && d.count(m.Client()) >= l.ConnsPerClient {
		return TooMany, false // nobody gives way for that
	}
	given, atOnce := d.makeRoom(m.Client())
	if atOnce {
		return d.Enter(m, l), false
	}
	return why, given
}

// makeRoom has one member give way for a newcomer: at once, or so that Await finds a place.
func (d *Door) makeRoom(newcomer netip.Addr) (given, atOnce bool) {
	d.shedMu.Lock()
	defer d.shedMu.Unlock()
	if time.Since(d.queued) > queueLasts {
		d.queue = nil
	}
	for range 2 {
		for q := &d.queue; len(*q) > 0; {
			v := (*q)[len(*q)-1]
			(*q)[len(*q)-1] = candidate{}
			*q = (*q)[:len(*q)-1]
			if given, atOnce := d.giveWay(v); given {
				return true, atOnce
			}
		}
		d.queue, d.queued = d.whoGivesWay(d.count(newcomer)), time.Now()
	}
	return false, false
}

func (d *Door) giveWay(v candidate) (given, atOnce bool) {
	what, _ := v.m.Room()
	if given, atOnce = v.m.GiveWay(v.of); given && d.Gave != nil {
		d.Gave(what)
	}
	return given, atOnce
}

// Await lets m in when a place is free that somebody is about to give up, within a moment.
// It returns Full at once when too many wait.
func (d *Door) Await(m Member, l Limits) (why Refusal) {
	defer d.waiters.Add(-1)
	if d.waiters.Add(1) > waitersMost {
		return Full
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	for {
		if why = d.Enter(m, l); why == 0 {
			return 0
		}
		select {
		case <-d.free:
		case <-late.C:
			return d.Enter(m, l)
		}
	}
}

// count is how many connections a client has.
func (d *Door) count(client netip.Addr) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.perClient[client]
}

// candidates are all, as what they are now.
func (d *Door) candidates() []candidate {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]candidate, 0, len(d.all))
	for _, m := range d.all {
		client := m.Client()
		all = append(all, candidate{m: m, of: m.entry().Look(), client: client, most: d.perClient[client]})
	}
	return all
}

// whoGivesWay returns those who give way next for a client with so many connections, the
// first at the end.
func (d *Door) whoGivesWay(newcomer int) []candidate {
	best, found := InUse, []candidate(nil)
	for _, v := range d.candidates() {
		var what Room
		what, v.age = v.m.Room()
		if what == InUse || what == Headless && v.most <= newcomer && v.age < grace {
			continue
		}
		if best == InUse || what < best {
			best, found = what, found[:0]
		}
		if what == best {
			found = append(found, v)
		}
	}
	return lastOf(found)
}

// lastOf orders candidates: by client, the one with the most last, then by age, the oldest
// last. It returns the last few.
func lastOf(all []candidate) []candidate {
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.most, b.most), a.client.Compare(b.client), cmp.Compare(a.age, b.age))
	})
	return all[max(0, len(all)-shedAtOnce):]
}

// ShedHeadless has some give way of those that have begun to say what they want, which takes
// memory, and that which picks.
func (d *Door) ShedHeadless(which func(Member) bool) {
	var reading []candidate
	for _, v := range d.candidates() {
		if which(v.m) {
			_, v.age = v.m.Room()
			reading = append(reading, v)
		}
	}
	for _, v := range lastOf(reading) {
		d.giveWay(v)
	}
}
