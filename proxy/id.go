package proxy

import "sync/atomic"

// idSource makes request ids: unlikely to repeat among processes, never within
// one, and told apart at a glance.
type idSource struct {
	seed uint64
	n    atomic.Uint64
}

func (s *idSource) next() uint64 {
	// An odd factor makes this a permutation of the counter.
	return s.seed ^ s.n.Add(1)*0x9e3779b97f4a7c15
}
