package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/serving"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/dial"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// turn is what sluice-kube hold says of whose turn it is. Who has no connection to it knows
// what it was told last: what is not held any more the kernel does not let out.
type turn struct {
	socket string
	log    *slog.Logger

	relieved context.Context // ends when it is time to drain
	relieve  context.CancelFunc

	mu      sync.Mutex
	leaving bool           // this replica is to end
	alone   time.Time      // since when there is no connection
	away    error          // why there is none
	heard   bool           // it was said once what is held
	time    time.Duration  // that there is to drain
	held    []netip.Addr   // none: it is another's turn
	fenced  bool           // they do not leave for now
	link    *serving.Proxy // nil: there is no connection
}

func newTurn(socket string, log *slog.Logger) *turn {
	t := &turn{socket: socket, log: log, away: errors.New("it was not tried yet")}
	t.relieved, t.relieve = context.WithCancel(context.Background())
	return t
}

// turnEvery is how often a connection is tried.
const turnEvery = 250 * time.Millisecond

// limit leaves s those sources only that are held.
func (t *turn) limit(s *policy.Set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Rest.Sources = s.Rest.Sources.Held(t.held)
	for i := range s.Tenants {
		s.Tenants[i].Sources = s.Tenants[i].Sources.Held(t.held)
	}
}

// hold takes down what is held, and reports whether that is another, and whether it was fenced
// until now.
func (t *turn) hold(h *serving.Held) (changed, lifted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed, lifted = !slices.Equal(t.held, h.Addrs), t.fenced && !h.Fenced
	t.held, t.fenced, t.heard = h.Addrs, h.Fenced, true
	return changed, lifted
}

// isFenced are the addresses that are held and do not leave for now.
func (t *turn) isFenced() []netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.fenced {
		return nil
	}
	return t.held
}

// sweep has connections live on while their address is fenced, until ctx ends.
func (t *turn) sweep(ctx context.Context) {
	look := time.NewTicker(dial.SweepEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if addrs := t.isFenced(); len(addrs) > 0 {
			dial.Fenced(addrs)
		}
	}
}

func (t *turn) connect(p *serving.Proxy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.link = p
	if p == nil {
		t.alone, t.away = time.Now(), errEnded
	} else if t.leaving {
		p.Say(serving.Said{Leaving: true}) // to another process than before
	}
}

// errEnded is why there is no connection just after there was one.
var errEnded = errors.New("the connection has ended")

// apart says why there is no connection.
func (t *turn) apart(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.away = err
}

// leave says that this replica is to end, and reports whether anybody is there to hear it.
func (t *turn) leave() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = true
	return t.link != nil && t.link.Say(serving.Said{Leaving: true}) == nil
}

// forsaken reports whether nobody has held anything for this replica for a while.
func (t *turn) forsaken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.link == nil && time.Since(t.alone) >= forsakenAfter
}

// say tells sluice-kube hold, and reports whether it is there.
func (t *turn) say(s serving.Said) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.link != nil && t.link.Say(s) == nil
}

// mayDrain says that it is time to drain, and how long there is for it.
func (t *turn) mayDrain(limit time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.time = limit
	t.relieve()
}

// within is the shorter of limit and the time that there is to drain.
func (t *turn) within(limit time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.relieved.Err() == nil {
		return limit
	}
	return min(limit, t.time)
}

// drained says so, and that no more is to come.
func (t *turn) drained() {
	if t != nil {
		t.say(serving.Said{Drained: true})
	}
}

// follow keeps a connection until ctx ends, and calls told for each line.
func (t *turn) follow(ctx context.Context, told func(serving.Told)) {
	for said := false; ctx.Err() == nil; {
		p, err := serving.Dial(ctx, t.socket, version)
		if err != nil {
			if t.apart(err); !said {
				t.log.Warn("sluice-kube hold cannot be reached: it is not known what is held here", "socket", t.socket, "error", err)
			}
			said = true
			select {
			case <-ctx.Done():
			case <-time.After(turnEvery):
			}
			continue
		}
		said = false
		t.connect(p)
		stop := context.AfterFunc(ctx, p.Close)
		for {
			line, err := p.Receive()
			if err != nil {
				break
			}
			told(line)
		}
		stop()
		t.connect(nil)
		p.Close()
	}
}

// followTurn puts in force what is held, from now on. What it returns is closed when ctx has
// ended and nobody follows any more.
func (d *daemon[C]) followTurn(ctx context.Context) <-chan struct{} {
	over := make(chan struct{})
	if d.turn == nil {
		close(over)
		return over
	}
	go func() {
		defer close(over)
		var sweeps sync.WaitGroup
		defer sweeps.Wait()
		sweeps.Go(func() { d.turn.sweep(ctx) })
		d.turn.follow(ctx, d.told)
	}()
	return over
}

// told does what sluice-kube hold says, in the order that serving.Server counts on.
func (d *daemon[C]) told(t serving.Told) {
	if t.Held != nil {
		changed, lifted := d.turn.hold(t.Held)
		if changed {
			contain.Reporter(d.panicked).Do(d.takeTurn)
			d.log.Info("the source addresses that are held here are others", "addresses", t.Held.Addrs)
			d.tellReady()
		}
		if lifted {
			dial.Lifted(t.Held.Addrs)
		}
	}
	if t.Cut {
		d.mode.cut()
	}
	if t.Drain != 0 {
		d.turn.mayDrain(time.Duration(t.Drain) * time.Millisecond)
	}
}

// forsakenAfter is for how long who is to end waits for sluice-kube hold to come back: what it has
// held is fenced by then.
const forsakenAfter = 5 * time.Second

// successorMost is how long a successor is waited for at most, whatever sluice-kube says: its own
// limit is shorter.
const successorMost = 10 * time.Minute

// handOver says that this replica is to end, and goes on as before until somebody can take over
// at once. It returns how long there is to drain.
func (d *daemon[C]) handOver(ctx context.Context, limit time.Duration, failed <-chan error, hangUp func()) (time.Duration, error) {
	if !d.turn.leave() {
		return limit, nil // nobody holds anything for us
	}
	d.log.Info("waiting for a successor, and still open to new connections")
	ctx, cancel := context.WithTimeout(ctx, successorMost)
	defer cancel()
	defer context.AfterFunc(d.now, cancel)()
	defer context.AfterFunc(d.turn.relieved, cancel)()
	go func() {
		look := time.NewTicker(turnEvery)
		defer look.Stop()
		for !d.turn.forsaken() {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
		}
		cancel()
	}()
	_, err := d.attend(ctx, failed, hangUp)
	return d.turn.within(limit), err
}
