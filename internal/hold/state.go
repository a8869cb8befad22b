package hold

import "time"

// mode is what a replica is to its group:
//
//	starting ──let gone──> standby <───────────────────────────────┐
//	                        │   ^ └─Leave─> lettingGo ─> done      │
//	              our write │   │                                  │
//	            is the last │   └──────────────┐ (lost)            │ (released,
//	                        v                  │                   │  or nothing to)
//	                      owner ──────────> lettingGo ──────> releasing ──Leave──> done
//	                             lost: the Lease is not ours any more
//	                             else given up: Heard, Probed, Proxy gone, Leave and drained
//
// What the kernel does is beside that: an owner is let out (State.held) or fenced.
type mode uint8

const (
	starting  mode = iota // what another process may have left in the kernel is being let go
	standby               // the Lease is not ours
	owner                 // the last write of the Lease is ours, as far as is known
	lettingGo             // LetGo has been asked for, and is not done
	releasing             // nothing is let out: the Lease is given up
	done                  // nothing will be done any more
)

var modeNames = [...]string{"starting", "standby", "owner", "letting go", "releasing", "done"}

// phase is how far an attempt has come; each waits for one answer, and what is not the answer
// hoped for ends the attempt:
//
//	take, renew  idle ─> checking ─> preparing ─> writing ─> committing ─> idle
//	offer        idle ─> checking ────────────> writing ───────────────> idle
//	create       idle ────────────────────────> writing ───────────────> idle
//	release      idle ────────────────────────> writing ───────────────> idle
//
// Source: failover.md, "Never two holders", 2. Prepared is before the write leaves, and the
// commit behind its acknowledgement: so nothing is let out later than P + V after the write.
type phase uint8

const (
	idle phase = iota
	checking
	preparing
	writing
	committing
)

// purpose is what an attempt is for.
type purpose uint8

const (
	_       purpose = iota
	take            // the Lease becomes ours
	renew           // it stays ours
	offer           // it says that we can take over at once; it stays the holder's
	create          // there is one again; it is nobody's, and a full L begins
	release         // it is nobody's, with the mark
)

// attempt is one way through the phases. The zero attempt is none.
type attempt struct {
	phase   phase
	purpose purpose
	blind   bool // without the Lease: Settings.Keep
	nonce   Nonce
	p, v    time.Duration // as they were set when it began
	write   Lease         // writing: what is to be in the Lease
	asked   time.Duration // committing: when
}

// State is what one replica knows of one group of addresses. It is a value: Step returns
// another. The zero State is no replica's; New makes one.
type State struct {
	self  Identity
	name  string // of self
	set   Settings
	now   time.Duration // of the last event
	count uint64        // of nonces given out

	mode      mode
	permitted bool          // by the last Permit
	serving   bool          // the proxy is
	gone      time.Duration // since when it is not
	try       attempt
	due       time.Duration // no attempt and no read before
	backoff   time.Duration // nothing is taken before
	asked     Nonce         // of the LetGo that is not answered
	misses    int           // of the gateway, in a row

	lease    Lease         // as it was last seen or written
	known    bool          // it was
	changed  time.Duration // own last sight of a change, later by as long as it could not be read since
	contact  time.Duration // when it was last seen
	away     bool          // it could not be read since
	previous time.Duration // what was announced before that change
	floor    uint64        // own writes with a lower count are of the past
	unsure   bool          // a write of ours has no answer
	doubt    bool          // the Lease may not be as we know it
	reading  Nonce         // of the ReadLease that is not answered

	held      bool          // the kernel lets the address out, as far as is known
	heldTill  time.Duration // it does so at least until then
	had       bool          // it has, since the Lease is ours
	stale     bool          // sockets may be there from before the Lease was ours
	announced time.Duration // the longest P + V since the last LetGo
	lastAck   time.Duration // of a write of ours as the owner
	probe     Nonce         // of the Probe that is not answered

	leaving  bool          // SIGTERM was seen
	left     time.Duration // when
	draining bool
	drainAt  time.Duration // since when
	drained  bool
	give     bool          // lettingGo: the Lease is given up behind it
	since    time.Duration // releasing: since when
}

// New is the state of a process that has just started, at the time 0 of its clock, and what
// it does first: let go what another process may have left in the kernel, and read the Lease.
// It takes nothing before there was a Proxy that serves and a Permit.
func New(self Identity, set Settings) (State, []Action) {
	return Step(State{self: self, name: self.String(), set: set, floor: 1, stale: true}, Event{What: Tick{}})
}

// Status is what a State tells to metrics, health and logs.
type Status struct {
	Mode    string        // starting, standby, owner, letting go, releasing, done
	Holding bool          // the address is let out, as far as is known
	Holder  string        // as the Lease was last seen
	Acked   time.Duration // of an owner: when its last write was acknowledged
}

// Status describes s.
func (s State) Status() Status {
	return Status{Mode: modeNames[s.mode], Holding: s.held, Holder: s.lease.Holder, Acked: s.lastAck}
}

// ours reports whether l is our own last write: by the identity, which is nobody else's and
// of no other process, and by a nonce that is not of the past.
func (s State) ours(l Lease) bool {
	return l.Holder == s.name && l.Nonce.Process == s.self.Process && l.Nonce.Count >= s.floor
}

// wait is how long after its last change the Lease may be taken.
//
// Source: failover.md, "Never two holders", 3. The announcement before the change counts too:
// who wrote last may not be who was let out last (a stranger's write, a Lease made anew).
func (s State) wait() time.Duration {
	return max(s.set.Lease, Wait(max(s.lease.Bound, s.previous)))
}

// free reports whether the Lease may be taken.
func (s State) free() bool {
	switch {
	case !s.known || s.away || s.lease.Missing:
		return false // who cannot read it does not know what the holder could not write
	case s.lease.Released():
		return true
	}
	return s.now >= s.changed+s.wait()
}

// ready reports whether the Lease may be taken, and nothing keeps this replica from it for now.
func (s State) ready() bool { return s.free() && s.now >= s.backoff }

// wanted reports whether the holder waits for a successor and has none.
func (s State) wanted() bool {
	return s.lease.Leaving && s.lease.Holder != "" && s.lease.Holder != s.name && s.lease.Successor == ""
}

// engaged reports whether the replica is busy with this group, so with no other.
func (s State) engaged() bool {
	switch s.mode {
	case owner, lettingGo, releasing:
		return true
	case standby:
		return s.try.purpose == take || s.try.purpose == offer || s.unsure || s.lease.Successor == s.name
	}
	return false
}
