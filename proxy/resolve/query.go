package resolve

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// reply is what came of one question.
type reply struct {
	q   *question
	m   *dns.Msg
	err error
	tcp bool
}

// mailbox is where replies come in, from whatever goroutine has them. Nobody waits to
// put one in.
type mailbox struct {
	mu   sync.Mutex
	got  []reply
	bell chan struct{} // holds one
}

func (b *mailbox) put(r reply) {
	b.mu.Lock()
	b.got = append(b.got, r)
	b.mu.Unlock()
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

func (b *mailbox) empty() []reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.got
	b.got = nil
	return got
}

// asking is one family of a name on its way through the servers. Only the goroutine of
// its flight uses it.
//
// A server that keeps silent for an interval is joined by the next try, not given up: its
// answer still counts when it comes. A server that has failed is not asked again. The
// first round is asked with EDNS, the others without, for paths that drop it.
type asking struct {
	p      *pair
	family int
	qtype  uint16
	name   string // asked for now: the name, or the target of an alias that led to nobody yet
	round  int    // of how many such names
	total  Answer // of the names before

	order    []*server
	tries    int
	next     int // the try to begin next
	interval time.Duration
	due      time.Time // when to begin it; zero: not again

	live    []*question // put and not ended
	pending int         // these, and those that are asked over TCP
	last    *server     // of the latest try
	counted bool        // the latest try's silence has been counted
	failed  servers     // these gave an answer that is none
	plain   servers     // these do not know EDNS
	folded  servers     // these were asked without 0x20 as well
	failure *reply
}

// servers is a set of them, by index.
type servers uint8

func (s servers) has(x *server) bool { return s>>x.index&1 != 0 }
func (s *servers) add(x *server)     { *s |= 1 << x.index }

// begin asks the first of the servers for name.
func (a *asking) begin(name string) {
	r, u := a.p.r, a.p.u
	a.drop()
	a.name = name
	a.round++
	a.order = u.order(r.clock(), r.turn.Add(1))
	a.tries = len(a.order) * max(u.Attempts, 2)
	a.interval = r.interval(u, a.tries)
	a.next, a.pending, a.failed, a.plain, a.folded, a.failure = 0, 0, 0, 0, 0, nil
	a.send()
}

// send begins the next try with a server that has not failed, if any is left.
func (a *asking) send() {
	a.due = time.Time{}
	for a.next < a.tries {
		s := a.order[a.next%len(a.order)]
		edns := a.next < len(a.order)
		a.next++
		if a.failed.has(s) {
			continue
		}
		a.last, a.counted = s, false
		if a.put(s, edns, true) {
			a.due = time.Now().Add(a.interval)
			return
		}
	}
	if a.pending == 0 {
		a.p.settle(a, Answer{}, a.p.r.failure(a.p.name, a.failure))
	}
}

// put puts the question to s, with EDNS and random case if s is not known to mind. It
// reports whether that could be done.
func (a *asking) put(s *server, edns, mixed bool) bool {
	now := a.p.r.clock()
	q := &question{
		s: s, to: &a.p.mail, begin: time.Now(), family: a.family, round: a.round,
		edns: edns && now >= s.plainUntil.Load(), mixed: mixed && now >= s.foldsUntil.Load(),
		asked: dns.Question{Name: dns.Fqdn(a.name), Qtype: a.qtype, Qclass: dns.ClassINET},
	}
	if q.mixed {
		q.asked.Name = mix(q.asked.Name)
	}
	if err := a.p.r.sockets.put(q); err != nil {
		a.p.r.observe(Event{outcome(err), s.addr, "udp", time.Since(q.begin)})
		a.fail(reply{q: q, err: err})
		return false
	}
	a.live = append(a.live, q)
	a.pending++
	return true
}

// take is for what came of one of the questions.
func (a *asking) take(got reply) {
	q := got.q
	if errors.Is(got.err, errFolded) {
		// Either its server does not keep the case, or somebody guesses. It is asked again
		// without, under a port and an ID that would have to be guessed as well.
		if !a.folded.has(q.s) {
			a.folded.add(q.s)
			a.put(q.s, q.edns, false)
		}
		return
	}
	a.pending--
	a.live = slices.DeleteFunc(a.live, func(x *question) bool { return x == q })
	code, isCode := errors.AsType[rcodeError](got.err)
	switch {
	case got.err == nil:
		a.learn(q)
		a.answered(got)
		return
	case isCode && q.edns && (code == dns.RcodeFormatError || code == dns.RcodeNotImplemented):
		a.plain.add(q.s) // RFC 6891 section 6.2.2
		if a.put(q.s, false, q.mixed) {
			return
		}
	case errors.Is(got.err, errTruncated) && !got.tcp:
		a.pending++
		p := a.p
		ctx, cancel := context.WithCancel(p.ctx)
		p.end = append(p.end, cancel)
		p.r.running.Go(func() {
			m, err := p.r.overTCP(ctx, q)
			if err != nil && !timedOut(err) {
				err = &tcpError{err}
			}
			p.mail.put(reply{q, m, err, true})
		})
		return
	default:
		a.fail(got)
	}
	a.send()
}

// fail keeps that a server has failed.
func (a *asking) fail(got reply) {
	a.failure = &got
	a.failed.add(got.q.s)
}

// learn keeps what the answer to q says about its server, for the next questions.
func (a *asking) learn(q *question) {
	s, until := q.s, a.p.r.clock()+habitFor
	silent := func(x *question) bool { return x.s == s && x.edns }
	switch {
	case q.edns:
		s.ednsLost.Store(0)
	case a.plain.has(s), slices.ContainsFunc(a.live, silent) && s.ednsLost.Add(1) >= lostMeans:
		s.plainUntil.Store(until)
		s.ednsLost.Store(0)
	}
	if !q.mixed && a.folded.has(s) {
		s.foldsUntil.Store(until)
	}
	if s.slowUntil.Load() != 0 { // it does not keep us waiting
		s.slowUntil.Store(0)
	}
}

const (
	// habitFor is how long a server is asked as it likes it: without EDNS, or without
	// random case.
	habitFor = 5 * time.Minute
	// lostMeans is how many look-ups in a row have to be answered only without EDNS
	// before that is taken for a habit: a single datagram may have been lost.
	lostMeans = 2
)

// answered reads the answer, and asks on for the target of an alias when a server leaves
// the chain's end to the client. The whole chain is bounded.
func (a *asking) answered(got reply) {
	found, err := readAnswer(got.m, a.name, a.qtype)
	if err == nil && got.m.Truncated && len(found.Addrs) == 0 && found.Next == "" {
		err = &tcpError{errTruncated} // what was cut off may have been the address
	}
	if err == nil {
		err = a.total.extend(found)
	}
	switch {
	case err != nil:
		a.p.settle(a, Answer{}, &Error{Name: a.p.name, Server: serverName(got.q.s), Err: err})
	case a.total.Next == "":
		a.p.settle(a, a.total, nil)
	default:
		a.begin(a.total.Next)
	}
}

// silence counts, once, that the latest try got no answer in time.
func (a *asking) silence() {
	if a.counted {
		return
	}
	a.counted = true
	a.last.slowUntil.Store(a.p.r.clock() + slowFor)
	a.p.r.observe(Event{QueryTimeout, a.last.addr, "udp", a.interval})
}

// late ends it because the time of the look-up is over.
func (a *asking) late() {
	if a.p.ctx.Err() == context.DeadlineExceeded {
		a.silence()
	}
	if a.failure == nil {
		a.failure = &reply{q: &question{s: a.last}, err: os.ErrDeadlineExceeded}
	}
	a.p.settle(a, Answer{}, a.p.r.failure(a.p.name, a.failure))
}

// drop forgets the questions that have not ended.
func (a *asking) drop() {
	for _, q := range a.live {
		a.p.r.sockets.drop(q)
	}
	a.live = nil
}
