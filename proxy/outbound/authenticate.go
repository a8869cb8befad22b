package outbound

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// authenticate finds out who the client of a request shows to be (RFC 9110 section 11.7.2),
// and puts it into r; what it has shown with other requests is not remembered. With a ctx it
// waits for a verdict; without one known is false when somebody would have to be waited for.
func (g *Gate) authenticate(gen *policy.Generation, r *Request, t *Ticket, ctx context.Context) (known bool, err error) {
	asks := gen.Asks()
	if r.Inside {
		return true, g.stillShown(gen, r, t)
	}
	r.Shown, r.Until = nil, time.Time{}
	if asks.Mode == policy.Off || !r.mayShow() || gen.Own(r.Client) {
		return true, nil
	}
	credential, outcome := r.credential()
	verdict := auth.Verdict{Outcome: outcome}
	if outcome == auth.Good { // as far as can be read
		claim := auth.Claim{Client: r.Client, Users: asks.Users, Credential: credential}
		switch {
		case g.Verifier == nil:
			verdict = auth.Verdict{Outcome: auth.Unverifiable}
		case ctx != nil:
			verdict = g.Verifier.Verify(ctx, claim)
		default:
			if verdict, known = g.Verifier.VerifyNow(claim); !known {
				return false, nil
			}
		}
	}
	switch {
	case verdict.Outcome == auth.Good:
		r.Shown, r.Until = verdict.Identity, verdict.Until
		return true, nil
	case verdict.Outcome == auth.Missing && (asks.Mode == policy.Optional || r.Certificate != nil):
		return true, nil
	}
	t.Tenant, t.Decision, t.Resolve, t.Route = r.tenant(gen), acl.Decision{}, 0, Route{}
	kind := Unauthenticated
	if verdict.Outcome.Status() == 503 {
		kind = Unverified
	}
	return true, &Error{Kind: kind, Err: errors.New(verdict.Outcome.String())}
}

// stillShown refuses a request out of a tunnel when what its client has shown, when the tunnel was
// made, does not stand any more. It may show nothing anew: what it sends is for the server.
func (g *Gate) stillShown(gen *policy.Generation, r *Request, t *Ticket) error {
	if !r.Until.IsZero() && !time.Now().Before(r.Until) {
		r.Shown = nil
	}
	problem := gen.Asks().Problem(&r.Who)
	if problem == "" {
		return nil
	}
	t.Tenant, t.Decision, t.Resolve, t.Route = r.tenant(gen), acl.Decision{}, 0, Route{}
	return shownProblem(r, problem)
}

// shownProblem is the error of a request whose client has shown what does not stand any more. Who is
// inside a tunnel cannot show anything else there.
func shownProblem(r *Request, problem string) error {
	if r.Inside {
		return &Error{Kind: RequestDenied, Err: errors.New(problem + "; make the tunnel anew")}
	}
	return &Error{Kind: Unauthenticated, Err: errors.New(problem)}
}

// Authenticate is the part of Admit that finds out who the client shows to be, for a front door
// that has to say how that went before it is asked for a target. It waits for a verdict, at most
// until ctx ends. Admit asks again, by the generation of then.
func (g BlockingGate) Authenticate(ctx context.Context, gen *policy.Generation, r *Request, t *Ticket) error {
	g.findPod(gen, r, ctx)
	_, err := g.authenticate(gen, r, t, ctx)
	if err != nil {
		err = t.hold(r, err)
	}
	return err
}

// AuthenticateNow is Authenticate where nobody has to be asked and the client may go on. Otherwise
// good is false, nothing was counted, and Authenticate says why.
func (g *Gate) AuthenticateNow(gen *policy.Generation, r *Request, t *Ticket) (good bool) {
	if !g.findPod(gen, r, nil) {
		return false
	}
	known, err := g.authenticate(gen, r, t, nil)
	return known && err == nil
}

// Pods says which pod has an address. internal/directory has the one that ships.
type Pods interface {
	// Lookup waits for nothing, and does not allocate.
	Lookup(netip.Addr) (policy.Pod, bool)
	// Wait is Lookup for a client that may come before the news of its pod: it waits a moment
	// for those, at most until ctx ends.
	Wait(context.Context, netip.Addr) (policy.Pod, bool)
	// Version changes whenever somebody has another address than before; 0 while nothing is
	// known, which says nothing against anybody.
	Version() uint64
}

// findPod finds out which pod has the client's address, where that matters. With a ctx it
// waits a moment for one that is not known; without one known is false then.
func (g *Gate) findPod(gen *policy.Generation, r *Request, ctx context.Context) (known bool) {
	r.Pod = policy.Pod{}
	if g.Pods == nil || !gen.ByPod() || !r.Client.IsValid() || gen.Own(r.Client) {
		return true
	}
	if ctx == nil {
		r.Pod, known = g.Pods.Lookup(r.Client)
		return known
	}
	r.Pod, _ = g.Pods.Wait(ctx, r.Client)
	return true
}

// credential is what the client has shown, as far as it can be read.
func (r *Request) credential() (auth.Credential, auth.Outcome) {
	if r.Login != nil {
		return r.Login.Credential, r.Login.Outcome
	}
	var room [2][]byte
	return auth.Parse(shown(r.HTTP, room[:0])...)
}

// shown are the values of the Proxy-Authorization fields: more than room has are as wrong as
// two.
func shown(r *http1.Request, room [][]byte) [][]byte {
	for i := range r.Fields {
		if r.Fields[i].ID == http1.ProxyAuthorization && len(room) < cap(room) {
			room = append(room, r.Fields[i].Value)
		}
	}
	return room
}

// liftable makes a denial one that asks for credentials, if the client has shown none and
// they might lift it: some clients send them only then.
func liftable(gen *policy.Generation, r *Request, t *Ticket, err error) error {
	if err == errDenied && r.Shown == nil && r.mayShow() && !r.Inside && gen.MayLift(r.Target) {
		return ErrLiftable
	}
	return err
}
