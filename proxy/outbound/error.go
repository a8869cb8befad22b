package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
)

// Kind says why there is no connection, in the classes of RFC 9209.
type Kind uint8

const (
	Denied            Kind = iota // by the policy; Ticket.Decision says which part
	Looped                        // the request has come through this proxy before, or is its own
	Unauthenticated               // it has shown nothing, or what is wrong; showing something else may help
	Unverified                    // what it has shown cannot be verified now
	OverLimit                     // of the tenant; Error.RetryAfter says when to come again
	RequestDenied                 // by request rules; Ticket.Request says which, unless Error.Err says more
	RequestMalformed              // servers may read it in different ways, at a host with request rules
	BodyTooLarge                  // for a host that says how large it may be
	NoCredential                  // what is to be put into it cannot be read
	DNSFailed                     // no such name, or the resolver fails
	DNSTimeout                    // the resolver is too slow
	DNSBusy                       // as many names as may be are being looked up already
	Refused                       // the connection was refused
	Unroutable                    // no way there, or no source address for that family
	ConnectTimeout                // too slow to connect
	TLSFailed                     // the handshake failed
	TLSUntrusted                  // the certificate does not stand up
	ParentUnavailable             // a parent proxy does not get there: 5xx, or no answer
	ParentForbids                 // it answers 403
	ParentLogin                   // it does not take what the gateway shows it, or there is nothing to show
	ParentBroken                  // it answers something else, or what is no answer
	NoDescriptors                 // this process is at its limit
	ConnectionFailed              // anything else

	Kinds int = iota // how many there are
)

// ByAdmission reports whether the request was not admitted, which says nothing about any
// server.
func (k Kind) ByAdmission() bool { return k <= NoCredential }

// Error is why Admit or Connect gave no connection. Err holds the cause, if any.
type Error struct {
	Kind Kind
	Err  error
	// RetryAfter is when a request over a limit may come again, at the earliest; 0: it is
	// not known.
	RetryAfter time.Duration
	Parent     *policy.Parent // whose fault it is, or that was asked last; nil: there was none
}

func (e *Error) Error() string {
	if e.Err == nil {
		return "denied"
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

var (
	errDenied = &Error{Kind: Denied}
	errLooped = &Error{Kind: Looped, Err: errors.New("the request has come through this proxy before (Via)")}
	// ErrLiftable is a denial that a client which has shown nothing might lift by showing who
	// it is.
	ErrLiftable = &Error{Kind: Unauthenticated, Err: errors.New("denied to who shows no credentials")}

	// ErrMovedMeanwhile is why a connection is not used that was made by another tenant's ways, or by others
	// than its client has by now.
	ErrMovedMeanwhile = &Error{Kind: Unverified, Err: errors.New("whose client this is, or how its requests go out, has changed meanwhile; try again")}
	// ErrInspectedNow is why a tunnel ends that was made before its host was inspected.
	ErrInspectedNow = &Error{Kind: RequestDenied, Err: errors.New("requests to this host are asked what they may do from now on; make the tunnel anew")}

	// ErrElsewhere is why a host whose requests are asked about is not reached by TLS at a port of which nothing is said.
	ErrElsewhere = &Error{Kind: RequestDenied, Err: errors.New("requests to this host are asked what they may do, and a tunnel to another port would go past that: name the port in hosts of inspect, with passthrough: true to let it be")}

	errUnjudged = &Error{Kind: RequestDenied, Err: errors.New("a parent proxy has resolved the name, and addresses are judged here from now on; ask anew")}

	errRequestDenied = &Error{Kind: RequestDenied}

	errNoDescriptor = errors.New("no descriptor is free for a connection to the server")

	errOwn = &Error{Kind: Looped, Err: errors.New("the client is this gateway itself")}
)

func overRate(l *policy.Limits, wait time.Duration) error {
	return &Error{Kind: OverLimit, RetryAfter: wait, Err: fmt.Errorf("the tenant is over its limit of %g requests a second", l.RequestsPerSecond)}
}

func overConnections(l *policy.Limits) error {
	return &Error{Kind: OverLimit, Err: fmt.Errorf("the tenant is at its limit of %d requests and tunnels at once", l.Connections)}
}

func lookupError(err error) error {
	kind := DNSFailed
	var re *resolve.Error
	switch {
	case errors.As(err, &re) && re.Kind == resolve.Busy:
		kind = DNSBusy
	case re != nil && re.Kind == resolve.Timeout, errors.Is(err, context.DeadlineExceeded):
		kind = DNSTimeout
	}
	return &Error{Kind: kind, Err: err}
}

// dialError finds the class of a failed connect.
func dialError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: dialKind(err), Err: err}
}

func dialKind(err error) Kind {
	var certErr *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.As(err, &certErr):
		return TLSUntrusted
	case errors.As(err, &alert), errors.As(err, &record):
		return TLSFailed
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES),
		errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL):
		return Unroutable
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return NoDescriptors
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return ConnectTimeout
	}
	return ConnectionFailed
}

// worst folds the errors of several addresses into one: its kind is that of the
// first that says more than "no way there", its text holds them all.
func worst(errs []error) error {
	first := dialError(errs[0])
	if len(errs) == 1 {
		return first
	}
	kind := first.Kind
	for _, err := range errs {
		if k := dialError(err).Kind; k != Unroutable {
			kind = k
			break
		}
	}
	all := errs[0]
	for _, err := range errs[1:] {
		all = fmt.Errorf("%w; %w", all, err) // errors.Join puts line ends between, which a status line can't hold
	}
	return &Error{Kind: kind, Err: all}
}
