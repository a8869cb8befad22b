package hold

import "time"

// Event is something that has happened, and when: At is the time of a monotonic clock since
// any beginning of the process's own. A time before that of the last event counts as that.
type Event struct {
	At   time.Duration
	What Happening
}

// Happening is what an Event says; one of the types below. Answers carry the Nonce of the
// question: what does not fit what is asked at the moment is of the past, and ignored.
//
// The zero value of each is the refusal, or says nothing.
type Happening interface{ happening() }

type (
	// Tick says that time has passed.
	Tick struct{}

	// Seen says what the Lease says: from a watch or poll (the zero Read), or as the answer
	// to ReadLease.
	Seen struct {
		Read  Nonce
		Lease Lease
	}

	// Unread answers ReadLease: failed, or no answer in time. With the zero Read it says that a
	// poll has failed.
	Unread struct{ Read Nonce }

	// Written answers WriteLease.
	Written struct {
		Nonce   Nonce
		Outcome Outcome
		UID     string // Acknowledged: metadata.uid
		Version string // Acknowledged: the new resourceVersion
	}

	// Prepared answers Prepare.
	Prepared struct {
		Nonce Nonce
		OK    bool // false: refused, or not known
	}

	// Committed answers Commit.
	Committed struct {
		Nonce Nonce
		OK    bool // false: refused, or not known
	}

	// LetGone answers LetGo and RemoveAddresses.
	LetGone struct {
		Nonce Nonce
		OK    bool // false: failed, or not known
	}

	// Checked answers Check.
	Checked struct {
		Nonce   Nonce
		Up      bool   // the interface is
		Gateway bool   // it answered
		Alone   bool   // nobody answered for the address; counts with Check.Duplicate
		By      string // who did: its MAC
	}

	// Probed answers Probe: whether a reply came back to the held address.
	Probed struct {
		Nonce Nonce
		OK    bool
	}

	// Heard says that ARP or NA for the address has come from another MAC.
	Heard struct{ By string }

	// Proxy says whether the proxy serves: its end of the socket is there, or gone.
	Proxy struct{ Serving bool }

	// Drained says that the proxy has done what Drain asked for.
	Drained struct{}

	// Leave says that this replica was told to end: SIGTERM.
	Leave struct{}

	// Permit says whether this replica may take the group, if it is free. Pool decides that.
	Permit struct{ OK bool }

	// Set gives other settings, which Check has passed.
	Set struct{ Settings Settings }
)

// Outcome is that of a write.
type Outcome uint8

const (
	Unknown      Outcome = iota // failed, or no answer in time: it may have been done, or may be yet
	Acknowledged                // done
	Conflict                    // refused by the precondition: another resourceVersion, there already, not there
)

func (Tick) happening()      {}
func (Seen) happening()      {}
func (Unread) happening()    {}
func (Written) happening()   {}
func (Prepared) happening()  {}
func (Committed) happening() {}
func (LetGone) happening()   {}
func (Checked) happening()   {}
func (Probed) happening()    {}
func (Heard) happening()     {}
func (Proxy) happening()     {}
func (Drained) happening()   {}
func (Leave) happening()     {}
func (Permit) happening()    {}
func (Set) happening()       {}
