// Package auth answers who a client has shown to be: by Proxy-Authorization (a password of
// the usersFile, or a token that somebody else reviews), or by the certificate of its TLS
// connection. It opens no socket and reads no file; what a client has shown belongs to the
// request or tunnel that showed it, and remembering it for longer is nobody's business.
//
// A front door parses the field ([Parse]), asks [Verifier.VerifyNow] on its loop, and where
// nothing is known yet [Verifier.Verify] on a goroutine. Secrets are kept nowhere: a verdict
// is remembered by a keyed hash, with a key that the process draws at its start.
package auth

import "time"

// Challenge is the fields of a 407, whole lines of a head. Basic stands first: many clients
// look at the first challenge only. Bearer has a parameter, as RFC 6750, section 3, demands.
const Challenge = "Proxy-Authenticate: Basic realm=\"sluice\"\r\nProxy-Authenticate: Bearer realm=\"sluice\"\r\n"

// An Outcome is what became of a credential. The zero Outcome is Missing; only Good lets
// anybody in.
type Outcome uint8

const (
	Missing      Outcome = iota // no credential was shown
	Malformed                   // a field that cannot be read, or several of them
	Unsupported                 // a scheme other than Basic and Bearer
	Wrong                       // no such user, another password, a token that was refused
	TooLong                     // a password of more than 72 bytes, of which bcrypt would read the first 72 alone
	Flood                       // not looked at: this client has shown too many wrong ones
	Unverifiable                // whoever judges could not be asked: it may be right
	Busy                        // not looked at: too many logins at once, of this client or of all
	Good                        // the Identity was shown
)

var outcomes = [...]string{
	Missing:      "no credentials",
	Malformed:    "malformed credentials",
	Unsupported:  "credentials of a scheme other than Basic and Bearer",
	Wrong:        "wrong credentials",
	TooLong:      "wrong credentials: a password may have 72 bytes at most",
	Flood:        "too many wrong credentials from this client",
	Unverifiable: "credentials cannot be verified now",
	Busy:         "too many logins at once, try again",
	Good:         "good credentials",
}

// String says it to people; it holds nothing of the credential, nor whether the user exists.
func (o Outcome) String() string {
	if int(o) < len(outcomes) {
		return outcomes[o]
	}
	return "unknown"
}

// Status is the status of the answer: 0 for Good, 503 where the same credential may be good
// a little later, and 407 for all else.
func (o Outcome) Status() int {
	switch o {
	case Good:
		return 0
	case Unverifiable, Busy:
		return 503
	default:
		return 407
	}
}

// A Verdict is the answer about one credential. The zero Verdict lets nobody in.
type Verdict struct {
	Outcome Outcome
	// Identity is who was shown; nil unless the outcome is Good. It is shared, and never changed.
	Identity *Identity
	// Until is when that ends, as whoever judged it said; the zero Time: not by itself.
	Until time.Time
}
