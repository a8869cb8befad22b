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

const hexDigits = "0123456789abcdef"

// appendID appends id as 16 hex digits.
func appendID(b []byte, id uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[id>>shift&15])
	}
	return b
}
