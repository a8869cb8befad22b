package resolve

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/miekg/dns"
)

// ErrClosed is the cause of every look-up that [Resolver.Close] ended or forbade.
var ErrClosed = errors.New("resolver is closed")

// Kind tells what a failed look-up means for the request that needed it.
type Kind uint8

const (
	// ServerFailure, the zero Kind: no server gave a usable answer (SERVFAIL,
	// REFUSED, a malformed answer), or this machine could not ask.
	ServerFailure Kind = iota
	// NotFound: the name does not exist, or has no address.
	NotFound
	// Timeout: no server answered within the time allowed.
	Timeout
	// Busy: as many names are being looked up already as may be; no server was asked.
	Busy
)

// String is the name of the kind, as metrics label it.
func (k Kind) String() string {
	switch k {
	case NotFound:
		return "not_found"
	case Timeout:
		return "timeout"
	case Busy:
		return "busy"
	default:
		return "server_failure"
	}
}

// Error is why a name has no addresses. It is immutable, and may be shared by
// many look-ups.
type Error struct {
	Name   string // the name asked for
	Kind   Kind
	Code   string // the response code ("NXDOMAIN", "SERVFAIL"), "NODATA", or "" when there was no answer
	Server string // the server that said so, or was asked last; "" when none was
	Err    error  // the cause, when there is more to say than Code

	// local failures (no descriptor left, say) are no news about the name: they
	// are never cached.
	local bool
}

// Error reads "look up NAME at SERVER: why".
func (e *Error) Error() string {
	at := ""
	if e.Server != "" {
		at = " at " + e.Server
	}
	return fmt.Sprintf("look up %s%s: %s", e.Name, at, e.why())
}

func (e *Error) why() string {
	switch {
	case e.Err != nil:
		return e.Err.Error()
	case e.Code == codeNoData:
		return "no address (NODATA)"
	case e.Kind == NotFound:
		return fmt.Sprintf("no such name (%s)", e.Code)
	case e.Code != "":
		return e.Code
	default:
		return e.Kind.String()
	}
}

// Unwrap is the cause, or nil.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether time ran out, as [net.Error] has it.
func (e *Error) Timeout() bool { return e.Kind == Timeout }

const codeNoData = "NODATA"

// rcodeName is the response code's name of the IANA registry, or "RCODE 17".
func rcodeName(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("RCODE %d", rcode)
}

// serverName is how errors show a server.
func serverName(s *server) string {
	if s == nil {
		return ""
	}
	return s.addr.String()
}

// server is one upstream server with what was learnt about it.
type server struct {
	addr netip.AddrPort

	index, of int // its place among its upstream's servers, and how many there are

	// Up to when on the resolver's clock others are asked first, and it is asked without
	// EDNS, and without random case.
	slowUntil, plainUntil, foldsUntil atomicDuration

	ednsLost atomic.Int32 // look-ups in a row that it answered only without EDNS
}
