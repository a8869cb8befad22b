package policy

import (
	"sync/atomic"
	"time"
)

// Health is how a parent has fared with those who went by it. Nobody asks it besides: what is
// down is tried again by a request. The zero Health is up. Its methods may be called concurrently.
type Health struct {
	down   atomic.Int64 // since started, in ns: until when it is left alone; 0: it is up
	silent atomic.Int32 // connections in a row on which it has not answered, or not as a proxy

	outcomes [Outcomes]atomic.Uint64
}

// Outcome is what came of going by a parent.
type Outcome uint8

const (
	Opened       Outcome = iota // it has opened a tunnel, or takes requests
	Unreachable                 // no connection, or no TLS
	Silent                      // no answer in time
	Broken                      // an answer that is none
	Unavailable                 // 5xx: it does not get there either
	Forbidden                   // 403, or another answer by which it will not
	LoginRefused                // 407: what the gateway shows it does not hold

	Outcomes int = iota // how many there are
)

var outcomeNames = [Outcomes]string{"opened", "unreachable", "silent", "broken", "unavailable", "forbidden", "login_refused"}

// String returns the word that the metrics have.
func (o Outcome) String() string { return outcomeNames[o] }

// DownFor is for how long a parent is left alone that cannot be reached, while there is another.
const DownFor = 10 * time.Second

// silentMost is how many connections in a row a parent may leave without a good answer: one may
// be its destination's fault, which a client can choose.
const silentMost = 3

var started = time.Now()

// Up reports whether nothing is known against the parent.
func (h *Health) Up() bool { return h.down.Load() == 0 }

// Try reports whether a request is to go by the parent now: it is up, or it is this request's
// turn to find out.
func (h *Health) Try() bool {
	until := h.down.Load()
	now := time.Since(started)
	return until == 0 || int64(now) >= until && h.down.CompareAndSwap(until, int64(now+DownFor))
}

// Ended takes down what came of going by it.
func (h *Health) Ended(o Outcome) {
	h.outcomes[o].Add(1)
	switch o {
	case Silent, Broken:
		if h.silent.Add(1) < silentMost {
			return
		}
	case Unreachable:
	default:
		h.silent.Store(0)
		h.down.Store(0)
		return
	}
	h.down.Store(int64(time.Since(started) + DownFor))
}

// Count is how often that has come of it.
func (h *Health) Count(o Outcome) uint64 { return h.outcomes[o].Load() }
