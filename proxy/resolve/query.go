package resolve

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/miekg/dns"
)

// reply is how one try ended.
type reply struct {
	try int
	s   *server
	m   *dns.Msg
	err error
}

// asking is one question on its way through the servers.
type asking struct {
	r        *Resolver
	name     string
	qtype    uint16
	order    []*server
	tries    int
	interval time.Duration
	first    *question // the first try

	// Of finish.
	replies chan reply
	failed  map[*server]bool // these gave an answer that is none
	next    int              // the try to begin next
	pending int              // tries that have not ended
	last    *server          // of the latest try
	counted bool             // the latest try's silence has been counted
}

// begin asks the first of the servers for one name and type. Until that try is done,
// it holds a socket: finish has to follow.
func (r *Resolver) begin(u *upstream, name string, qtype uint16) *asking {
	order := u.order(r.clock(), r.turn.Add(1))
	tries := len(order) * max(u.Attempts, 1)
	return &asking{
		r: r, name: name, qtype: qtype, order: order, tries: tries, interval: r.interval(u, tries),
		first: r.put(order[0], name, qtype, true),
	}
}

// answered reports whether the first try brought the answer.
func (q *asking) answered() bool { return q.first.done && q.first.err == nil }

// finish asks the servers until one answers. A server that keeps silent for an
// interval is joined by the next try, not given up: its answer still counts when it
// comes. A server that has failed is not asked again.
func (q *asking) finish(ctx context.Context) (reply, *Error) {
	if q.answered() {
		return q.taken(reply{s: q.first.s, m: q.first.m}), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q.replies, q.failed = make(chan reply, q.tries), map[*server]bool{}
	var failure *reply
	timer := time.NewTimer(q.interval - time.Since(q.first.begin))
	defer timer.Stop()
	for q.send(ctx); q.pending > 0; {
		select {
		case got := <-q.replies:
			q.pending--
			if got.err == nil {
				return q.taken(got), nil
			}
			if failure == nil || !timedOut(got.err) {
				failure = &got
			}
			if timedOut(got.err) {
				// Only the end of the whole look-up ends a silent try.
				if got.try == q.next-1 {
					q.silence(q.interval)
				}
				continue
			}
			q.failed[got.s] = true
		case <-timer.C:
			q.silence(q.interval)
		}
		q.send(ctx)
		timer.Reset(q.interval)
	}
	return reply{}, q.r.failure(q.name, failure)
}

// taken is the answer, from a server that does not keep us waiting.
func (q *asking) taken(got reply) reply {
	if got.s.slowUntil.Load() != 0 {
		got.s.slowUntil.Store(0)
	}
	return got
}

// send begins the next try with a server that has not failed, if any is left. The
// first one is on its way.
func (q *asking) send(ctx context.Context) {
	for ; q.next < q.tries; q.next++ {
		s := q.order[q.next%len(q.order)]
		if q.failed[s] {
			continue
		}
		try := q.next
		q.next++
		q.pending++
		q.last, q.counted = s, false
		q.r.running.Go(func() {
			sent := q.first
			if try > 0 {
				sent = q.r.put(s, q.name, q.qtype, true)
			}
			m, err := sent.answer(ctx)
			q.replies <- reply{try, s, m, err}
		})
		return
	}
}

// silence counts, once, that the latest try got no answer in time.
func (q *asking) silence(waited time.Duration) {
	if q.counted {
		return
	}
	q.counted = true
	q.last.slowUntil.Store(q.r.clock() + slowFor)
	q.r.observe(Event{QueryTimeout, q.last.addr, "udp", waited})
}

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
	e := &Error{Name: name, Server: serverName(f.s), local: isLocal(f.err)}
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

// follow finishes q, and asks on for the target of an alias when a server leaves
// the chain's end to the client. The whole chain is bounded.
func (r *Resolver) follow(ctx context.Context, u *upstream, q *asking) (Answer, *Error) {
	name := q.name
	total := Answer{TTL: maxTTL}
	for {
		got, e := q.finish(ctx)
		if e != nil {
			e.Name = name
			return Answer{}, e
		}
		a, err := readAnswer(got.m, q.name, q.qtype)
		if err == nil {
			err = total.extend(a)
		}
		if err != nil {
			return Answer{}, &Error{Name: name, Server: serverName(got.s), Err: err}
		}
		if total.Next == "" {
			return total, nil
		}
		q = r.begin(u, total.Next, q.qtype)
	}
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
	a.Addrs, a.Code, a.Next = b.Addrs, b.Code, b.Next
	return nil
}

// timeoutError says how long was waited.
type timeoutError time.Duration

func (e timeoutError) Error() string { return "no answer in " + time.Duration(e).String() }

// Is lets callers test for context.DeadlineExceeded, whoever's clock it was.
func (e timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
