package hold

// leave takes in SIGTERM: the Lease is to say so at once.
func (d *step) leave() {
	if d.leaving {
		return
	}
	d.leaving, d.left = true, d.now
	if d.mode == owner {
		d.due = d.now
		d.note(Leaving)
	}
}

// hand has the proxy drain once a successor can take over at once: it has written so into
// the Lease after it had seen there that we leave, so it is alive, reaches the API, sees the
// gateway, and watches. Nobody is waited for when there is nothing to hand over.
//
// Source: failover.md, "Never two holders", 8.
func (d *step) hand() {
	switch {
	case d.lease.Leaving && d.lease.Successor != "":
		d.note(Relieved, d.lease.Successor)
	case d.held && d.within(d.set.SuccessorWait, d.left):
		return
	default:
		d.note(Alone)
	}
	d.draining, d.drainAt = true, d.now
	d.do(Publish{On: false}, Drain{For: d.set.DrainTimeout})
}

// giveUp lets go and gives the Lease up, and takes nothing for a while.
func (d *step) giveUp(why NoteKind, who string) {
	d.note(why, who)
	d.backoff = d.now + d.set.Retry
	d.letGo(true)
}

// letGo has the kernel fence the address, and the addresses taken away. give: then the Lease
// is given up, if it is ours; not before the answer.
func (d *step) letGo(give bool) {
	if d.try.phase == writing {
		d.unsure = true
	}
	d.give = give || d.unsure
	d.end()
	d.reading, d.probe = Nonce{}, Nonce{}
	d.held, d.heldTill, d.had, d.stale = false, 0, false, true
	d.draining, d.drained = false, false
	d.mode, d.changed = lettingGo, d.now
	d.do(Publish{On: false}, CutSockets{})
	d.askLetGo()
}

func (d *step) askLetGo() {
	d.asked = d.next()
	d.do(LetGo{d.asked}, RemoveAddresses{})
}

// letGone goes on when nothing is let out any more, and tries again when that is not known.
func (d *step) letGone(ok bool) {
	d.asked = Nonce{}
	d.due = d.now
	switch {
	case !ok:
		d.due += d.set.Renew
	case d.give:
		d.announced, d.give = 0, false
		d.mode, d.since = releasing, d.now
	default:
		d.announced = 0
		d.finish()
	}
}

// decideReleasing gives the Lease up. Others need not wait for that longer than they would
// have to without.
func (d *step) decideReleasing() {
	switch {
	case d.try.phase != idle || d.reading != (Nonce{}):
	case !d.within(d.set.Lease, d.since):
		d.finish()
	case d.unsure || d.doubt:
		d.read()
	case !d.ours(d.lease):
		d.finish()
	case d.now >= d.due:
		d.begin(release)
	}
}

// finish ends what was ours. Writes of ours that are still on their way are of the past.
func (d *step) finish() {
	d.floor = d.count + 1
	d.unsure, d.doubt = false, false
	d.mode = standby
	if d.leaving {
		d.mode = done
		d.do(Done{})
	}
}
