package hold

import (
	"sync"
	"time"
)

// noon is the time at which forms are kept: long after the 0 that stands for never.
const noon = 1000

// form is what all replicas, or Leases, that canon writes alike have in common: one of them, at
// noon, and its names.
type form struct {
	part
	replica  *replica
	lease    Lease
	lets     bool // its kernel lets the address out
	prunable bool
}

// part is a replica, or the Lease of the store: which form, and with which names.
type part struct {
	form          uint32
	count         uint16 // of nonces that the process has given out
	names, nonces []name
}

// parts are a world, small. What a replica does next depends on its own part and the Lease's
// alone, but for a check that sees who else lets the address out; so what has been found for one
// world serves in all others in which these two are the same: see memo.
type parts struct {
	faults           int
	version, process uint16
	all              [4]part // the Lease is the last one
}

const theLease = 3

// forms are those that were met.
type forms struct {
	mu    sync.RWMutex
	known map[string]uint32
	list  [1 << 12]*[1 << 12]form
}

func newForms() *forms { return &forms{known: map[string]uint32{}} }

// of is the form with the number id.
func (f *forms) of(id uint32) *form { return &f.list[id>>12][id&(1<<12-1)] }

// number is that of the form that canon has written; first makes it if there is none yet.
func (f *forms) number(written []byte, first func() form) uint32 {
	f.mu.RLock()
	id, ok := f.known[string(written)]
	f.mu.RUnlock()
	if ok {
		return id
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if id, ok := f.known[string(written)]; ok {
		return id
	}
	id = uint32(len(f.known))
	if f.list[id>>12] == nil {
		f.list[id>>12] = new([1 << 12]form)
	}
	*f.of(id) = first()
	f.known[string(written)] = id
	return id
}

// shifted is s with all its times later by d.
func shifted(s State, d time.Duration) State {
	for _, t := range []*time.Duration{
		&s.now, &s.gone, &s.due, &s.backoff, &s.changed, &s.contact, &s.heldTill, &s.lastAck, &s.left, &s.drainAt, &s.since, &s.try.asked,
	} {
		*t += d
	}
	return s
}
