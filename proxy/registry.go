package proxy

import (
	"net/netip"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
)

// registry knows the open client connections. It is touched when a client comes
// and goes and by the sweeper, never by a request.
type registry struct {
	mu        sync.Mutex
	all       map[*conn]struct{}
	perClient map[netip.Addr]int
	empty     chan struct{} // closed when the last one goes; nil when nobody waits
}

// add takes c in, unless a limit says no. A limit of 0 is none.
func (r *registry) add(c *conn, most, mostPerClient int) (metrics.Refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	client := c.remote.Addr()
	if most > 0 && len(r.all) >= most {
		return metrics.TooManyConnections, false
	}
	if mostPerClient > 0 && r.perClient[client] >= mostPerClient {
		return metrics.TooManyFromClient, false
	}
	r.all[c] = struct{}{}
	r.perClient[client]++
	return 0, true
}

func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, c)
	client := c.remote.Addr()
	if r.perClient[client]--; r.perClient[client] == 0 {
		delete(r.perClient, client)
	}
	if len(r.all) == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// each calls f for every connection. f must not block.
func (r *registry) each(f func(*conn)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.all {
		f(c)
	}
}

// wait returns when no connection is open.
func (r *registry) wait() {
	r.mu.Lock()
	if len(r.all) == 0 {
		r.mu.Unlock()
		return
	}
	if r.empty == nil {
		r.empty = make(chan struct{})
	}
	empty := r.empty
	r.mu.Unlock()
	<-empty
}

// sweepEvery is how often the sweeper looks: often enough that a limit is passed
// by no more than a quarter of it, and a second is enough for any.
func sweepEvery(o Options) time.Duration {
	d := time.Second
	for _, limit := range []time.Duration{o.HeadTimeout, o.IdleTimeout, o.KeepAliveTimeout} {
		if limit > 0 {
			d = min(d, limit/4)
		}
	}
	return max(d, time.Millisecond)
}

// sweep moves the coarse clock and ends what has passed its time limit. A timer
// for each connection would have to be moved for each read, which costs more than
// the read.
func (s *Server) sweep() {
	t := time.NewTicker(s.tick)
	defer t.Stop()
	pool := time.Now()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-t.C:
			s.clock.Store(int64(now.Sub(s.start)))
			s.conns.each(func(c *conn) { c.expireIfLate() })
			if now.Sub(pool) >= time.Second {
				s.Gate.Pool.Sweep(now)
				pool = now
			}
		}
	}
}

// now is the coarse clock.
func (s *Server) now() time.Duration { return time.Duration(s.clock.Load()) }
