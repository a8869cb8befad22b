package proxy

import (
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
)

// member is an open client connection: a conn, or the tunnel that it has become.
// Its methods must not block, nor call the registry.
type member interface {
	client() netip.Addr
	slot() *int   // where it stands in registry.all, whose it is
	sweep()       // end it if a time limit has passed
	closeIfIdle() // the server drains
	cut()         // end it now
	Abandon()     // end it now, whatever state it is in
}

// registry knows the open client connections. It is touched when a client comes
// and goes and by the sweeper, never by a request.
type registry struct {
	mu        sync.Mutex
	all       []member
	perClient map[netip.Addr]int
	empty     chan struct{} // closed when the last one goes; nil when nobody waits

	roundMu sync.Mutex // held by each
	round   []member   // whom each goes to, kept for the next time
}

// add takes c in, unless a limit says no. A limit of 0 is none.
func (r *registry) add(c *conn, most, mostPerClient int) (metrics.Refusal, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	client := c.client()
	if most > 0 && len(r.all) >= most {
		return metrics.TooManyConnections, false
	}
	if mostPerClient > 0 && r.perClient[client] >= mostPerClient {
		return metrics.TooManyFromClient, false
	}
	c.at = len(r.all)
	r.all = append(r.all, c)
	r.perClient[client]++
	return 0, true
}

// replace lets b take the place of a.
func (r *registry) replace(a, b member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := *a.slot()
	*b.slot() = i
	r.all[i] = b
}

func (r *registry) remove(m member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.all) - 1
	i, last := *m.slot(), r.all[n]
	*last.slot() = i
	r.all[i], r.all[n] = last, nil
	r.all = r.all[:n]
	client := m.client()
	if r.perClient[client]--; r.perClient[client] == 0 {
		delete(r.perClient, client)
	}
	if len(r.all) == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// count is how many connections a client has.
func (r *registry) count(client netip.Addr) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.perClient[client]
}

// candidates are those that may give way: all but the tunnels.
func (r *registry) candidates() []candidate {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []candidate
	for _, m := range r.all {
		if c, ok := m.(*conn); ok {
			all = append(all, candidate{c, c.lives.Load(), c.client(), r.perClient[c.client()]})
		}
	}
	return all
}

// each calls f for every connection that is open when it begins. f may end one, but
// not call each.
func (r *registry) each(f func(member)) {
	r.roundMu.Lock()
	defer r.roundMu.Unlock()
	r.mu.Lock()
	r.round = append(r.round[:0], r.all...)
	r.mu.Unlock()
	for i, m := range r.round {
		f(m)
		r.round[i] = nil
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
	for _, limit := range []time.Duration{o.HeadTimeout, o.ConnectTimeout, o.IdleTimeout, o.KeepAliveTimeout, o.HalfCloseTimeout} {
		if limit > 0 {
			d = min(d, limit/4)
		}
	}
	return max(d, time.Millisecond)
}

// Opening a tunnel leaves a goroutine's stack and buffers behind, which the runtime
// keeps until a collection that a quiet proxy has no cause for. So many since the
// last time are worth one, so often at most.
const (
	trimOpened = 256
	trimEvery  = 10 * time.Second
)

// sweep moves the coarse clock and ends what has passed its time limit. A timer
// for each connection would have to be moved for each read, which costs more than
// the read.
func (s *Server) sweep() {
	t := time.NewTicker(s.tick)
	defer t.Stop()
	pool, trimmed := time.Now(), time.Time{}
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-t.C:
			s.clock.Store(int64(now.Sub(s.start)))
			s.conns.each(s.sweepOne)
			if now.Sub(pool) >= time.Second {
				s.Gate.Pool.Sweep(now)
				pool = now
			}
			if s.opened.Load() >= trimOpened && now.Sub(trimmed) >= trimEvery {
				s.opened.Store(0)
				trimmed = now
				debug.FreeOSMemory()
			}
		}
	}
}

// sweepOne is the sweeper's look at m, whose panic ends m alone.
func (s *Server) sweepOne(m member) {
	defer s.panicked.Recover(m.Abandon)
	m.sweep()
}

// now is the coarse clock.
func (s *Server) now() time.Duration { return time.Duration(s.clock.Load()) }
