// Package outbound is the only way out of the proxy. A [Gate] admits a request: it decides
// on the target, resolves its name, decides on every address, and makes a [Route] of those
// that were allowed. It dials along routes, which nobody else can make: a name never
// reaches a dialler, and nothing is resolved again between the verdict and the connection.
package outbound

import (
	"context"
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Lookup returns the addresses of a name as acl.Host.Name gives it. The slice
// may be shared and is not written to. A *resolve.Error tells the gate how it
// failed. proxy/resolve is the one that ships.
type Lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// Known is a Lookup that asks nobody: known is false when that would be needed.
type Known func(name string) (addrs []netip.Addr, known bool, err error)

// Gate admits and dials. Its methods may be called concurrently; the fields are set before
// that.
type Gate struct {
	Known  Known   // for AdmitNow; nil: no name is known
	Begin  Begin   // for BeginConnect; nil: it can't be done
	Name   string  // this proxy's pseudonym in Via, by which a loop is known; "": loops are not looked for
	Checks []Check // what a request must stand besides; nil: nothing
	Pool   *Pool   // nil: connections are not kept
	// Verifier judges what clients show, where a generation asks for it; nil: nothing can be
	// verified.
	Verifier *auth.Verifier
	Pods     Pods // nil: no address is known to be a pod's
	// Self reports whether this gateway itself listens at an address: no parent is asked there.
	// nil: it is not known to.
	Self func(netip.AddrPort) bool
	// Idle is for how long a connection to a parent by TLS may carry nothing while an end has something to
	// carry; 0: for ever.
	Idle time.Duration
	// Panics is told of faults of the program in what carries bytes to parents by TLS; nil: nobody is.
	Panics contain.Reporter

	lookup Lookup
	dialer Dialer
}

// NewGate returns a gate that resolves by lookup and dials by d.
func NewGate(lookup Lookup, d Dialer, pool *Pool) *Gate {
	return &Gate{lookup: lookup, dialer: d, Pool: pool}
}

// Open connects to what r asks for if gen allows it; every address that is tried is one that
// was judged and allowed. The caller closes the connection. It is Admit and Connect in one,
// for callers that need nothing in between.
func (g BlockingGate) Open(ctx context.Context, gen *policy.Generation, r *Request) (*Conn, acl.Decision, error) {
	var t Ticket
	defer t.Hold.Release() // nobody says when the connection ends
	if err := g.Blocking().Admit(ctx, gen, r, &t); err != nil {
		return nil, t.Decision, err
	}
	c, err := g.Blocking().Connect(ctx, &t.Route)
	return c, t.Decision, err
}
