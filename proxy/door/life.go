package door

import "sync/atomic"

// Why is the reason for which something open is ended from outside. The zero Why is none:
// it goes on, or ends by itself.
type Why uint8

const (
	Late     Why = 1 + iota // a time limit has passed
	Slow                    // the client sends or takes too little
	Gone                    // the client has reset the connection
	Shed                    // it has given way to another client
	Shutdown                // the door is closed
	Cut                     // somebody asked for that
	Revoked                 // what is in force now would not admit it
)

// perLife is what a Life counts by; what is below says why it was ended.
const perLife = 1 << 8

// Life is the life of what is used again for one client after the other: whoever comes too
// late for one must not end the next. The zero Life is the first one. Its methods may be
// called concurrently.
type Life struct{ v atomic.Uint64 }

// Lease is a look at a Life: who holds it can end that life, and no later one.
type Lease = uint64

// Look returns the life that it is now. Whoever wants to end it looks before anything else.
func (l *Life) Look() Lease { return l.v.Load() }

// Why is why it was ended from outside; 0: it was not.
func (l *Life) Why() Why { return Why(l.v.Load() % perLife) }

// End ends that life, once. It reports false when it was ended already, or is another by now.
func (l *Life) End(of Lease, why Why) bool {
	return of%perLife == 0 && l.v.CompareAndSwap(of, of+uint64(why))
}

// Stop is End that is content when that life was ended already. After it that life goes on to
// no other.
func (l *Life) Stop(of Lease, why Why) bool {
	if l.End(of, why) {
		return true
	}
	now := l.v.Load()
	return now/perLife == of/perLife && now%perLife != 0
}

// EndNow ends the life that it is now, and reports whether that was not ended yet.
func (l *Life) EndNow(why Why) bool {
	for {
		of := l.Look()
		if of%perLife != 0 || l.End(of, why) {
			return of%perLife == 0
		}
	}
}

// Again begins the next life, unless the one before was ended from outside: whoever did may
// still be at it, and the thing is left to the collector.
func (l *Life) Again() bool {
	of := l.v.Load()
	return of%perLife == 0 && l.v.CompareAndSwap(of, of+perLife)
}

// Revive takes an end for that reason back: there is still something to be said to the client.
func (l *Life) Revive(why Why) bool {
	of := l.v.Load()
	return Why(of%perLife) == why && why != 0 && l.v.CompareAndSwap(of, of-uint64(why))
}
