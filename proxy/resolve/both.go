package resolve

import (
	"context"
	"time"

	"github.com/miekg/dns"
)

const (
	// resolutionDelay is how long an AAAA answer may hold an A answer back (RFC
	// 8305 section 3).
	resolutionDelay = 50 * time.Millisecond
	// slowA is how long an A answer may hold AAAA addresses back: longer, since
	// most networks that a gateway leaves by can do without IPv6, not without IPv4,
	// and since a lost datagram is sent again within it.
	slowA = 1500 * time.Millisecond
)

var families = [2]uint16{dns.TypeA, dns.TypeAAAA}

// pair is a name being asked for, both families side by side on one goroutine.
type pair struct {
	r     *Resolver
	ctx   context.Context
	end   []context.CancelFunc // of what is asked over TCP
	u     *upstream
	name  string
	mail  mailbox
	asked [2]asking
	got   [2]*half  // nil: not yet
	delay time.Time // when what is there has held back for long enough; zero: it says too little
}

// both asks for A and AAAA side by side, less what is known and holds. When one family
// has addresses and the other tarries, early gets the outcome without it, and says
// whether to go on.
func (r *Resolver) both(ctx context.Context, u *upstream, name string, known *entry, early func(result) bool) result {
	p := &pair{r: r, ctx: ctx, u: u, name: name, mail: mailbox{bell: make(chan struct{}, 1)}}
	for family, qtype := range families {
		a := &p.asked[family]
		a.p, a.family, a.qtype, a.total.TTL = p, family, qtype, maxTTL
		if answer, ok := known.part(family, name, r.clock()); ok {
			p.settle(a, answer, nil)
		} else {
			a.begin(name)
		}
	}
	defer p.drop()
	return p.wait(early)
}

// wait waits for the answers.
func (p *pair) wait(early func(result) bool) result {
	timer := time.NewTimer(p.next())
	defer timer.Stop()
	for p.got[0] == nil || p.got[1] == nil {
		select {
		case <-p.mail.bell:
			for _, got := range p.mail.empty() {
				p.take(got)
			}
		case <-timer.C:
			for family := range p.asked {
				a := &p.asked[family]
				if p.got[family] == nil && !a.due.IsZero() && !time.Now().Before(a.due) {
					a.silence()
					a.send()
				}
			}
			if !p.delay.IsZero() && !time.Now().Before(p.delay) {
				p.delay = time.Time{}
				// An error is NXDOMAIN, which holds for every type.
				if o := p.r.merge(p.name, p.got); o.err != nil || !early(o) {
					return o
				}
			}
		case <-p.ctx.Done():
			for family := range p.asked {
				if p.got[family] == nil {
					p.asked[family].late()
				}
			}
		}
		timer.Reset(p.next())
	}
	return p.r.merge(p.name, p.got)
}

// next is how long nothing is to be done, unless something comes.
func (p *pair) next() time.Duration {
	first := p.delay
	for family := range p.asked {
		if due := p.asked[family].due; p.got[family] == nil && !due.IsZero() && (first.IsZero() || due.Before(first)) {
			first = due
		}
	}
	if first.IsZero() {
		return p.r.timeout // the context ends before
	}
	return time.Until(first)
}

// take is for what came of a question. What belongs to a name before, or to a family
// that is settled, comes too late.
func (p *pair) take(got reply) {
	q := got.q
	a := &p.asked[q.family]
	if p.got[q.family] != nil || q.round != a.round {
		return
	}
	if !got.tcp && got.err != errFolded { // these have been observed
		p.r.observe(Event{outcome(got.err), q.s.addr, "udp", time.Since(q.begin)})
	}
	a.take(got)
}

// settle ends the asking of one family.
func (p *pair) settle(a *asking, answer Answer, err *Error) {
	a.drop()
	h := &half{a.family, answer, err}
	p.got[a.family] = h
	if d := h.patience(); d > 0 && p.got[1-a.family] == nil {
		p.delay = time.Now().Add(d)
	}
}

// drop forgets what has not been answered.
func (p *pair) drop() {
	for family := range p.asked {
		p.asked[family].drop()
	}
	for _, end := range p.end {
		end()
	}
}

// patience is for how long h may be held back by the other family; 0: it says too little
// to go without that.
func (h *half) patience() time.Duration {
	switch {
	case h.family == 0 && (h.nx() || h.found()):
		return resolutionDelay
	case h.family == 1 && h.found():
		return slowA
	}
	return 0
}
