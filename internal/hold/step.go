package hold

import "time"

// Step is the decision: what a replica knows after e, and what it does. It looks at nothing
// but its arguments. The actions are to be begun in their order; doc.go says how.
//
// It has two halves: absorb takes in what has happened, and decide does what is to be done in
// the state that has come about, whatever has led there.
func Step(s State, e Event) (State, []Action) {
	d := step{State: s}
	d.now = max(d.now, e.At)
	d.absorb(e.What)
	d.lapse()
	d.decide()
	return d.State, d.actions
}

// step is a State that is about to become the next one.
type step struct {
	State
	actions []Action
}

func (d *step) do(a ...Action) { d.actions = append(d.actions, a...) }
func (d *step) note(k NoteKind, who ...string) {
	n := Note{Kind: k}
	if len(who) > 0 {
		n.Who = who[0]
	}
	d.do(n)
}

// next is a nonce that nobody has had.
func (d *step) next() Nonce {
	d.count++
	return Nonce{d.self.Process, d.count}
}

func (d *step) absorb(what Happening) {
	switch e := what.(type) {
	case Seen:
		d.seen(e.Lease, d.answers(e.Read))
	case Unread:
		d.away = d.known
		if d.answers(e.Read) {
			d.unread()
		}
	case Checked:
		if d.waits(checking, e.Nonce) {
			d.checked(e)
		}
	case Prepared:
		if d.waits(preparing, e.Nonce) {
			d.prepared(e.OK)
		}
	case Written:
		if d.waits(writing, e.Nonce) {
			d.written(e)
		}
	case Committed:
		if d.waits(committing, e.Nonce) {
			d.committed(e.OK)
		}
	case LetGone:
		if e.Nonce == d.asked && d.asked != (Nonce{}) {
			d.letGone(e.OK)
		}
	case Probed:
		if d.mode == owner && e.Nonce == d.probe && !e.OK {
			d.giveUp(NoReply, "")
		}
	case Heard:
		if d.mode == owner && d.held {
			d.giveUp(Foreign, e.By)
		}
	case Proxy:
		if d.serving && !e.Serving {
			d.gone = d.now
		}
		d.serving = e.Serving
	case Drained:
		d.drained = d.draining
	case Leave:
		d.leave()
	case Permit:
		d.permitted = e.OK
	case Set:
		d.set = e.Settings
	}
}

// waits reports whether n is what the attempt waits for in p.
func (d *step) waits(p phase, n Nonce) bool { return d.try.phase == p && d.try.nonce == n }

// answers reports whether n answers the ReadLease that is under way, which it ends.
func (d *step) answers(n Nonce) bool {
	if n == (Nonce{}) || n != d.reading {
		return false
	}
	d.reading = Nonce{}
	return true
}

// lapse notes that the kernel has fenced the address, since no commit came in time.
func (d *step) lapse() {
	if d.held && d.now >= d.heldTill {
		d.held = false
		d.note(Fenced)
	}
}

func (d *step) decide() {
	switch d.mode {
	case starting, lettingGo:
		if d.asked == (Nonce{}) && d.now >= d.due {
			d.askLetGo()
		}
		if d.mode == starting && !d.known {
			d.read()
		}
	case standby:
		d.decideStandby()
	case owner:
		d.decideOwner()
	case releasing:
		d.decideReleasing()
	}
}

// read asks for the Lease, if it may be and is not under way.
func (d *step) read() {
	if d.reading == (Nonce{}) && d.now >= d.due {
		d.reading = d.next()
		d.do(ReadLease{d.reading})
	}
}

// decideStandby takes the Lease if it is free, says that it could if the holder wants to
// know, and sees to it that there is one.
func (d *step) decideStandby() {
	switch {
	case d.leaving:
		d.letGo(false)
	case d.try.phase != idle || d.reading != (Nonce{}):
	case !d.known || d.unsure || d.doubt:
		d.read()
	case d.now < d.due:
	case d.lease.Missing:
		d.begin(create)
	case !d.permitted || !d.serving || d.now < d.backoff:
	case d.free():
		d.begin(take)
	case d.wanted():
		d.begin(offer)
	}
}

// decideOwner renews, and lets go when there is a reason to.
func (d *step) decideOwner() {
	switch {
	case d.leaving && !d.serving, d.draining && (d.drained || !d.within(d.set.DrainTimeout, d.drainAt)):
		d.letGo(true)
	case !d.serving && !d.within(d.set.ProxyGone, d.gone):
		d.giveUp(NoProxy, "")
	default:
		if d.leaving && !d.draining {
			d.hand()
		}
		switch {
		case d.try.phase != idle || d.reading != (Nonce{}):
		case d.unsure || d.doubt:
			d.read()
		case d.now >= d.due:
			d.begin(renew)
		}
	}
}

// begin begins an attempt; the next one is due Renew later.
func (d *step) begin(p purpose) {
	d.due = d.now + d.set.Renew
	d.try = attempt{purpose: p, nonce: d.next(), p: d.set.Pending, v: d.set.Held}
	switch p {
	case create, release:
		d.writeLease()
	default:
		d.try.phase = checking
		d.do(Check{Nonce: d.try.nonce, Duplicate: p == take})
	}
}

// end ends the attempt.
func (d *step) end() { d.try = attempt{} }

// within reports whether less than limit has passed since then.
func (d *step) within(limit, since time.Duration) bool { return d.now < since+limit }
