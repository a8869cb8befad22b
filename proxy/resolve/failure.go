package resolve

import (
	"context"
	"errors"
	"os"
	"time"
)

// interval is the silence after which the next try begins: all tries begin within
// the time of the look-up, and the first ones soon, since a lost datagram is more
// likely than an answer that takes a second.
func (r *Resolver) interval(u *upstream, tries int) time.Duration {
	d := min(r.timeout/time.Duration(tries), maxInterval)
	if u.Timeout > 0 {
		d = min(d, u.Timeout)
	}
	return d
}

const (
	maxInterval = time.Second
	slowFor     = 10 * time.Second // how long a server that kept us waiting is asked last
)

func timedOut(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// failure is the error of a query that no server answered.
func (r *Resolver) failure(name string, f *reply) *Error {
	e := &Error{Name: name, Server: serverName(f.q.s), local: isLocal(f.err)}
	code, isCode := errors.AsType[rcodeError](f.err)
	switch {
	case timedOut(f.err):
		e.Kind = Timeout
		e.Err = timeoutError(r.timeout)
	case isCode:
		e.Code = code.Error()
	default:
		e.Err = f.err
	}
	return e
}

// extend adds the answer about a's Next, or the first one.
func (a *Answer) extend(b Answer) error {
	chain := b.Chain
	if len(a.Chain) > 0 {
		chain = chain[1:] // it begins with the name that a's chain ends with
	}
	for _, name := range chain {
		for _, seen := range a.Chain {
			if seen == name {
				return errLoop
			}
		}
		a.Chain = append(a.Chain, name)
	}
	if len(a.Chain) > maxChain+1 {
		return errLongChain
	}
	a.TTL = min(a.TTL, b.TTL)
	a.Addrs, a.Code, a.Next, a.More = b.Addrs, b.Code, b.Next, b.More
	return nil
}

// timeoutError says how long was waited.
type timeoutError time.Duration

func (e timeoutError) Error() string { return "no answer in " + time.Duration(e).String() }

// Is lets callers test for context.DeadlineExceeded, whoever's clock it was.
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
