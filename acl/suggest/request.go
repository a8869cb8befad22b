package suggest

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// Outcome is what became of a request.
type Outcome uint8

const (
	Reached Outcome = iota // it was allowed, and a server was connected to (or a cache had the answer)
	Denied                 // by a rule, or since no rule allows it; also later, by the check of a tunnel or by other rules
	Guarded                // by the guard
	Failed                 // it was allowed and no server was reached, or it was refused before it was judged
)

// A Request is one line of an access log.
type Request struct {
	Time    time.Time  // zero: the line has none that can be read
	Tenant  string     // whose the client was; "" where there are none, or the log does not say
	Target  acl.Target // zero: the line has none, or one that no rule could be for
	Addr    netip.Addr // of the server; invalid: none was connected to, or the log does not say
	Outcome Outcome
	Why     string // the reason of a denial, or the error, as the log has it
	// Shadow is the verdict of the shadow rules, as the log has it, where it differs.
	Shadow string
}
