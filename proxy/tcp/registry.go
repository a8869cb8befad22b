package tcp

import (
	"sync"
	"time"
)

// registry knows the open sessions.
type registry struct {
	mu    sync.Mutex
	all   []*session    // each at its own session.at
	empty chan struct{} // closed when the last one goes; nil when nobody waits

	roundMu sync.Mutex // held by each
	round   []*session // whom each goes to, kept for the next time
}

// add takes x in, unless there are most already; 0: no limit.
func (r *registry) add(x *session, most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if most > 0 && len(r.all) >= most {
		return false
	}
	x.at = len(r.all)
	r.all = append(r.all, x)
	return true
}

func (r *registry) remove(x *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.all) - 1
	last := r.all[n]
	last.at = x.at
	r.all[x.at], r.all[n] = last, nil
	r.all = r.all[:n]
	if len(r.all) == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// each calls f for every session that is open when it begins. f may end one, but
// not call each.
func (r *registry) each(f func(*session)) {
	r.roundMu.Lock()
	defer r.roundMu.Unlock()
	r.mu.Lock()
	r.round = append(r.round[:0], r.all...)
	r.mu.Unlock()
	for i, x := range r.round {
		f(x)
		r.round[i] = nil
	}
}

// wait returns when no session is open. One caller at a time.
func (r *registry) wait() {
	r.mu.Lock()
	if len(r.all) == 0 {
		r.mu.Unlock()
		return
	}
	r.empty = make(chan struct{})
	empty := r.empty
	r.mu.Unlock()
	<-empty
}

// sweepEvery is how often idle sessions are looked for: the idle time is passed
// by so much at most.
const sweepEvery = 250 * time.Millisecond

// sweepAlways moves the coarse clock and ends idle sessions. A timer for each
// session would have to be moved for each read, which costs more than the read.
func (s *Server) sweepAlways() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-t.C:
			s.sweep(now)
		}
	}
}

// sweep does so once.
func (s *Server) sweep(now time.Time) {
	clock := int64(now.Sub(s.start))
	s.clock.Store(clock)
	idle := int64(s.live.Load().idleTimeout)
	s.conns.each(func(x *session) {
		defer s.Panicked.Recover(func() { x.cut(endReset) })
		x.sweep(clock, idle)
	})
}
