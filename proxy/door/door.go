// Package door knows what is open: each client's connection, and the tunnel that it may have
// become, of every front door. It lets clients in within the limits, has others give way when
// places run short, looks at all of them now and then, and ends them: one by one, by what
// they are, or all.
//
// Nothing of it is touched by a request. A client costs an entry when it comes and when it
// goes; what is open is described when somebody asks.
package door

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// Member is what is open at a door: a client's connection, or the tunnel that it has become.
// Its methods must not block, nor call the door's but Now, Draining and Cutting; they are
// called concurrently with everything that it does.
type Member interface {
	entry() *Entry // of the Entry that it embeds
	// Client is the address that counts for limits. It stays the same, but for Become.
	Client() netip.Addr
	// Sweep is the regular look: end it if a time limit has passed.
	Sweep()
	// Drain ends it unless a request or a tunnel is under way: no more are to come.
	Drain()
	// Cut ends that life of it now, and reports whether it has.
	Cut(of Lease, why Why) bool
	// CutIf ends it now if it is what which says, and reports whether it has. Nothing else
	// becomes of it in between.
	CutIf(which func(*Open) bool, why Why) bool
	// Abandon ends that life of it whatever state it is in: a look at it has panicked.
	Abandon(of Lease)
	// Room is what it would give way as now, and for how long it has been so.
	Room() (Room, time.Duration)
	// GiveWay ends that life of it if Room still allows that: at once, or soon.
	GiveWay(of Lease) (given, atOnce bool)
	// Describe says what is open, and reports false when nothing is any more.
	Describe(*Open) bool
}

// Entry is the place of a Member in a door. Members embed it.
type Entry struct {
	Life
	at      int  // in Door.all
	beside  bool // its client is counted for another member: see Limits.Beside
	grounds atomic.Pointer[grounds]
}

func (e *Entry) entry() *Entry { return e }

// places is how many descriptors each member takes: its own and its server's.
const places = 2

// Options is what a Door uses.
type Options struct {
	Budget *fdbudget.Budget // of descriptors; nil: no limit
	// Evict closes up to n idle connections, to make room in Budget, and says how many it
	// has; nil: there are none.
	Evict  func(n int) int
	Report contain.Reporter // is told of panics in looks; nil: nobody is
	Every  time.Duration    // between two looks at all; 0: a second
	// Swept, if not nil, is called after each look at all.
	Swept func(now time.Time)
	// Counted, if not nil, is called for each member that comes (1) and goes (-1).
	Counted func(int)
	// Gave, if not nil, is called for each that gives way.
	Gave func(Room)
}

// Door is a registry of what is open. Make it with New. Its methods may be called
// concurrently.
type Door struct {
	Options
	start time.Time
	clock atomic.Int64 // coarse: nanoseconds since start, moved by the sweeper

	draining atomic.Bool
	cutting  atomic.Bool
	stop     chan struct{}
	ended    sync.Once
	stopped  sync.WaitGroup

	mu        sync.Mutex
	all       []Member
	perClient map[netip.Addr]int
	empty     chan struct{} // closed when the last one goes; nil when nobody waits

	roundMu sync.Mutex // held by Each
	round   []Member   // whom Each goes to, kept for the next time
	rounds  bool       // it is under way. Under mu, as is
	late    []Member   // who has taken another's place meanwhile

	shedMu sync.Mutex
	queue  []candidate // the next to give way at the end
	queued time.Time   // when they were chosen

	free    chan struct{} // told when a place is free, if waiters
	waiters atomic.Int64  // newcomers that wait for a place
}

// New returns a door that nobody has come through. It runs a goroutine until Close.
func New(o Options) *Door {
	if o.Every == 0 {
		o.Every = time.Second
	}
	d := &Door{Options: o, start: time.Now(), stop: make(chan struct{}), free: make(chan struct{}, 1), perClient: make(map[netip.Addr]int)}
	d.stopped.Go(d.sweep)
	return d
}

// Now is the coarse clock: the time since New, as of the last look at all.
func (d *Door) Now() time.Duration { return time.Duration(d.clock.Load()) }

// Time is Now as a point in time.
func (d *Door) Time() time.Time { return d.start.Add(d.Now()) }

// Draining reports whether Drain was called: nobody new is let in.
func (d *Door) Draining() bool { return d.draining.Load() }

// Cutting reports whether CutAll was called.
func (d *Door) Cutting() bool { return d.cutting.Load() }

// Limits are how many may be open at once; 0 is no limit.
type Limits struct {
	Conns          int // in all
	ConnsPerClient int // of one client address
	// Beside says that the newcomer is of a client who has another member open for it, and is
	// not counted for the client a second time.
	Beside bool
}

// Refusal is why a newcomer is not let in. The zero Refusal is none.
type Refusal uint8

const (
	Full          Refusal = 1 + iota // too many are open
	NoDescriptors                    // the budget has none left
	TooMany                          // of that client
)

// Enter lets m in, with two descriptors for it, unless a limit says no.
func (d *Door) Enter(m Member, l Limits) Refusal {
	if !d.Budget.Take(places) && (d.Evict == nil || d.Evict(places) == 0 || !d.Budget.Take(places)) {
		return NoDescriptors
	}
	if why := d.add(m, l); why != 0 {
		d.Budget.Give(places)
		return why
	}
	if d.Counted != nil {
		d.Counted(1)
	}
	return 0
}

func (d *Door) add(m Member, l Limits) Refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	client := m.Client()
	if l.ConnsPerClient > 0 && d.perClient[client] >= l.ConnsPerClient {
		return TooMany // first: nobody gives way for that
	}
	if l.Conns > 0 && len(d.all) >= l.Conns {
		return Full
	}
	m.entry().at = len(d.all)
	d.all = append(d.all, m)
	if m.entry().beside = l.Beside; !l.Beside {
		d.perClient[client]++
	}
	return 0
}

// Become has m count as another client's from now on, unless that has as many as it may. change
// is called within, and has m.Client return that client. Until then m is no tunnel.
func (d *Door) Become(m Member, client netip.Addr, l Limits, change func()) Refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.ConnsPerClient > 0 && d.perClient[client] >= l.ConnsPerClient {
		return TooMany
	}
	d.uncount(m.Client())
	d.perClient[client]++
	change()
	return 0
}

// uncount is called with mu held.
func (d *Door) uncount(client netip.Addr) {
	if d.perClient[client]--; d.perClient[client] == 0 {
		delete(d.perClient, client)
	}
}

// Replace lets b, which is of the same client, take the place of a.
func (d *Door) Replace(a, b Member) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := a.entry().at
	b.entry().at, b.entry().beside = i, a.entry().beside
	d.all[i] = b
	if d.rounds {
		d.late = append(d.late, b)
	}
}

// Leave forgets a member whose connections are closed.
func (d *Door) Leave(m Member) {
	d.Budget.Give(places)
	if d.Counted != nil {
		d.Counted(-1)
	}
	d.remove(m)
	if d.waiters.Load() > 0 {
		select {
		case d.free <- struct{}{}:
		default:
		}
	}
}

func (d *Door) remove(m Member) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.all) - 1
	i, last := m.entry().at, d.all[n]
	last.entry().at = i
	d.all[i], d.all[n] = last, nil
	d.all = d.all[:n]
	if !m.entry().beside {
		d.uncount(m.Client())
	}
	if len(d.all) == 0 && d.empty != nil {
		close(d.empty)
		d.empty = nil
	}
}

// Len is how many are open.
func (d *Door) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

// Others reports whether there are clients beside that one.
func (d *Door) Others(client netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.perClient)
	if d.perClient[client] > 0 {
		n--
	}
	return n > 0
}

// Drain lets no more in, and ends what waits for a request. It may be called again, for those
// that were on their way in.
func (d *Door) Drain() {
	d.draining.Store(true)
	d.Each(Member.Drain)
}

// Wait returns when nothing is open, or ctx has ended: false then.
func (d *Door) Wait(ctx context.Context) bool {
	select {
	case <-d.gone():
		return true
	case <-ctx.Done():
		return false
	}
}

// gone is closed when nothing is open.
func (d *Door) gone() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.empty == nil {
		d.empty = make(chan struct{})
	}
	c := d.empty
	if len(d.all) == 0 {
		close(c)
		d.empty = nil
	}
	return c
}

// CutAll ends everything that is open.
func (d *Door) CutAll() {
	d.cutting.Store(true)
	d.Each(func(m Member) { m.Cut(m.entry().Look(), Shutdown) })
}

// Close ends the looks. Nothing may be open. It may be called again.
func (d *Door) Close() {
	d.ended.Do(func() { close(d.stop) })
	d.stopped.Wait()
}
