//go:build linux

package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are 1/64 of their value wide.
type histogram struct {
	counts [64 * 64]uint32
	n      int
	max    int64
}

func (h *histogram) add(ns int64) {
	h.counts[bucket(ns)]++
	h.n++
	h.max = max(h.max, ns)
}

func bucket(ns int64) int {
	u := uint64(max(ns, 0))
	if u < 64 {
		return int(u)
	}
	shift := bits.Len64(u) - 7
	return (shift+1)*64 + int(u>>shift) - 64
}

// middle is the middle of a bucket.
func middle(i int) int64 {
	if i < 64 {
		return int64(i)
	}
	shift := i/64 - 1
	low := int64(i%64+64) << shift
	return low + int64(1)<<shift/2
}

// quantile is the duration below which the share q lies.
func (h *histogram) quantile(q float64) time.Duration {
	want := int(q * float64(h.n))
	for i, c := range h.counts {
		if want -= int(c); want < 0 {
			return time.Duration(middle(i))
		}
	}
	return time.Duration(h.max)
}
