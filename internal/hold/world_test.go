package hold

import (
	"slices"
	"strconv"
	"time"
)

// world is all there is: a Lease in a store with compare-and-swap, and for each replica its
// State, its kernel, and what is on its way between them. A world is not changed once it is
// there: do makes another, and shares what has stayed.
//
// Nothing happens by itself. Time may pass, or any one thing be done, in any order: a process
// that is frozen is one that nothing is done with.
type world struct {
	lease    Lease // of the store
	replicas [3]*replica
	tick     int // real time
	version  int // of the last write of the store
	process  int // of the process that was started last
	faults   int // that may still come
}

// replica is one pod: two processes and a network namespace.
type replica struct {
	s       State
	kernel  kernel
	asks    []Action    // for the privileged process, in their order, not done
	answers []Happening // of it, in their order, not delivered
	late    []Action    // asks that nobody waits for: done at any time, or never
	calls   []Action    // to the API server, not done
	replies []Happening // of it, not delivered
	strays  []Action    // calls that nobody waits for: done at any time, or never
	echoes  []Happening // replies that nobody waits for: delivered at any time, or never
	ended   bool        // Done was said
}

// kernel is the fence, with what is left of its timeouts by the clock of its machine, in ms,
// and 1 more: what is due at a tick is still there then, since a tick stands for all times
// from it to the next.
type kernel struct {
	held    int
	pending []pending
}

type pending struct {
	nonce Nonce
	left  int
}

// rules are those of a world.
type rules struct {
	replicas int
	set      [3]Settings
	rate     [3]int // of the clocks: ms for each tick of real time
	faults   int    // how many may come on one way; less than 0: as many as there can be
	kinds    faultKind
	flaws    flaws

	// coarse joins what the privileged process does with its answer, and what the store reads
	// with its: the spaces become smaller by an order. What is lost is what happens between
	// the two: see TestFine.
	coarse bool
	// blind has checks not see who else answers, as when the network between is cut: what
	// keeps two from holding is the fence and the Lease, but with Keep.
	blind bool
	// alike says that of replicas with the same settings and clocks it does not matter which is
	// which.
	alike bool
	// fresh begins with processes that have just started and no Lease; else they are standbys
	// that have just seen one that nobody holds.
	fresh bool
	// holding begins with one that has just begun to hold.
	holding bool
}

// flaws are what negative controls do wrong.
type flaws struct {
	bareAdd      bool // commit adds held, whatever is pending
	anyNonce     bool // pending is one element, whose ever
	earlyLetGone bool // LetGo is answered, and done at some time
	earlyPrepare bool // Prepare is answered, and done at some time before the commit
	sameName     bool // the identity is a name that comes back
	createTakes  bool // a missing Lease is taken by creating it
	anyVersion   bool // writes have no precondition
	mend         func(*State, Happening) Happening
}

// names reports whether it matters what a name is, and not only which others it is equal to.
func (f *flaws) names() bool { return f.sameName || f.mend != nil }

type faultKind uint

const (
	restart   faultKind = 1 << iota // sluice-kube is started again
	restart2                        // so is sluice-netsetup hold: what is asked is lost, the kernel stays
	timeout                         // no answer in time, by either side
	double                          // a call is done twice
	stranger                        // somebody writes the Lease
	deleted                         // somebody deletes it
	noGateway                       // a check fails
	sigterm                         // and, once the process has ended, a new one
	proxyGone                       // the proxy is gone, or back
	heard                           // another MAC is heard
)

// class is the same for those of which it does not matter which is which: the first of them.
func (r *rules) class(i int) int {
	for j := range i {
		if r.alike && r.set[j] == r.set[i] && r.rate[j] == r.rate[i] {
			return j
		}
	}
	return i
}

func versionName(n int) string { return "v" + strconv.Itoa(n) }

func newWorld(r *rules) *world {
	w := &world{lease: Lease{Missing: true}, faults: max(r.faults, 0)}
	for i := range r.replicas {
		w.replicas[i] = &replica{}
		w.start(r, i)
	}
	sound := *r
	sound.flaws.mend = nil
	r = &sound
	for !r.fresh && !w.settled(r) {
		for i := range r.replicas {
			w.work(r, i)
		}
	}
	for r.holding && w.holders() == 0 {
		w.pass(r)
		w.work(r, 0)
		w.feed(r, 0, Tick{})
		for i := range r.replicas {
			w.work(r, i)
		}
	}
	return w
}

// settled reports whether all are standbys that have seen the same Lease.
func (w *world) settled(r *rules) bool {
	for i := range r.replicas {
		p := w.replicas[i]
		if p.s.mode != standby || p.s.lease.Version != w.see(r).Version || len(p.calls)+len(p.replies) > 0 {
			return false
		}
	}
	return true
}

// work does all that is on its way for i, in order, as it is when nothing is frozen and
// nothing fails; that nobody waits for never arrives.
func (w *world) work(r *rules, i int) {
	w.change(i)
	p := w.replicas[i]
	p.late, p.strays, p.echoes = nil, nil, nil
	for range 1000 {
		switch see := w.see(r); {
		case len(p.answers) > 0:
			h := p.answers[0]
			p.answers = p.answers[1:]
			w.feed(r, i, h)
		case len(p.replies) > 0:
			h := p.replies[0]
			p.replies = p.replies[1:]
			w.feed(r, i, h)
		case len(p.asks) > 0:
			a := p.asks[0]
			p.asks = p.asks[1:]
			p.answers = with(p.answers, w.perform(r, i, a))
		case len(p.calls) > 0:
			a := p.calls[0]
			p.calls = p.calls[1:]
			p.replies = with(p.replies, w.serve(r, a))
		case !p.ended && (!p.s.known || see.Version != p.s.lease.Version || see.Missing != p.s.lease.Missing):
			w.feed(r, i, Seen{Lease: see})
		default:
			return
		}
	}
	panic("there is always something to do: " + w.picture(r))
}

// start starts sluice-kube of i, as another process.
func (w *world) start(r *rules, i int) {
	w.process++
	self := Identity{Pod: string(rune('A' + i)), Process: uint64(w.process)}
	if r.flaws.sameName {
		self = identityOf(1)
	}
	old := w.replicas[i]
	p := &replica{kernel: old.kernel, late: slices.Concat(old.late, old.asks), strays: slices.Concat(old.strays, old.calls)}
	p.late, p.strays = youngest(p.late), youngest(p.strays)
	w.replicas[i] = p
	s, actions := New(self, r.set[i])
	p.s = s
	w.dispatch(r, i, actions)
	w.feed(r, i, Proxy{Serving: true})
	w.feed(r, i, Permit{OK: true})
}

// youngest bounds what may be on its way with nobody waiting: what is older never arrives.
func youngest[T any](s []T) []T { return slices.Clone(s[max(0, len(s)-1):]) }

// local is the time of the clock of i.
func (w *world) local(r *rules, i int) time.Duration {
	return time.Duration(w.tick*r.rate[i]) * time.Millisecond
}

// feed has i take a step, and puts what it does on its way: that it has not been done yet is
// what freezing between two actions is.
func (w *world) feed(r *rules, i int, what Happening) {
	p := w.replicas[i]
	if r.flaws.mend != nil {
		what = r.flaws.mend(&p.s, what)
	}
	s, actions := Step(p.s, Event{w.local(r, i), what})
	p.s = s
	w.dispatch(r, i, actions)
	p.forget()
}

// forget puts aside what nobody waits for any more: a driver may drop such answers, and Step
// must ignore them.
func (p *replica) forget() {
	waits := func(ph phase, n Nonce) bool { return p.s.try.phase == ph && p.s.try.nonce == n }
	p.asks, p.late = split(p.asks, p.late, func(a Action) bool {
		switch a := a.(type) {
		case Check:
			return waits(checking, a.Nonce)
		case Prepare:
			return waits(preparing, a.Nonce)
		case Commit:
			return waits(committing, a.Nonce)
		}
		return true
	})
	p.answers, _ = split(p.answers, nil, func(h Happening) bool {
		switch h := h.(type) {
		case Checked:
			return waits(checking, h.Nonce)
		case Prepared:
			return waits(preparing, h.Nonce)
		case Committed:
			return waits(committing, h.Nonce)
		}
		return h.(LetGone).Nonce == p.s.asked
	})
	p.calls, p.strays = split(p.calls, p.strays, func(a Action) bool {
		if a, ok := a.(WriteLease); ok {
			return waits(writing, a.Nonce)
		}
		return p.s.reading == a.(ReadLease).Nonce
	})
	p.replies, p.echoes = split(p.replies, p.echoes, func(h Happening) bool {
		switch h := h.(type) {
		case Written:
			return waits(writing, h.Nonce)
		case Seen:
			return p.s.reading == h.Read
		}
		return true
	})
}

// split moves from list to others what does not belong there.
func split[T any](list, others []T, belongs func(T) bool) (kept, moved []T) {
	for j := range list {
		if !belongs(list[j]) {
			goto needed
		}
	}
	return list, others
needed:
	for _, x := range list {
		if belongs(x) {
			kept = append(kept, x)
		} else {
			others = youngest(with(others, x))
		}
	}
	return kept, others
}

// prune drops what can have no effect any more, whatever comes.
func (w *world) prune(r *rules) {
	for i := range r.replicas {
		w.pruneOf(r, i)
	}
}

// pruneOf is prune for replica i: it drops a write on a version that is not the last one, since
// versions do not come back; a question; a prepare that nobody will commit, and a commit of what
// is not pending.
func (w *world) pruneOf(r *rules, i int) {
	p := w.replicas[i]
	if r.flaws.anyNonce || r.flaws.anyVersion || r.flaws.bareAdd || !p.prunable() {
		return
	}
	q := *p
	pends := func(n Nonce) bool {
		return slices.ContainsFunc(p.kernel.pending, func(e pending) bool { return e.nonce == n })
	}
	q.late = keep(p.late, func(a Action) bool {
		if c, ok := a.(Commit); ok {
			return pends(c.Nonce)
		}
		_, ok := a.(LetGo)
		return ok || r.flaws.earlyPrepare
	})
	q.strays = keep(p.strays, func(a Action) bool {
		c, ok := a.(WriteLease)
		return ok && c.Base.Version == w.see(r).Version && (c.Base.Missing == w.lease.Missing || r.flaws.createTakes)
	})
	q.echoes = keep(p.echoes, func(h Happening) bool {
		e, ok := h.(Seen)
		return ok && (!p.s.known || e.Lease.Version != p.s.lease.Version || e.Lease.Missing != p.s.lease.Missing)
	})
	q.kernel.pending = keep(p.kernel.pending, func(e pending) bool {
		return p.s.try.nonce == e.nonce || slices.ContainsFunc(q.late, func(a Action) bool {
			c, ok := a.(Commit)
			return ok && c.Nonce == e.nonce
		})
	})
	w.replicas[i] = &q
}

// prunable reports whether there is anything that prune may drop.
func (p *replica) prunable() bool {
	return len(p.late)+len(p.strays)+len(p.echoes)+len(p.kernel.pending) > 0
}

func keep[T any](list []T, which func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return !which(x) })
}

func (w *world) dispatch(r *rules, i int, actions []Action) {
	p := w.replicas[i]
	for _, a := range actions {
		switch a := a.(type) {
		case Prepare, Commit, LetGo, Check:
			p.asks = with(p.asks, a)
		case ReadLease, WriteLease:
			p.calls = with(p.calls, a)
		case Drain:
			p.replies = with(p.replies, Happening(Drained{}))
		case Done:
			p.ended = true
		}
		switch a := a.(type) {
		case LetGo:
			if r.flaws.earlyLetGone {
				w.feed(r, i, LetGone{a.Nonce, true})
			}
		case Prepare:
			if r.flaws.earlyPrepare {
				w.feed(r, i, Prepared{a.Nonce, true})
			}
		}
	}
}

func with[T any](s []T, more ...T) []T { return slices.Concat(s, more) }
func without[T any](s []T, i int) []T  { return slices.Concat(s[:i], s[i+1:]) }
func (w *world) change(i int) *replica { p := *w.replicas[i]; w.replicas[i] = &p; return &p }
func (w *world) fork() *world          { v := *w; return &v }
func (w *world) lets(i int) bool       { return w.replicas[i] != nil && w.replicas[i].kernel.held > 0 }

// holders are how many kernels let the address out: the invariant is that it is one at most.
func (w *world) holders() (n int) {
	for i := range w.replicas {
		if w.lets(i) {
			n++
		}
	}
	return n
}

// pass lets real time pass by a tick.
func (w *world) pass(r *rules) {
	w.tick++
	for i := range r.replicas {
		w.passOf(r, i)
	}
}

// passOf is what a tick does to the kernel of i.
func (w *world) passOf(r *rules, i int) {
	p := w.change(i)
	k := kernel{held: max(p.kernel.held-r.rate[i], 0)}
	for _, e := range p.kernel.pending {
		if e.left -= r.rate[i]; e.left > 0 {
			k.pending = append(k.pending, e)
		}
	}
	p.kernel = k
}

// perform does a in the kernel of i, as one transaction, and gives the answer.
func (w *world) perform(r *rules, i int, a Action) Happening {
	k := &w.replicas[i].kernel
	find := func(n Nonce) int {
		return slices.IndexFunc(k.pending, func(e pending) bool { return e.nonce == n || r.flaws.anyNonce })
	}
	switch a := a.(type) {
	case Prepare:
		k.pending = with(k.pending, pending{a.Nonce, ms(a.For) + 1})
		if r.flaws.anyNonce {
			k.pending = k.pending[len(k.pending)-1:]
		}
		return Prepared{a.Nonce, true}
	case Commit:
		at := find(a.Nonce)
		if !r.flaws.bareAdd {
			if at < 0 || a.Renewing && k.held == 0 {
				return Committed{Nonce: a.Nonce}
			}
			k.pending = without(k.pending, at)
		}
		k.held = ms(a.For) + 1
		return Committed{a.Nonce, true}
	case LetGo:
		*k = kernel{}
		return LetGone{a.Nonce, true}
	}
	c := a.(Check)
	alone := true
	for j := range r.replicas {
		alone = alone && (j == i || !w.lets(j) || r.blind)
	}
	return Checked{Nonce: c.Nonce, Up: true, Gateway: true, Alone: alone}
}

func ms(d time.Duration) int { return int(d / time.Millisecond) }

// serve does a in the store, and gives the answer.
func (w *world) serve(r *rules, a Action) Happening {
	switch a := a.(type) {
	case ReadLease:
		return Seen{a.Nonce, w.see(r)}
	case WriteLease:
		if a.Base.Missing != w.lease.Missing && !r.flaws.createTakes || a.Base.Version != w.see(r).Version && !r.flaws.anyVersion {
			return Written{Nonce: a.Nonce, Outcome: Conflict}
		}
		l := a.Lease
		l.Missing = false
		if w.lease.Missing {
			l.UID = versionName(w.version + 1)
		}
		w.put(l)
		return Written{a.Nonce, Acknowledged, w.lease.UID, w.lease.Version}
	}
	panic("no call")
}

// see is the Lease as it is read.
func (w *world) see(r *rules) Lease {
	if w.lease.Missing && r.flaws.createTakes {
		return Lease{Version: "none"}
	}
	return w.lease
}

func (w *world) put(l Lease) {
	w.version++
	l.Version = versionName(w.version)
	w.lease = l
}

// failed is the answer to a that a driver makes up when it has none.
func failed(a Action) Happening {
	switch a := a.(type) {
	case Prepare:
		return Prepared{Nonce: a.Nonce}
	case Commit:
		return Committed{Nonce: a.Nonce}
	case LetGo:
		return LetGone{Nonce: a.Nonce}
	case Check:
		return Checked{Nonce: a.Nonce}
	case ReadLease:
		return Unread{a.Nonce}
	}
	return Written{Nonce: a.(WriteLease).Nonce}
}

// unanswered is failed, for a reply that is lost.
func unanswered(h Happening) Happening {
	switch h := h.(type) {
	case Seen:
		return Unread{h.Read}
	case Written:
		return Written{Nonce: h.Nonce}
	}
	return nil
}
