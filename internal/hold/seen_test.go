package hold

import "math/bits"

// seen is a set of keys. In a map each of them would take up three times as much.
type seen struct{ shards [256]shard }

// shard is an open-addressing table, of which a quarter at least is empty: a zero key is none.
type shard struct {
	slots []key
	n     int
}

func (s *seen) shard(k key) *shard { return &s.shards[k[0]>>24] }

func (s *seen) has(k key) bool {
	h := s.shard(k)
	return len(h.slots) > 0 && h.slots[h.find(k)] == k
}

// touch has where k would be read into the cache.
func (s *seen) touch(k key) uint32 {
	if h := s.shard(k); len(h.slots) > 0 {
		return h.slots[h.first(k)][0]
	}
	return 0
}

// add reports whether k was not there.
func (s *seen) add(k key) bool {
	h := s.shard(k)
	if 4*h.n >= 3*len(h.slots) {
		h.grow()
	}
	at := h.find(k)
	if h.slots[at] == k {
		return false
	}
	h.slots[at] = k
	h.n++
	return true
}

// first is where k is if no other is.
func (h *shard) first(k key) int {
	at, _ := bits.Mul64(uint64(k[1])<<32|uint64(k[2]), uint64(len(h.slots)))
	return int(at)
}

// find is where k is, or would be.
func (h *shard) find(k key) int {
	at := h.first(k)
	for h.slots[at] != k && h.slots[at] != (key{}) {
		if at++; at == len(h.slots) {
			at = 0
		}
	}
	return at
}

// grow makes the table larger by a third: one of 256 at a time, so that two of all are never there.
func (h *shard) grow() {
	old := h.slots
	h.slots = make([]key, max(16, len(old)*4/3))
	for _, k := range old {
		if k != (key{}) {
			h.slots[h.find(k)] = k
		}
	}
}
