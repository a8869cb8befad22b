package resolve

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// ways is the number of slots in which a name may lie.
const ways = 8

// entry is the outcome of one look-up. It is immutable but for used. Times are
// points on the resolver's clock.
type entry struct {
	name       string
	hash       uint64
	addrs      []netip.Addr
	err        error // nil, or an *Error; an interface, so that a hit returns it as it is
	expires    time.Duration
	staleUntil time.Duration // up to when addrs may be served while no server answers
	stale      bool          // addrs were past their time when this entry was made
	used       atomic.Bool   // hit since eviction last looked
	ahead      time.Duration // from when on a hit has it looked up again, before expires; 0: never
	asked      atomic.Bool   // that has happened
	parts      [2]part       // what the servers said of A and AAAA, each with its own time
}

// part is what is known of one family. Its time may be longer than the entry's: a
// name whose addresses change often need not be asked for its missing AAAA each time.
type part struct {
	asked string // the name that was asked for, one of the candidates; "" if not known
	addrs []netip.Addr
	code  string
	until time.Duration
}

// cache is a set-associative table: a name's hash picks a set of eight slots.
// Reading takes no lock and allocates nothing, and making room looks at eight
// entries, however many there are. The hash is seeded, so that names can't be
// chosen to fall into one set.
type cache struct {
	seed  maphash.Seed
	sets  uint64 // a power of two
	slots []atomic.Pointer[entry]
	mu    sync.Mutex // writers
}

// newCache holds at least n entries, at most the next power of two.
func newCache(n int) *cache {
	sets := uint64(1)
	for int(sets)*ways < n {
		sets *= 2
	}
	return &cache{
		seed:  maphash.MakeSeed(),
		sets:  sets,
		slots: make([]atomic.Pointer[entry], sets*ways),
	}
}

func (c *cache) set(hash uint64) []atomic.Pointer[entry] {
	first := (hash & (c.sets - 1)) * ways
	return c.slots[first : first+ways]
}

// get is the entry of name, however old, or nil.
func (c *cache) get(name string) *entry {
	hash := maphash.String(c.seed, name)
	set := c.set(hash)
	for i := range set {
		e := set[i].Load()
		if e == nil || e.hash != hash || e.name != name {
			continue
		}
		// Written once per turn of the eviction: a popular name's cache line stays shared.
		if !e.used.Load() {
			e.used.Store(true)
		}
		return e
	}
	return nil
}

// put makes e the entry of its name. In a full set an entry goes that is of no
// more use, else one that was not hit since the last eviction (second chance).
func (c *cache) put(e *entry, now time.Duration) {
	e.hash = maphash.String(c.seed, e.name)
	set := c.set(e.hash)
	c.mu.Lock()
	defer c.mu.Unlock()

	victim := -1
	for i := range set {
		old := set[i].Load()
		switch {
		case old != nil && old.hash == e.hash && old.name == e.name:
			set[i].Store(e)
			return
		case old == nil || now >= max(old.expires, old.staleUntil):
			victim = i
		}
	}
	for i := 0; victim < 0; i = (i + 1) % ways {
		if !set[i].Load().used.Swap(false) {
			victim = i
		}
	}
	set[victim].Store(e)
}

// len counts the entries, of whatever age.
func (c *cache) len() int {
	n := 0
	for i := range c.slots {
		if c.slots[i].Load() != nil {
			n++
		}
	}
	return n
}
