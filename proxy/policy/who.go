package policy

import (
	"cmp"
	"time"

	"github.com/sluiceproxy/sluice/proxy/auth"
)

// Who is who a client was found to be when it was admitted. The zero Who is nobody.
type Who struct {
	// Shown is who the client has shown to be with the request; nil: nobody.
	Shown *auth.Identity
	// Certificate is who it has shown to be by the certificate of its connection; nil: nobody.
	Certificate *auth.Identity
	// Until is when Shown ends, by a token's expiry; the zero Time: not by itself.
	Until time.Time
	// Pod has the client's address; the zero Pod: nobody is known.
	Pod Pod
}

// User is who the client has shown to be, for the access log: with the request, or else by its
// certificate; "": nobody.
func (w *Who) User() string { return cmp.Or(w.Shown.String(), w.Certificate.String()) }
