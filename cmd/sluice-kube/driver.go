package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/hold"
	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/serving"
)

// tickEvery is how often a decision is asked for when nothing else happens: often enough that
// what is due is late by little beside Renew.
const tickEvery = 50 * time.Millisecond

// pollEvery is how often a Lease is read that the watch has said nothing of.
const pollEvery = time.Second

// group is a group of addresses, as sluice-netsetup hold has it, and its Lease.
type group struct {
	holding.Group
	lease string
}

// driver does what hold.Pool decides, and tells it what becomes of that. One goroutine has the
// pool; whatever may take a while is done on another, and its answer is an event.
type driver struct {
	log       *slog.Logger
	start     time.Time
	groups    []group
	leases    *leases
	kernel    *kernel
	proxies   *serving.Server
	endpoints *endpoints // nil: there is no Service
	notes     *notes

	pool   hold.Pool
	events queue
	ctx    context.Context // of what was asked for
	cancel context.CancelFunc
	asked  sync.WaitGroup

	lease     time.Duration // L
	mu        sync.Mutex
	published map[int]bool          // whether the group is to be in the EndpointSlice
	telling   map[int]bool          // it has not come about yet
	wake      map[int]chan struct{} // whoever sees to that
	seen      map[int]time.Time
}

// newDriver returns a driver that works until ctx ends, at most. Its other fields are set before
// post and run.
func newDriver(ctx context.Context, log *slog.Logger) *driver {
	d := &driver{log: log, start: time.Now(), events: queue{more: make(chan struct{}, 1)},
		published: map[int]bool{}, telling: map[int]bool{}, wake: map[int]chan struct{}{}, seen: map[int]time.Time{}}
	d.ctx, d.cancel = context.WithCancel(ctx)
	return d
}

// post tells the pool, after what was told before. It does not wait.
func (d *driver) post(group int, what hold.Happening) { d.events.put(groupEvent{group, what}) }

// run drives until nothing is held and nothing is left to do, after hold.Leave; or until its
// context ends, which leaves what is held to the kernel.
func (d *driver) run(self hold.Identity, set hold.Settings) {
	defer d.asked.Wait()
	defer d.cancel()
	defer d.settle()
	d.lease = set.Lease
	for i := range d.groups {
		d.asked.Go(func() { d.follow(i) })
	}
	var first []hold.GroupAction
	d.pool, first = hold.NewPool(self, len(d.groups), set)
	d.begin(first)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for !d.pool.Ended() {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
			d.step(groupEvent{hold.Every, hold.Tick{}})
		case <-d.events.more:
			for _, e := range d.events.take() {
				d.step(e)
			}
		}
		d.notes.status(d.groups, d.pool, time.Since(d.start))
	}
}

// step has the pool take an event in, and begins what it decides.
func (d *driver) step(e groupEvent) {
	var actions []hold.GroupAction
	d.pool, actions = d.pool.Step(e.group, hold.Event{At: time.Since(d.start), What: e.what})
	d.begin(actions)
}

// begin begins actions in their order.
func (d *driver) begin(actions []hold.GroupAction) {
	for _, a := range actions {
		d.act(a.Group, a.Action)
	}
}

// act begins one action. What adds, removes and announces addresses is part of what
// sluice-netsetup hold does for Commit and LetGo.
func (d *driver) act(i int, action hold.Action) {
	g := d.groups[i]
	switch a := action.(type) {
	case hold.ReadLease:
		d.ask(i, func(ctx context.Context) hold.Happening {
			l, err := d.leases.get(ctx, g.lease)
			if err != nil {
				d.notes.api(err)
				return hold.Unread{Read: a.Nonce}
			}
			return hold.Seen{Read: a.Nonce, Lease: l}
		})
	case hold.WriteLease:
		d.ask(i, func(ctx context.Context) hold.Happening {
			w, err := d.leases.write(ctx, g.lease, a)
			d.notes.api(err)
			return w
		})
	case hold.Check:
		d.ask(i, func(ctx context.Context) hold.Happening { return d.kernel.check(ctx, g.Name, a) })
	case hold.Prepare:
		d.ask(i, func(ctx context.Context) hold.Happening { return d.kernel.prepare(ctx, g.Name, a) })
	case hold.Commit:
		d.ask(i, func(ctx context.Context) hold.Happening { return d.kernel.commit(ctx, g.Name, a) })
	case hold.Probe:
		d.ask(i, func(ctx context.Context) hold.Happening { return d.kernel.probe(ctx, g.Name, a) })
	case hold.LetGo:
		d.ask(i, func(ctx context.Context) hold.Happening { return d.kernel.letGo(ctx, g.Name, a) })
	case hold.CutSockets:
		d.proxies.Tell(serving.Told{Cut: true, Held: &serving.Held{}})
	case hold.Drain:
		d.proxies.Tell(serving.Told{Drain: a.For.Milliseconds()})
	case hold.Publish:
		d.publish(i, a.On)
	case hold.Note:
		if a.Kind == hold.Took || a.Kind == hold.Lifted || a.Kind == hold.Fenced { // here, so that it is in order with CutSockets
			d.proxies.Tell(serving.Told{Held: &serving.Held{Group: g.Name, Addrs: g.Addrs, Fenced: a.Kind == hold.Fenced}})
		}
		d.notes.say(g, a)
	}
}

// ask does something that may take a while, and tells the pool its answer.
func (d *driver) ask(i int, f func(context.Context) hold.Happening) {
	d.asked.Go(func() { d.post(i, f(d.ctx)) })
}

// follow tells the pool what the group's Lease says, by a watch, and by asking while that says
// nothing.
func (d *driver) follow(i int) {
	var longest time.Duration // of what others have announced; guarded by mu
	seen := func(l hold.Lease) {
		d.mu.Lock()
		d.seen[i] = time.Now()
		need := hold.Wait(l.Bound)
		news := need > max(d.lease, longest)
		longest = max(longest, need)
		d.mu.Unlock()
		if news {
			d.warnOf(d.groups[i], l, need)
		}
		d.post(i, hold.Seen{Lease: l})
	}
	var poll sync.WaitGroup
	defer poll.Wait()
	poll.Go(func() {
		for sleep(d.ctx, pollEvery) {
			d.mu.Lock()
			quiet := time.Since(d.seen[i]) >= pollEvery
			d.mu.Unlock()
			if !quiet {
				continue
			}
			if l, err := d.leases.get(d.ctx, d.groups[i].lease); err == nil {
				seen(l)
			} else {
				d.post(i, hold.Unread{})
			}
		}
	})
	for sleep(d.ctx, apiDeadline) {
		d.leases.watch(d.ctx, d.groups[i].lease, seen)
	}
}

// warnOf says that a Lease is waited for longer than L, which is mended here if a replica wrote it,
// and in the Lease if it was a stranger.
func (d *driver) warnOf(g group, l hold.Lease, need time.Duration) {
	about := []any{"group", g.Name, "lease", g.lease, "holder", l.Holder, "needed", need, "holdLease", d.lease}
	if l.Written() {
		d.log.Warn("another replica holds for longer than the L of this one covers: make --hold-lease longer here, as must be done before P and V are; if no replica is set so, somebody else has written into the Lease", about...)
		return
	}
	d.log.Warn("the Lease has times in it that no replica has written, and is waited for as long as they say: see who may write it", about...)
}

// publish sees to it that the group's EndpointSlices come to have this pod, or not to.
func (d *driver) publish(i int, on bool) {
	if d.endpoints == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.published[i], d.telling[i] = on, true
	if wake := d.wake[i]; wake != nil {
		select {
		case wake <- struct{}{}:
		default:
		}
		return
	}
	wake := make(chan struct{}, 1)
	d.wake[i] = wake
	d.asked.Go(func() { d.keepPublishing(i, wake) })
}

// republishEvery is how often a holder looks whether it is in the EndpointSlices yet: who has held
// before may write late, and be the last to write.
const republishEvery = 2 * time.Second

// keepPublishing sees to that until the process ends.
func (d *driver) keepPublishing(i int, wake <-chan struct{}) {
	for {
		d.mu.Lock()
		on := d.published[i]
		d.mu.Unlock()
		ctx, cancel := context.WithTimeout(d.ctx, 4*apiDeadline)
		err := d.endpoints.publish(ctx, d.groups[i].Name, on)
		cancel()
		again := republishEvery
		if err != nil {
			again = apiDeadline / 2
			if !errors.Is(err, context.Canceled) {
				d.notes.published(err)
			}
		}
		d.mu.Lock()
		if err == nil && d.published[i] == on {
			d.telling[i] = false
		}
		d.mu.Unlock()
		var due <-chan time.Time
		if on || err != nil {
			due = time.After(again)
		}
		select {
		case <-d.ctx.Done():
			return
		case <-wake:
		case <-due:
		}
	}
}

// settle waits until what is to be in the EndpointSlices is, for a moment.
func (d *driver) settle() {
	for range 100 {
		d.mu.Lock()
		busy := false
		for _, telling := range d.telling {
			busy = busy || telling
		}
		d.mu.Unlock()
		if !busy || !sleep(d.ctx, 2*apiDeadline/100) {
			return
		}
	}
}

// sleep waits for so long, and reports whether ctx is still on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
