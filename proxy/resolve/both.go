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
	// patience is how long the flight itself waits for both answers, which takes neither
	// goroutines nor timers. What takes longer is worth some.
	patience = resolutionDelay
)

var families = [2]uint16{dns.TypeA, dns.TypeAAAA}

// both asks for A and AAAA side by side, less what is known and holds. When one family
// has addresses and the other tarries, early gets the outcome without it, and says
// whether to go on.
func (r *Resolver) both(ctx context.Context, u *upstream, name string, known *entry, early func(result) bool) result {
	b := pair{r: r, u: u, name: name, begin: time.Now()}
	for family, qtype := range families {
		if a, ok := known.part(family, name, r.clock()); ok {
			b.got[family] = &half{family, a, nil}
		} else {
			b.asked[family] = r.begin(u, name, qtype)
		}
	}
	if !b.quick(ctx) {
		return b.slow(ctx, early)
	}
	return r.merge(name, b.got)
}

// pair is a name being asked for.
type pair struct {
	r     *Resolver
	u     *upstream
	name  string
	begin time.Time
	asked [2]*asking // nil: known
	got   [2]*half   // nil: not yet
}

// quick waits for the first try's answers, and reports whether they were the whole.
// It gives up at once when there is more to do, and does not heed the end of ctx: that
// is for slow to see, soon enough.
func (b *pair) quick(ctx context.Context) bool {
	for family, q := range b.asked {
		if q == nil {
			continue
		}
		until := b.begin.Add(min(patience, q.interval))
		if end, ok := ctx.Deadline(); ok && end.Before(until) {
			until = end
		}
		q.first.wait(until)
		if !q.answered() {
			return false
		}
		a, err := readAnswer(q.first.m, q.name, q.qtype)
		if err != nil || a.Next != "" {
			return false
		}
		q.taken(reply{s: q.first.s})
		b.got[family] = &half{family, a, nil}
	}
	return true
}

// slow waits for the answers that quick did not get.
func (b *pair) slow(ctx context.Context, early func(result) bool) result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	halves := make(chan half, 2)
	var delay <-chan time.Time
	for family, q := range b.asked {
		switch {
		case b.got[family] == nil:
			b.r.running.Go(func() {
				a, err := b.r.follow(ctx, b.u, q)
				halves <- half{family, a, err}
			})
		case q == nil:
			delay = b.got[family].delay(b.begin)
		default:
			delay = b.got[family].delay(q.first.end)
		}
	}
	for b.got[0] == nil || b.got[1] == nil {
		select {
		case h := <-halves:
			b.got[h.family] = &h
			delay = h.delay(time.Now())
		case <-delay:
			o := b.r.merge(b.name, b.got)
			if o.err != nil {
				return o // NXDOMAIN holds for every type
			}
			if !early(o) {
				return o
			}
			delay = nil
		}
	}
	return b.r.merge(b.name, b.got)
}

// delay is when h, which was there at since, has held back for long enough for the
// other family; nil: it says too little to go without that.
func (h *half) delay(since time.Time) <-chan time.Time {
	switch {
	case h.family == 0 && (h.nx() || h.found()):
		return time.After(resolutionDelay - time.Since(since))
	case h.family == 1 && h.found():
		return time.After(slowA - time.Since(since))
	}
	return nil
}
