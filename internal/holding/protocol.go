// Package holding is how the program that knows whose turn it is has another, which has the
// privilege, hold addresses: what is said on the Unix socket between the two. The one that
// asks ([Client]) knows Leases and no kernel; the one that serves ([Server]) knows attempts
// to hold a group of addresses, and nothing of why.
//
// Whatever is not answered may have been done, or be done yet: what is late is refused by
// the kernel, not here. When the connection ends, nothing is done: what is held ends by
// itself.
package holding

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// Protocol is what is said on the socket. The client sends requests, each with a number of
// its own; the server answers each of them once, in any order, and sends events in between.
var Protocol = peer.Protocol{Name: "the protocol of holding", Version: 1}

// maxLine is the length of the longest line, in bytes.
const maxLine = 64 << 10

// Nonce names an attempt. No two attempts have the same, of whatever process.
type Nonce [16]byte

// String is the nonce as it is written: 32 hexadecimal digits.
func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// MarshalText is String.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText takes what String gives.
func (n *Nonce) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(n)) {
		return fmt.Errorf("a nonce has %d hexadecimal digits", hex.EncodedLen(len(n)))
	}
	_, err := hex.Decode(n[:], text)
	return err
}

// Op is what a request asks for.
type Op string

// The operations. Each but OpStatus and OpEnded is about a group.
const (
	OpStatus  Op = "status"  // what is held, and how things are: Status
	OpCheck   Op = "check"   // interface, gateway, and whether somebody else answers: Checked
	OpPrepare Op = "prepare" // begin an attempt, that may be committed for Time
	OpCommit  Op = "commit"  // hold for Time from now on; with Renewing what is held yet
	OpProbe   Op = "probe"   // see whether replies come back to the held addresses: Replies
	OpLetGo   Op = "letGo"   // fence, end all attempts, take the addresses away
	OpEnded   Op = "ended"   // the proxy has ended: SIGTERM counts from now on
)

// request is a line of the client's.
type request struct {
	ID        uint64 `json:"id"`
	Op        Op     `json:"op"`
	Group     string `json:"group,omitempty"`
	Nonce     *Nonce `json:"nonce,omitempty"`     // prepare, commit
	Time      int64  `json:"ms,omitempty"`        // prepare, commit: in milliseconds
	Renewing  bool   `json:"renewing,omitempty"`  // commit
	Duplicate bool   `json:"duplicate,omitempty"` // check: ask for others that have an address, too
}

// message is a line of the server's; one of its fields is set.
type message struct {
	Answer *answer `json:"answer,omitempty"`
	Event  *Event  `json:"event,omitempty"`
}

// answer is that to the request of the number.
type answer struct {
	ID      uint64   `json:"id"`
	Error   string   `json:"error,omitempty"`   // it could not be done
	Refused bool     `json:"refused,omitempty"` // with Error: it came too late
	Checked *Checked `json:"checked,omitempty"`
	Replies bool     `json:"replies,omitempty"`
	Status  *Status  `json:"status,omitempty"`
}

// Checked is what was found before an address is held.
type Checked struct {
	Up      bool   `json:"up"`           // the interfaces are
	Gateway bool   `json:"gateway"`      // the gateways answer
	Alone   bool   `json:"alone"`        // nobody answered for an address; false when that was not asked
	By      string `json:"by,omitempty"` // who did: a MAC address
	// Why says what is wrong, with names and addresses; "" when nothing is.
	Why string `json:"why,omitempty"`
}

// Status is what the privileged side knows.
type Status struct {
	Version string  `json:"version"`        // of the program
	Weak    bool    `json:"weak,omitempty"` // the kernel has no egress hook: raw frames are not fenced
	Groups  []Group `json:"groups"`
}

// Group is a group of addresses that are held together.
type Group struct {
	Name  string       `json:"name"`
	Addrs []netip.Addr `json:"addrs"`
	// Held is for how long they are held yet, by the kernel; 0: they are not.
	Held    Millis `json:"held_ms,omitempty"`
	Present bool   `json:"present,omitempty"` // all of the addresses are there, held or fenced
	Up      bool   `json:"up,omitempty"`      // their interfaces are
}

// GroupName is the name of a group of addresses. It is made of the lowest of them, so that
// all who hold the same addresses call them the same, whatever else their settings list.
func GroupName(addrs []netip.Addr) string {
	lowest := slices.MinFunc(addrs, netip.Addr.Compare)
	return strings.NewReplacer(".", "-", ":", "-").Replace(lowest.StringExpanded())
}

// Kind is what an event tells of.
type Kind string

// The kinds of events, each about a group.
const (
	// Foreign: ARP or NA for a held address came from another MAC address, By. The group
	// was let go already.
	Foreign Kind = "foreign"
	// Down and Up: an interface of the group's is down, or all are up again.
	Down Kind = "down"
	Up   Kind = "up"
	// Expired: what was held was not renewed in time, and is fenced. The addresses stay,
	// and so do connections.
	Expired Kind = "expired"
)

// Event is what has happened unasked.
type Event struct {
	Kind  Kind       `json:"kind"`
	Group string     `json:"group"`
	Addr  netip.Addr `json:"addr,omitzero"` // Foreign
	By    string     `json:"by,omitempty"`  // Foreign: a MAC address
	Link  string     `json:"link,omitempty"`
}

// Millis is a time that is written in whole milliseconds.
type Millis time.Duration

// MarshalJSON writes the number of milliseconds.
func (m Millis) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(m).Milliseconds()) }

// UnmarshalJSON takes a number of milliseconds.
func (m *Millis) UnmarshalJSON(text []byte) error {
	var n int64
	err := json.Unmarshal(text, &n)
	*m = Millis(time.Duration(n) * time.Millisecond)
	return err
}
