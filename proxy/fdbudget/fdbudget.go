// Package fdbudget shares out the file descriptors of the process, so that the
// proxy refuses a client in words before the kernel refuses it a descriptor.
package fdbudget

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// reserve is what the budget leaves alone: the standard streams, listeners, the
// pollers, log and rule files (64), and the connections of the admin port, which must
// answer when nothing else can (64: admin.MaxConns). DNS takes its own out of the budget
// at start.
const reserve = 64 + 64

// Budget counts descriptors that may still be opened. Methods may be called
// concurrently and on nil, which knows no limit.
type Budget struct{ left atomic.Int64 }

// New returns a budget of n descriptors.
func New(n int64) *Budget {
	b := new(Budget)
	b.left.Store(n)
	return b
}

// FromLimit returns the budget that RLIMIT_NOFILE allows. Go has raised the soft
// limit to the hard one at start.
func FromLimit() (*Budget, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return nil, err
	}
	n := int64(min(lim.Cur, 1<<30))
	return New(max(n-reserve, n/2)), nil
}

// Take takes n descriptors out of the budget, or none and reports false. What
// was taken must be given back when the descriptors are closed.
func (b *Budget) Take(n int64) bool {
	if b == nil {
		return true
	}
	if b.left.Add(-n) >= 0 {
		return true
	}
	b.left.Add(n)
	return false
}

// Give puts n descriptors back.
func (b *Budget) Give(n int64) {
	if b != nil {
		b.left.Add(n)
	}
}

// Left returns how many descriptors may still be taken; -1 without a limit.
func (b *Budget) Left() int64 {
	if b == nil {
		return -1
	}
	return b.left.Load()
}
