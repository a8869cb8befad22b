package hold

// checked goes on if the checks allow. A holder that misses the gateway looks again at once,
// and does not renew before it has seen it: what it writes meanwhile would be waited for by
// others, who may see it. When too little is left of being held to look again, it renews all
// the same, unless it has missed the gateway often enough.
//
// Source: failover.md, "Never two holders", 5.
func (d *step) checked(c Checked) {
	renewing := d.try.purpose == renew
	switch {
	case !c.Up:
		d.note(InterfaceDown)
		d.end()
		return
	case !c.Gateway:
		d.misses++
		d.note(NoGateway)
		switch {
		case !renewing || d.try.blind || d.misses >= d.set.GatewayMisses:
			d.end()
			return
		case d.now+d.set.Renew < d.heldTill:
			d.try.nonce = d.next() // as another question
			d.do(Check{Nonce: d.try.nonce})
			return
		}
	default:
		d.misses = 0
	}
	switch {
	case d.try.purpose == offer:
		d.writeLease()
	case !renewing && !c.Alone:
		d.note(Duplicate, c.By)
		d.backoff = d.now + d.set.Retry
		d.end()
	default:
		d.try.phase = preparing
		d.do(Prepare{d.try.nonce, d.try.p})
	}
}

// prepared sends the write, now that the kernel knows the nonce.
func (d *step) prepared(ok bool) {
	switch {
	case !ok || d.doubt:
		d.end()
	case d.try.blind && d.keeps():
		d.note(Keeping)
		d.commit()
	case d.try.blind:
		d.end()
	default:
		d.writeLease()
	}
}

// writeLease sends what the attempt is to write, on condition that the Lease is as we know it.
func (d *step) writeLease() {
	t := &d.try
	l := Lease{Nonce: t.nonce}
	switch t.purpose {
	case take, renew:
		// Whatever of this holding may still be let out is within what is announced, also
		// when P and V have become less.
		d.announced = max(d.announced, t.p+t.v)
		l.Holder, l.Bound, l.Leaving = d.name, d.announced, d.leaving
		if t.purpose == renew && d.leaving {
			l.Successor = d.lease.Successor
		}
	case offer:
		l = d.lease
		l.Successor = d.name
	case create:
		l.Bound = max(d.set.bound(), d.previous)
	case release:
		l.Bound = d.set.bound()
		l.Mark = mark(d.lease.UID, t.nonce)
	}
	l.UID, l.Version = d.lease.UID, d.lease.Version
	t.phase, t.write = writing, l
	d.do(WriteLease{Base: d.lease, Lease: l, Nonce: t.nonce})
}

// written goes on by what became of the write.
func (d *step) written(w Written) {
	t := d.try
	switch w.Outcome {
	case Acknowledged:
		l := t.write
		l.UID, l.Version = w.UID, w.Version
		d.unsure, d.doubt = false, false
		d.acknowledged(l)
	case Conflict:
		d.end()
		d.doubt, d.due = true, d.now
	default:
		d.unsure = true
		if t.purpose == renew {
			d.note(Late)
		}
		if t.purpose == renew && d.keeps() && d.misses == 0 {
			d.note(Keeping)
			d.commit()
			return
		}
		d.end()
	}
}

func (d *step) acknowledged(l Lease) {
	t := d.try
	switch t.purpose {
	case take, renew:
		d.lease, d.known, d.floor = l, true, t.nonce.Count
		d.mode, d.lastAck = owner, d.now
		d.commit()
		return
	case offer:
		d.note(Offered, l.Holder)
	case release:
		d.note(Released)
	}
	d.end()
	d.change(l)
	if t.purpose == release {
		d.finish()
	}
}

// commit asks the kernel to let the address out. Sockets from before the Lease was ours are
// cut first; those of a holder that was fenced for a while live on.
//
// Source: failover.md, "Never two holders", 2 and 7.
func (d *step) commit() {
	if d.stale {
		d.stale = false
		d.do(CutSockets{})
	}
	d.try.phase, d.try.asked = committing, d.now
	d.do(AddAddresses{}, Commit{Nonce: d.try.nonce, Renewing: d.now < d.heldTill, For: d.try.v})
}

// committed ends the attempt, also when it was refused: what comes next is another one, with
// a nonce and a write of its own.
func (d *step) committed(ok bool) {
	t := d.try
	d.end()
	if !ok {
		d.note(Refused)
		d.heldTill = 0
		return
	}
	d.heldTill = t.asked + t.v
	if d.held {
		return
	}
	what := Took
	if d.had {
		what = Lifted
	}
	d.held, d.had, d.probe = true, true, d.next()
	d.do(Announce{}, Probe{d.probe}, Publish{On: true})
	d.note(what)
}
