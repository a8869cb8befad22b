package policy

import (
	"math"
	"sync/atomic"
	"time"
)

// Usage is what a tenant has in use, and had: for its limits and for the metrics. The zero
// Usage is one of a tenant that has done nothing. Its methods may be called concurrently.
type Usage struct {
	open atomic.Int64 // requests and tunnels under way
	due  atomic.Int64 // when the next request is due at the average rate, in nanoseconds since epoch

	Allowed, Denied           atomic.Int64 // requests that have ended
	OverConnections, OverRate atomic.Int64 // requests refused by a limit
	ReceivedBytes, SentBytes  atomic.Int64 // of bodies and tunnels, from clients and to them
	_                         [32]byte     // so that two tenants' don't share a line of the cache
}

// epoch is what Usage counts time from: the monotonic clock's.
var epoch = time.Now()

// Open is how many requests and tunnels are under way.
func (u *Usage) Open() int64 { return u.open.Load() }

// Request counts a request that has come, and reports how long the client is to wait when it
// is one too many for l: the average rate with bursts, as the generic cell rate algorithm
// has it (ITU-T I.371).
func (u *Usage) Request(l *Limits) (wait time.Duration, ok bool) {
	if l.RequestsPerSecond <= 0 {
		return 0, true
	}
	each := time.Duration(float64(time.Second) / l.RequestsPerSecond)
	burst := l.Burst
	if burst == 0 {
		burst = max(1, int(math.Ceil(l.RequestsPerSecond)))
	}
	now := time.Since(epoch)
	for {
		due := u.due.Load()
		at := max(time.Duration(due), now)
		if early := at - now - time.Duration(burst-1)*each; early > 0 {
			u.OverRate.Add(1)
			return early, false
		}
		if u.due.CompareAndSwap(due, int64(at+each)) {
			return 0, true
		}
	}
}

// Hold takes a place for what is under way, if l has one: whoever has it gives it back by
// Release, once.
func (u *Usage) Hold(l *Limits) bool {
	if n := u.open.Add(1); l.Connections > 0 && n > int64(l.Connections) {
		u.open.Add(-1)
		u.OverConnections.Add(1)
		return false
	}
	return true
}

// Release gives a place back.
func (u *Usage) Release() { u.open.Add(-1) }

// Ended counts a request that has ended. The nil Usage counts nothing.
func (u *Usage) Ended(allowed bool) {
	switch {
	case u == nil:
	case allowed:
		u.Allowed.Add(1)
	default:
		u.Denied.Add(1)
	}
}

// Moved counts bytes from a client and to it. The nil Usage counts nothing.
func (u *Usage) Moved(received, sent int64) {
	if u == nil {
		return
	}
	if received > 0 {
		u.ReceivedBytes.Add(received)
	}
	if sent > 0 {
		u.SentBytes.Add(sent)
	}
}
