package outbound

import (
	"errors"
	"net"
)

// ErrClientCertificate is why a server has ended the handshake, or what came behind it.
var ErrClientCertificate = errors.New("the server wants a certificate of its client (passthrough: true lets an inspected host have it)")

var (
	errAskedBehind = &Error{Kind: TLSFailed, Err: ErrClientCertificate}
	errRenegotiate = &Error{Kind: TLSFailed, Err: errors.New("the server wants TLS agreed on anew, as for a certificate of its client (passthrough: true lets an inspected host have that)")}
)

// Texts of errors of crypto/tls, which have no types there but with QUIC.
const (
	// certificateRequired is the alert by which a server of TLS 1.3 says so, behind the handshake
	// (RFC 8446 section 6.2).
	certificateRequired = "tls: certificate required"
	// noRenegotiation is the alert that a server of TLS 1.2 gets which asks for a handshake when it has
	// seen a request (RFC 5246 section 7.2.2).
	noRenegotiation = "tls: no renegotiation"
)

// WantsCertificate returns an *Error if err, of reading from a server behind the handshake, is since
// the server wants a certificate of its client; else nil.
func WantsCertificate(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case !ok:
	case op.Op == "remote error" && op.Err.Error() == certificateRequired:
		return errAskedBehind
	case op.Op == "local error" && op.Err.Error() == noRenegotiation:
		return errRenegotiate
	}
	return nil
}
