package hold

// seen takes in what the Lease says; answer: to our own ReadLease, so that it is not older
// than the question.
//
// Source: failover.md, "Never two holders", 3 and 4. What a watch says may be late: an owner
// asks before it believes that the Lease is lost. Nobody else is let out meanwhile, since a
// commit needs the acknowledgement of a write.
func (d *step) seen(l Lease, answer bool) {
	if d.away { // what nobody could read or write for a while is not free for that
		d.changed += d.now - max(d.contact, d.changed)
	}
	d.away, d.contact = false, d.now
	if l.Missing {
		l = Lease{Missing: true}
	}
	if answer {
		d.unsure, d.doubt = false, false
	}
	switch {
	case d.ours(l):
		d.confirm(l)
	case d.mode != owner:
		d.change(l)
	case answer:
		d.lost(l)
	default:
		d.doubt, d.due = true, d.now
		d.previous = max(d.previous, l.Bound) // whoever it is may be let out for so long
	}
}

// confirm takes in that the last write is ours: the one that is known to be, with something
// beside it that another has written (an offer), or one that had no answer until now.
func (d *step) confirm(l Lease) {
	landed := l.Nonce.Count > d.floor || d.mode == standby
	d.lease, d.known, d.floor = l, true, l.Nonce.Count
	if !landed {
		return
	}
	d.unsure, d.lastAck = false, d.now
	if d.mode == standby {
		d.mode = owner
		if d.try.phase != writing {
			d.end()
			d.due = d.now
		}
	}
	if d.mode == owner && d.waits(writing, l.Nonce) {
		d.commit()
	}
}

// change takes in a Lease that is not ours. One that says nothing new changes nothing;
// another version, whoever wrote it and whatever it says, starts a full wait.
func (d *step) change(l Lease) {
	if d.known && l.Missing == d.lease.Missing && l.Version == d.lease.Version {
		return
	}
	if d.lease.Bound != 0 {
		d.previous = d.lease.Bound
	}
	if l.Released() && d.lease.Successor == d.name {
		d.due = d.now // as was offered
	}
	d.lease, d.known, d.changed = l, true, d.now
	if d.try.phase == checking || d.try.phase == preparing {
		d.end()
	}
}

// lost lets go, and cuts what was open, since the Lease is not ours any more.
func (d *step) lost(l Lease) {
	d.note(Lost, l.Holder)
	d.letGo(false)
	d.floor = d.count + 1
	before := d.previous
	d.change(l)
	d.previous = max(d.previous, before)
}

// unread goes on without an answer of the API server.
func (d *step) unread() {
	d.due = d.now + d.set.Renew
	if d.mode == owner && d.unsure && d.keeps() {
		d.begin(renew)
		d.try.blind = true
	}
}

// keeps reports whether the address may stay held without the Lease.
//
// Source: failover.md, "--hold-on-api-loss". Only what is held is kept: once fenced, nobody
// may know who else was told that nobody answers.
func (d *step) keeps() bool {
	return d.set.Keep && d.held && d.now < d.heldTill && !d.doubt && d.within(d.set.Grace, d.lastAck)
}
