package resolve

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/proxy/contain"
)

const (
	// partialTTL bounds how long addresses are used without asking for the other
	// family again, when that failed.
	partialTTL = 10 * time.Second
	// staleTTL is how long stale addresses are served before the servers are tried
	// again (RFC 8767 section 5, failure recheck timer).
	staleTTL = 30 * time.Second
	// staleWait is how long callers wait for servers before they get stale addresses
	// (RFC 8767 section 5, client response timer).
	staleWait = 1800 * time.Millisecond
	// maxLate bounds the flights that go on for the second family after the first
	// has been given out. Nobody waits for them, so no limit on callers bounds them:
	// names whose servers never answer AAAA could use up the descriptors.
	maxLate = 128
	// Between one and three twentieths of the time that addresses hold are left when a
	// hit has them looked up again. It is a tenth on average, as unbound does it, and
	// costs a tenth more questions; it is drawn for each entry, so that names which came
	// together part, rather than be looked up all at once for ever.
	aheadParts = 20
	aheadMost  = 3
	// maxEarly bounds the flights ahead of time, for which nobody waits either. Where
	// it holds one back, a later hit starts it, or else the first miss.
	maxEarly = 128
)

// flight is one look-up of a name by the servers, for all who want it meanwhile.
type flight struct {
	name   string
	done   chan struct{} // closed when e is set
	e      *entry
	cancel context.CancelFunc

	// Under Resolver.mu.
	waiters   int
	published bool
}

// join takes part in the flight of name, or starts it. It returns an entry
// instead when one has come into the cache meanwhile.
func (r *Resolver) join(name string) (f *flight, first bool, e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false, &entry{name: name, err: &Error{Name: name, Err: ErrClosed}}
	}
	if f = r.flights[name]; f != nil {
		f.waiters++
		return f, false, nil
	}
	old := r.cache.get(name)
	now := r.clock()
	if old != nil && now < old.expires {
		return nil, false, old
	}
	if r.aloft >= r.maxNames {
		if old != nil && len(old.addrs) > 0 && now < old.staleUntil {
			return nil, false, r.staleEntry(old)
		}
		return nil, false, &entry{name: name, busy: true, err: &Error{Name: name, Kind: Busy, Err: busyError(r.maxNames)}}
	}
	name = strings.Clone(name) // it may be part of something large
	return r.start(name, old, func() {}), true, nil
}

// start starts the flight of name, with one who waits; old is what is known of it,
// or nil. r.mu is held.
func (r *Resolver) start(name string, old *entry, ended func()) *flight {
	ctx, cancel := context.WithTimeout(r.base, r.timeout)
	f := &flight{name: name, done: make(chan struct{}), cancel: cancel, waiters: 1}
	r.flights[name] = f
	r.aloft++
	r.running.Go(func() {
		defer func() {
			cancel()
			ended()
			r.mu.Lock()
			defer r.mu.Unlock()
			r.aloft--
		}()
		defer r.reports().Recover(func() {
			r.publish(f, &entry{name: name, err: &Error{Name: name, Kind: ServerFailure, Err: errFault}})
		})
		r.fly(ctx, f, old)
	})
	return f
}

// errFault is what those are told who wait for a look-up that has panicked.
var errFault = errors.New("a fault of the proxy")

// reports tells the log of a panic, which ends one look-up alone.
func (r *Resolver) reports() contain.Reporter {
	if r.log == nil {
		return nil
	}
	return contain.Log(r.log, func() {})
}

// busyError says how many names are being looked up.
type busyError int

func (e busyError) Error() string {
	return fmt.Sprintf("%d names are being looked up already; do the DNS servers answer?", int(e))
}

// lookAhead looks name up anew while e, which is near its end, still serves. Only one
// hit of an entry has that effect.
func (r *Resolver) lookAhead(name string, e *entry) {
	if r.early.Load() >= maxEarly || !e.asked.CompareAndSwap(false, true) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.flights[name] != nil {
		return
	}
	if r.aloft >= r.maxNames {
		e.asked.Store(false)
		return
	}
	if r.early.Add(1) > maxEarly {
		r.early.Add(-1)
		e.asked.Store(false)
		return
	}
	r.start(e.name, e, func() { r.early.Add(-1) })
}

// leave is for a caller that waits no longer. The last one to leave ends the
// flight; others keep it.
func (r *Resolver) leave(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && !f.published {
		f.published = true // nobody is there to publish to
		delete(r.flights, f.name)
		f.cancel()
	}
}

// publish caches e and gives it to all who wait. Only the first call for a flight
// reaches them; a later one still renews the cache.
func (r *Resolver) publish(f *flight, e *entry) {
	now := r.clock()
	if now < e.expires {
		r.cache.put(e, now)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.published {
		return
	}
	f.published = true
	f.e = e
	delete(r.flights, f.name)
	close(f.done)
}

// fly asks the servers and publishes what they say; old is what is known from
// before, or nil.
func (r *Resolver) fly(ctx context.Context, f *flight, old *entry) {
	known := old
	if old != nil && (len(old.addrs) == 0 || r.clock() >= old.staleUntil) {
		old = nil
	}
	if old != nil {
		// Those who come meanwhile get the stale answer too; the flight goes on.
		timer := time.AfterFunc(r.staleWait, func() { r.publish(f, r.staleEntry(old)) })
		defer timer.Stop()
	}
	late := false
	o := r.search(ctx, f.name, known, func(o result) bool {
		r.publish(f, r.entryOf(f.name, o))
		late = r.late.Add(1) <= r.maxLate
		if !late {
			r.late.Add(-1)
		}
		return late
	})
	if late {
		defer r.late.Add(-1)
	}
	failed := o.err != nil && o.err.Kind != NotFound
	if failed && errors.Is(ctx.Err(), context.Canceled) {
		// Close, or nobody waits any more: no news about the name.
		o = result{err: &Error{Name: f.name, Err: ErrClosed, local: true}}
	}
	if failed && old != nil {
		e := r.staleEntry(old)
		if o.err.local {
			e.expires = 0
		}
		r.publish(f, e)
		return
	}
	r.publish(f, r.entryOf(f.name, o))
	if o.more {
		r.tooMany(f.name)
	}
	if late && o.err == nil && !o.partial {
		r.observe(Event{Kind: LateAnswer})
	}
}

// tooMany tells that a name has more addresses than are kept, not more than once a minute
// in the log.
func (r *Resolver) tooMany(name string) {
	r.observe(Event{Kind: AddrsLeftOut})
	now := r.clock()
	until := r.quiet.Load()
	if r.log != nil && now >= until && r.quiet.n.CompareAndSwap(int64(until), int64(now+time.Minute)) {
		r.log.Warn("a name has too many addresses: those behind the first are neither judged nor used", "name", name, "limit", maxAddrs)
	}
}

// entryOf is o as the cache keeps it.
func (r *Resolver) entryOf(name string, o result) *entry {
	e := &entry{name: name, addrs: o.addrs, expires: r.clock() + o.ttl, parts: o.parts}
	if o.err != nil {
		e.err = o.err
		return e
	}
	e.staleUntil = e.expires + r.staleFor
	part := o.ttl / aheadParts
	e.ahead = e.expires - part - rand.N((aheadMost-1)*part+1)
	return e
}

// staleEntry lets old live on until the servers are tried again.
func (r *Resolver) staleEntry(old *entry) *entry {
	return &entry{
		name: old.name, addrs: old.addrs, stale: true,
		expires:    min(r.clock()+staleTTL, old.staleUntil),
		staleUntil: old.staleUntil,
	}
}

// search asks for the candidates of name, one after the other, until one exists.
// A failure ends it: the next candidate is another host, and a name must not
// change its meaning because a server had a bad moment. known is what was known
// before, or nil.
func (r *Resolver) search(ctx context.Context, name string, known *entry, early func(result) bool) result {
	u := *r.conf.get(r.clock())
	var o result
	ttl := maxTTL
	for _, candidate := range u.candidates(name) {
		o = r.both(ctx, u, candidate, known, early)
		if o.err == nil {
			return o
		}
		o.err.Name = name
		if o.err.Kind != NotFound {
			return o
		}
		ttl = min(ttl, o.ttl)
	}
	o.ttl = ttl
	return o
}
