package terminate

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

const (
	atOnce    = 256                    // handshakes of a client of which none has failed lately
	failBurst = 32                     // that may fail beside others
	failEvery = 100 * time.Millisecond // and then one in this time
	waitMost  = time.Second            // for one that waits, see Options.FloodWait
	mostKept  = 4096                   // clients
	lookedAt  = 16                     // clients that are looked at to make room for one
)

// Account is whom failed handshakes are counted to: an address, of IPv6 too, since pods of one node have
// theirs of one /64, and where one stands for many clients the tenant that the client is of.
type Account struct {
	Addr   netip.Addr
	Tenant string // "": not known yet
}

// failures bounds what handshakes may cost that come to nothing. A hello is the same bytes each time
// and costs who sends it nothing, and the proxy a key exchange and a signature: whoever has begun many
// that failed, or are not over, has the next ones wait, each until one of those before has come to a good end, its
// time is there, or it has waited for waitMost: an address may stand for many clients, and those beside one that
// floods must not be kept out by it. Nobody waits for another account. Its memory is
// bounded: of more clients than mostKept nothing is remembered, and they wait for their turns alone.
// Its methods may be called concurrently; the zero value is ready.
type failures struct {
	mu    sync.Mutex
	m     map[Account]*failing
	start time.Time // what times are counted from: the wall clock may be set back; the zero Time: nothing has begun yet
}

// failing is one client's account. When nothing is at work, nobody waits and the burst is whole, it
// says nothing, and may be dropped.
type failing struct {
	free    int64         // when the burst is whole again, in ns since the start: each failure moves it by failEvery
	working int           // handshakes that have begun and not ended
	waiting int           // and those that wait to begin
	first   chan struct{} // the place of who waits for longest; nil: nobody has waited yet
	ended   chan struct{} // is closed when one at work ends; nil: nobody waits for that
}

// begin returns when a handshake of the client may begin, and the account to end it with, which may be nil. It
// waits for most at most. there is called when it has to wait, for as long as the client is there: done is called when that is over.
func (f *failures) begin(client Account, most time.Duration, there func() (ctx context.Context, done func())) (*failing, error) {
	a, now := f.enter(client)
	if now {
		return a, nil
	}
	defer f.stopWaiting(a)
	ctx, done := there()
	defer done()
	over := time.NewTimer(most)
	defer over.Stop()
	select {
	case a.first <- struct{}{}:
	case <-over.C:
		f.force(a)
		return a, nil
	case <-ctx.Done():
		return nil, errFlood
	}
	defer func() { <-a.first }()
	for {
		ended, in := f.try(a)
		if ended == nil {
			return a, nil
		}
		timer := time.NewTimer(in)
		select {
		case <-ended:
		case <-timer.C:
		case <-over.C:
			timer.Stop()
			f.force(a)
			return a, nil
		case <-ctx.Done():
			timer.Stop()
			return nil, errFlood
		}
		timer.Stop()
	}
}

// end ends a handshake that has begun.
func (f *failures) end(client Account, a *failing, failed bool) {
	if a == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a.working--
	now := f.now()
	if failed {
		// Those that have waited for long enough are more than are due: they are not held against the client for ever.
		a.free = min(max(a.free, now)+int64(failEvery), max(a.free, now+2*failBurst*int64(failEvery)))
	}
	if a.ended != nil {
		close(a.ended)
		a.ended = nil
	}
	if a.idle(now) {
		delete(f.m, client)
	}
}

// enter finds the client's account, and begins unless that has to wait, or others wait already.
func (f *failures) enter(client Account) (a *failing, begun bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if a = f.account(client, now); a == nil {
		return nil, true
	}
	if a.waiting == 0 && a.may(now) {
		a.working++
		return a, true
	}
	if a.first == nil {
		a.first = make(chan struct{}, 1)
	}
	a.waiting++
	return a, false
}

// try begins one that waits in the first place; else it may be tried again when ended is closed, or
// that time has passed.
func (f *failures) try(a *failing) (ended <-chan struct{}, in time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if a.may(now) {
		a.working++
		return nil, 0
	}
	if a.ended == nil {
		a.ended = make(chan struct{})
	}
	return a.ended, a.next(now)
}

// force begins one that has waited for long enough.
func (f *failures) force(a *failing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.working++
}

// now is the time since the first of all has begun. f.mu is held.
func (f *failures) now() int64 {
	if f.start.IsZero() {
		f.start = time.Now()
	}
	return int64(time.Since(f.start))
}

func (f *failures) stopWaiting(a *failing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.waiting--
}

// account is the client's; nil: there is no room. f.mu is held.
func (f *failures) account(client Account, now int64) *failing {
	if a := f.m[client]; a != nil {
		return a
	}
	if f.m == nil {
		f.m = map[Account]*failing{}
	}
	if len(f.m) >= mostKept {
		n := 0
		for k, old := range f.m {
			if old.idle(now) {
				delete(f.m, k)
			}
			if n++; n == lookedAt {
				break
			}
		}
	}
	if len(f.m) >= mostKept {
		return nil
	}
	a := &failing{}
	f.m[client] = a
	return a
}

// may reports whether another may begin. Who has failed at nothing may be many behind one address, whose
// handshakes take as long as their way is; of who has, all that are at work may fail.
func (a *failing) may(now int64) bool {
	behind := a.free - now
	if behind <= 0 {
		return a.working < atOnce
	}
	return a.working < failBurst-int((behind+int64(failEvery)-1)/int64(failEvery))
}

// next is in how much time the burst has one more; a moment when it is whole.
func (a *failing) next(now int64) time.Duration {
	if behind := time.Duration(a.free - now); behind > 0 {
		return (behind-1)%failEvery + 1
	}
	return failEvery
}

func (a *failing) idle(now int64) bool { return a.working == 0 && a.waiting == 0 && a.free <= now }
