package resolve

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// EventKind says what an [Event] counts.
type EventKind uint8

// The outcome of a look-up. Every call of [Resolver.Lookup] gives exactly one of
// the first eight.
const (
	CacheHit      EventKind = iota + 1 // addresses from the cache
	CacheNegative                      // a failure from the cache
	CacheStale                         // addresses past their time, from the cache
	CacheMiss                          // servers had to be asked; Duration is the wait
	Folded                             // joined a look-up under way; Duration is the wait
	Local                              // hosts file, localhost, or a name that is never asked
	Abandoned                          // the caller left before the answer

	TurnedAway // as many names as may be were being looked up already

	AddrsLeftOut // a name has more addresses than are kept
	LateAnswer   // the second family's answer came after the first had been given out; both are cached now
)

// The outcome of one query to one server; Server, Transport and Duration are set.
const (
	QueryAnswered      EventKind = iota + 32 // addresses, no data, or no such name
	QueryServerFailure                       // SERVFAIL or another failing response code
	QueryRefused                             // REFUSED
	QueryTruncated                           // truncated over UDP; TCP follows
	QueryTimeout                             // silence until the next try, or to the end
	QueryMalformed                           // an answer that can't be read
	QueryMismatch                            // a datagram that was no answer to the question, ignored
	QueryError                               // could not be sent or received (refused port, no descriptor)
)

var eventNames = map[EventKind]string{
	CacheHit: "hit", CacheNegative: "negative", CacheStale: "stale", CacheMiss: "miss",
	Folded: "folded", Local: "local", Abandoned: "abandoned", TurnedAway: "busy", LateAnswer: "late_answer", AddrsLeftOut: "addresses_left_out",
	QueryAnswered: "answered", QueryServerFailure: "servfail", QueryRefused: "refused",
	QueryTruncated: "truncated", QueryTimeout: "timeout", QueryMalformed: "malformed",
	QueryMismatch: "mismatch", QueryError: "error",
}

// String is the event's name, as metrics label it.
func (k EventKind) String() string {
	if s, ok := eventNames[k]; ok {
		return s
	}
	return "unknown"
}

// IsQuery reports whether k counts a query to a server rather than a look-up.
func (k EventKind) IsQuery() bool { return k >= QueryAnswered }

// Event is one thing worth counting. Observe is called from many goroutines.
type Event struct {
	Kind      EventKind
	Server    netip.AddrPort // queries only
	Transport string         // queries only: "udp" or "tcp"
	Duration  time.Duration  // 0 for what took no waiting
}

func (r *Resolver) observe(e Event) {
	if r.onEvent != nil {
		r.onEvent(e)
	}
}

// atomicDuration is a point on the resolver's clock, shared without a lock.
type atomicDuration struct{ n atomic.Int64 }

func (a *atomicDuration) Load() time.Duration   { return time.Duration(a.n.Load()) }
func (a *atomicDuration) Store(d time.Duration) { a.n.Store(int64(d)) }
