package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// viaTime is for how long parents are asked where nobody says.
const viaTime = 10 * time.Second

// addrsVia is how many addresses of a server one parent is asked for.
const addrsVia = 3

// connectVia asks the parents of r one after the other, each for its share of the time that is
// left, and those that are left alone only when all others have failed. What a parent forbids is
// forbidden: the next is not asked.
func (g BlockingGate) connectVia(ctx context.Context, r *Route) (*Conn, error) {
	if len(r.dsts()) == 0 {
		return nil, errDenied // a Route that leads nowhere
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(viaTime)
	}
	var errs []error
	ask := func(p *policy.Parent) (c *Conn, over bool) {
		until := deadline // exactly: an [Until] ends no context that ends later
		if left := len(r.way.Via) - len(errs); left > 1 {
			until = time.Now().Add(time.Until(deadline) / time.Duration(left))
		}
		c, err := g.try(ctx, r, p, until)
		if err != nil {
			errs = append(errs, err)
		}
		return c, err == nil || !another(ctx, err)
	}
	var alone []*policy.Parent
	for _, p := range r.way.Via {
		if !p.Direct && !p.Health.Try() {
			alone = append(alone, p)
			continue
		}
		if c, over := ask(p); c != nil {
			return c, nil
		} else if over {
			return nil, last(errs)
		}
	}
	for _, p := range alone {
		if c, over := ask(p); c != nil {
			return c, nil
		} else if over {
			break
		}
	}
	return nil, last(errs)
}

// another reports whether the next parent is to be asked after that error of one.
func another(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	switch dialError(err).Kind {
	case ParentForbids, NoDescriptors:
		return false
	case ParentLogin:
		return errors.Is(err, errNoLogin)
	}
	return true
}

// last is the error of whom was asked last, with those before in its text.
func last(errs []error) error {
	e := dialError(errs[len(errs)-1])
	if len(errs) == 1 {
		return e
	}
	text := ""
	for i, err := range errs {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return &Error{Kind: e.Kind, Err: errors.New(text), Parent: e.Parent}
}

// try is one attempt, by a parent or directly, until a time.
func (g BlockingGate) try(ctx context.Context, r *Route, p *policy.Parent, until time.Time) (*Conn, error) {
	if p.Direct {
		return g.connectDirect(&Until{Context: ctx, At: until}, r)
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var c *Conn
	var out policy.Outcome
	var err error
	for i, a := range r.dsts() {
		c, out, err = g.through(ctx, r, p, netip.AddrPortFrom(a, r.port))
		if errors.Is(ctx.Err(), context.Canceled) { // the client has gone: nothing was found out
			if err == nil {
				c.Close()
			}
			return nil, ofParent(p, dialError(context.Cause(ctx)))
		}
		if out != policy.Unavailable || i == addrsVia-1 {
			break
		}
	}
	if !ours(err) {
		p.Health.Ended(out)
	}
	if err != nil {
		return nil, ofParent(p, dialError(err))
	}
	return c, nil
}

// ours reports whether an error says nothing about the parent.
func ours(err error) bool {
	return err != nil && (dialError(err).Kind == NoDescriptors || errors.Is(err, ErrNotHeld) || errors.Is(err, syscall.EADDRNOTAVAIL))
}

// ofParent says whose error it is.
func ofParent(p *policy.Parent, e *Error) *Error {
	return &Error{Kind: e.Kind, Err: fmt.Errorf("parent proxy %s: %w", p.URL, e), Parent: p}
}

// errNoLogin says so. Why stands in the log, when the configuration is read.
var errNoLogin = errors.New("the gateway's credential for it cannot be read now")

// through goes by p to dst, whose address is that of a name which p is to resolve if it is invalid.
func (g BlockingGate) through(ctx context.Context, r *Route, p *policy.Parent, dst netip.AddrPort) (*Conn, policy.Outcome, error) {
	if p.Problem != nil {
		return nil, policy.LoginRefused, &Error{Kind: ParentLogin, Err: errNoLogin}
	}
	c, err := g.reach(ctx, r, p)
	if err != nil {
		return nil, policy.Unreachable, err
	}
	c.local = c.TCP.Local().Addr()
	if p.TLS != nil {
		if err := g.secureParent(ctx, c, p); err != nil {
			c.Close()
			return nil, policy.Unreachable, err
		}
	}
	c.parent, c.via, c.credential, c.absolute, c.Dst = p, r.via(p), r.credential, r.absolute, dst
	if r.absolute {
		return c, policy.Opened, nil
	}
	out, err := g.openTunnel(ctx, c, r)
	if err != nil {
		c.Close()
		return nil, out, err
	}
	return c, policy.Opened, nil
}

// reach connects to p, from where the requests of r leave. The operator has named p: neither rules nor
// the guard are asked, but it is not this gateway.
func (g BlockingGate) reach(ctx context.Context, r *Route, p *policy.Parent) (*Conn, error) {
	to := &Route{tenant: r.tenant, port: p.Port, sources: r.sources}
	if p.Host.IsAddr() {
		to.addrs = []netip.Addr{p.Host.Addr()}
	} else {
		addrs, err := g.lookup(ctx, p.Host.Name())
		if err == nil && len(addrs) == 0 {
			err = fmt.Errorf("look up %s: no address", p.Host.Name())
		}
		if err != nil {
			return nil, lookupError(err)
		}
		to.addrs = append(to.addrs, addrs...)
		interleave(to.addrs)
	}
	for _, a := range to.addrs {
		if g.Self != nil && g.Self(netip.AddrPortFrom(a, p.Port)) {
			return nil, &Error{Kind: Looped, Err: fmt.Errorf("%s is where this gateway listens itself", netip.AddrPortFrom(a, p.Port))}
		}
	}
	return g.connectDirect(ctx, to)
}

// during has what waits for c end with ctx; done must be called, and says whether ctx has ended.
func during(ctx context.Context, c *sock.Conn) (done func() error) {
	if d, ok := ctx.Deadline(); ok {
		c.SetDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return func() error {
		if !stop() {
			return context.Cause(ctx)
		}
		return c.SetDeadline(time.Time{})
	}
}
