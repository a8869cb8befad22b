package hold

import "time"

// Action is something to do; one of the types below. What has a Nonce of a question is
// answered exactly once, by the event that its comment names.
type Action interface{ action() }

type (
	// ReadLease asks what the Lease says, from the API server itself and not from its cache
	// (resourceVersion unset): Seen or Unread.
	ReadLease struct{ Nonce Nonce }

	// WriteLease writes the Lease: Written. With Base.Missing it is a create, else an update
	// on condition of Base.Version (and Base.UID). What to write is Lease; its Version and UID
	// are those of Base.
	WriteLease struct {
		Base  Lease
		Lease Lease
		Nonce Nonce // of the question; Lease.Nonce but for an offer, which keeps the holder's
	}

	// Prepare adds the nonce to the set of those pending: Prepared.
	Prepare struct {
		Nonce Nonce
		For   time.Duration // P
	}

	// Commit lets the address out, in one transaction that fails as a whole: delete pending
	// Nonce, delete held (with Renewing), add held: Committed.
	Commit struct {
		Nonce    Nonce
		Renewing bool
		For      time.Duration // V
	}

	// LetGo deletes held and all that is pending, in one transaction. LetGone answers it when
	// the RemoveAddresses behind it is done too.
	LetGo struct{ Nonce Nonce }

	// Check looks whether the interface is up, the gateway answers, and, with Duplicate,
	// nobody answers for the address, in 0.4 s in all: Checked.
	Check struct {
		Nonce     Nonce
		Duplicate bool
	}

	// Probe asks the gateway from the held address until a reply comes: Probed. How long it is
	// tried is the privileged side's; an answer after the address was let go is ignored.
	Probe struct{ Nonce Nonce }

	// AddAddresses adds the addresses, or renews their lifetime. The fence is there before. If
	// that fails the driver leaves out the Commit that follows, and answers it with a refusal.
	AddAddresses struct{}

	// RemoveAddresses takes the addresses away. The fence stays.
	RemoveAddresses struct{}

	// Announce sends gratuitous ARP and NA, now and as long as the address is held.
	Announce struct{}

	// CutSockets ends the connections that have a held address as their source.
	CutSockets struct{}

	// Drain asks the proxy to end what it serves, for at most the time given: Drained.
	Drain struct{ For time.Duration }

	// Publish puts this replica into the EndpointSlice of the group, or takes it out if it is
	// there. What fails is tried again by the driver.
	Publish struct{ On bool }

	// Note is something to be said: log, metrics, an Event on the pod.
	Note struct {
		Kind NoteKind
		Who  string // a MAC, or an Identity, by Kind
	}

	// Done says that nothing is held and nothing is left to do: the process may end.
	Done struct{}
)

func (ReadLease) action()       {}
func (WriteLease) action()      {}
func (Prepare) action()         {}
func (Commit) action()          {}
func (LetGo) action()           {}
func (Check) action()           {}
func (Probe) action()           {}
func (AddAddresses) action()    {}
func (RemoveAddresses) action() {}
func (Announce) action()        {}
func (CutSockets) action()      {}
func (Drain) action()           {}
func (Publish) action()         {}
func (Note) action()            {}
func (Done) action()            {}

// NoteKind is what a Note is about.
type NoteKind uint8

const (
	_             NoteKind = iota
	Took                   // the address is held, after it was not ours
	Fenced                 // the address is not let out any more, and the Lease is still ours
	Lifted                 // it is again, and sockets have lived on
	Lost                   // the Lease is somebody else's, or nobody's: Who, or ""
	Released               // the Lease was given up with the release mark
	Refused                // the kernel refused a commit that came too late
	Late                   // a renewal had no acknowledgement
	Keeping                // renewed without the Lease
	NoGateway              // the gateway did not answer
	InterfaceDown          // the interface is not up
	Duplicate              // not taken, since Who answers for the address
	Foreign                // let go, since Who has used the address
	NoReply                // let go, since no reply came to the held address
	NoProxy                // let go, since the proxy is gone
	Leaving                // SIGTERM: the Lease says so, and a successor is waited for
	Relieved               // Who can take over at once
	Alone                  // no successor has come in time
	Offered                // this replica has said that it can take over at once from Who
)

var noteNames = [...]string{
	Took: "took", Fenced: "fenced", Lifted: "lifted", Lost: "lost", Released: "released", Refused: "refused", Late: "late",
	Keeping: "keeping", NoGateway: "no gateway", InterfaceDown: "interface down", Duplicate: "duplicate", Foreign: "foreign",
	NoReply: "no reply", NoProxy: "no proxy", Leaving: "leaving", Relieved: "relieved", Alone: "alone", Offered: "offered",
}

// String is one or two words.
func (k NoteKind) String() string {
	if int(k) < len(noteNames) && noteNames[k] != "" {
		return noteNames[k]
	}
	return "?"
}
