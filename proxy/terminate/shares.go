package terminate

import (
	"context"
	"math"
	"net/netip"
	"sync"
	"time"
)

const (
	atOnce    = 256                    // handshakes of a client of which none has failed lately
	endBurst  = 256                    // that may end well beside others, see Options.Often
	failBurst = 32                     // that may fail beside others
	failEvery = 100 * time.Millisecond // and then one in this time
	waitMost  = time.Second            // for one that waits, see Options.FloodWait
	mostKept  = 4096                   // clients
	lookedAt  = 16                     // clients that are looked at to make room for one
)

// Account is whom handshakes are counted to: an address, of IPv6 too, since pods of one node have
// theirs of one /64, and where one stands for many clients the tenant that the client is of.
type Account struct {
	Addr   netip.Addr
	Tenant string // "": not known yet
}

// shares bounds what the handshakes of each client may cost. A hello is the same bytes each time
// and costs who sends it nothing, and the proxy a key exchange and a signature: whoever has begun many
// that failed, or are not over, has the next ones wait, each until one of those before has come to a good end, its
// time is there, or it has waited for waitMost: an address may stand for many clients, and those beside one that
// floods must not be kept out by it. Those that come to a good end cost who begins them as much: they are
// as many as the client likes, up to how often it may while the proxy has others to serve. Nobody waits for another account. Its memory is
// bounded: of more clients than mostKept nothing is remembered, and they wait for their turns alone.
// Its methods may be called concurrently; the zero value is ready, and bounds those that fail alone.
type shares struct {
	mayOften func(client Account) int // see Options.Often; nil: as often as they like

	mu    sync.Mutex
	m     map[Account]*share
	start time.Time // what times are counted from: the wall clock may be set back; the zero Time: nothing has begun yet
}

// share is one client's account. When nothing is at work, nobody waits and both bursts are whole, it
// says nothing, and may be dropped. That of those that fail is kept as a time, and that of those that end
// well as a number: how often they may can change.
type share struct {
	free    int64         // when the burst of those that fail is whole again, in ns since the start: each failure moves it by failEvery
	spent   float64       // of the burst of those that end well
	at      int64         // when spent was so much, in ns since the start
	often   int           // what is paid back of it in a second
	working int           // handshakes that have begun and not ended
	waiting int           // and those that wait to begin
	first   chan struct{} // the place of who waits for longest; nil: nobody has waited yet
	ended   chan struct{} // is closed when one at work ends; nil: nobody waits for that
}

// begin returns when a handshake of the client may begin, and the account to end it with, which may be nil. It
// waits for most at most. there is called when it has to wait, for as long as the client is there: done is called when that is over.
func (f *shares) begin(client Account, most time.Duration, there func() (ctx context.Context, done func())) (*share, error) {
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
		ended, in := f.try(client, a)
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
func (f *shares) end(client Account, a *share, failed bool) {
	if a == nil {
		return
	}
	often := f.often(client)
	f.mu.Lock()
	defer f.mu.Unlock()
	a.working--
	now := f.now()
	switch {
	case failed:
		// Those that have waited for long enough are more than are due: they are not held against the client for ever.
		a.free = min(max(a.free, now)+int64(failEvery), max(a.free, now+2*failBurst*int64(failEvery)))
	case often > 0:
		a.payBack(now, often)
		a.spent = min(a.spent+1, endBurst)
	}
	if a.ended != nil {
		close(a.ended)
		a.ended = nil
	}
	if a.idle(now) {
		delete(f.m, client)
	}
}

// often is how many handshakes of the client may end well in a second; 0: there is no limit.
func (f *shares) often(client Account) int {
	if f.mayOften == nil {
		return 0
	}
	return f.mayOften(client)
}

// enter finds the client's account, and begins unless that has to wait, or others wait already.
func (f *shares) enter(client Account) (a *share, begun bool) {
	often := f.often(client)
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if a = f.account(client, now); a == nil {
		return nil, true
	}
	if a.waiting == 0 && a.due(now, often) == 0 {
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
func (f *shares) try(client Account, a *share) (ended <-chan struct{}, in time.Duration) {
	often := f.often(client)
	f.mu.Lock()
	defer f.mu.Unlock()
	if in = a.due(f.now(), often); in == 0 {
		a.working++
		return nil, 0
	}
	if a.ended == nil {
		a.ended = make(chan struct{})
	}
	return a.ended, in
}

// force begins one that has waited for long enough.
func (f *shares) force(a *share) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.working++
}

// now is the time since the first of all has begun. f.mu is held.
func (f *shares) now() int64 {
	if f.start.IsZero() {
		f.start = time.Now()
	}
	return int64(time.Since(f.start))
}

func (f *shares) stopWaiting(a *share) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a.waiting--
}

// account is the client's; nil: there is no room. f.mu is held.
func (f *shares) account(client Account, now int64) *share {
	if a := f.m[client]; a != nil {
		return a
	}
	if f.m == nil {
		f.m = map[Account]*share{}
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
	a := &share{}
	f.m[client] = a
	return a
}

// due is in how much time another may begin, unless one at work ends before; 0: now. Who has failed at nothing may be many
// behind one address, whose handshakes take as long as their way is; of who has, all that are at work may
// fail. often is how many may end well in a second; 0: as many as may be.
func (a *share) due(now int64, often int) time.Duration {
	behind := time.Duration(a.free - now)
	if behind <= 0 && a.working >= atOnce {
		return failEvery
	}
	if behind > 0 && a.working >= failBurst-int((behind+failEvery-1)/failEvery) {
		return (behind-1)%failEvery + 1 // then the burst has one more
	}
	if often == 0 {
		return 0
	}
	a.payBack(now, often)
	over := a.spent + float64(a.working+1-endBurst)
	return max(0, time.Duration(math.Ceil(over*float64(time.Second)/float64(often))))
}

// payBack brings spent up to date.
func (a *share) payBack(now int64, often int) {
	a.spent, a.at, a.often = a.left(now), now, often
}

// left is what is spent and not paid back yet.
func (a *share) left(now int64) float64 {
	return max(0, a.spent-time.Duration(now-a.at).Seconds()*float64(a.often))
}

func (a *share) idle(now int64) bool {
	return a.working == 0 && a.waiting == 0 && a.free <= now && a.left(now) == 0
}
