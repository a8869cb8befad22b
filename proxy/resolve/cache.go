package resolve

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// ways is the number of slots in which a name may lie.
const ways = 8

// entry is the outcome of one look-up. It is immutable but for used and asked. Times
// are points on the resolver's clock.
type entry struct {
	name       string
	hash       uint64
	addrs      []netip.Addr
	err        error // nil, or an *Error; an interface, so that a hit returns it as it is
	expires    time.Duration
	staleUntil time.Duration // up to when addrs may be served while no server answers
	busy       bool          // nobody was asked: it is not cached
	stale      bool          // addrs were past their time when this entry was made
	used       atomic.Bool   // hit since eviction last looked
	ahead      time.Duration // from when on a hit has it looked up again, before expires; 0: never
	asked      atomic.Bool   // that has happened
	parts      [2]part       // what the servers said of A and AAAA, each with its own time
}

// size is about how many bytes e holds on to. The addresses of a part are mostly those
// of the entry.
func (e *entry) size() int64 {
	n := int(unsafe.Sizeof(*e)) + len(e.name) + cap(e.addrs)*addrSize
	for i := range e.parts {
		p := &e.parts[i]
		if len(p.asked) != len(e.name) {
			n += len(p.asked)
		}
		if len(p.addrs) > 0 && !within(p.addrs, e.addrs) {
			n += cap(p.addrs) * addrSize
		}
	}
	if err, ok := e.err.(*Error); ok {
		n += int(unsafe.Sizeof(*err)) + len(err.Server)
		if err.Err != nil {
			n += errorSize
		}
	}
	return int64(n)
}

const (
	addrSize  = int(unsafe.Sizeof(netip.Addr{}))
	errorSize = 128 // of a cause, about
)

// within reports whether part is some of all's own memory.
func within(part, all []netip.Addr) bool {
	for i := range all {
		if &all[i] == &part[0] {
			return true
		}
	}
	return false
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
// chosen to fall into one set. All entries together are bounded in bytes as well, since
// one may be a hundred times the size of another.
type cache struct {
	seed  maphash.Seed
	sets  uint64 // a power of two
	slots []atomic.Pointer[entry]
	most  int64 // bytes

	mu   sync.Mutex // writers
	size int64      // bytes
	hand int        // the slot at which making room for bytes goes on
}

// newCache holds at least n entries, at most the next power of two, and at most so many
// bytes of them.
func newCache(n int, bytes int64) *cache {
	sets := uint64(1)
	for int(sets)*ways < n {
		sets *= 2
	}
	return &cache{
		seed:  maphash.MakeSeed(),
		sets:  sets,
		slots: make([]atomic.Pointer[entry], sets*ways),
		most:  bytes,
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
// more use, else one that was not hit since the last eviction (second chance). So it is
// in the whole table when it holds too many bytes.
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
			c.store(&set[i], e)
			c.shrink(e, now)
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
	c.store(&set[victim], e)
	c.shrink(e, now)
}

// store puts e, or nil, into a slot. c.mu is held.
func (c *cache) store(slot *atomic.Pointer[entry], e *entry) {
	if old := slot.Load(); old != nil {
		c.size -= old.size()
	}
	if e != nil {
		c.size += e.size()
	}
	slot.Store(e)
}

// shrink makes room until the bound in bytes holds; latest goes last. c.mu is held.
func (c *cache) shrink(latest *entry, now time.Duration) {
	for left := 2 * len(c.slots); c.size > c.most && left > 0; left-- {
		slot := &c.slots[c.hand]
		c.hand = (c.hand + 1) % len(c.slots)
		e := slot.Load()
		if e == nil || e == latest {
			continue
		}
		if now >= max(e.expires, e.staleUntil) || !e.used.Swap(false) {
			c.store(slot, nil)
		}
	}
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
