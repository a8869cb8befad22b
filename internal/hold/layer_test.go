package hold

import "math"

// nodes say of each world that was reached from which other it was, by which of its moves. They
// grow without being copied, and take up 5 bytes a world.
type nodes struct {
	n       int
	parents [][]int32
	moves   [][]uint8
}

const perNodes = 1 << 20

func (l *nodes) of(n int) (parent, move int) {
	return int(l.parents[n/perNodes][n%perNodes]), int(l.moves[n/perNodes][n%perNodes])
}

func (l *nodes) add(parent, move int) {
	if parent > math.MaxInt32 || move > math.MaxUint8 {
		panic("too many worlds, or moves of one")
	}
	if l.n%perNodes == 0 {
		l.parents, l.moves = append(l.parents, make([]int32, 0, perNodes)), append(l.moves, make([]uint8, 0, perNodes))
	}
	at := l.n / perNodes
	l.parents[at], l.moves[at] = append(l.parents[at], int32(parent)), append(l.moves[at], uint8(move))
	l.n++
}

// slab are some worlds, as coder.flat writes them, and where each begins.
type slab struct {
	data []uint16
	at   []uint32
}

// perSlab is how many worlds are gone on from at a time, by all processors.
const perSlab = 4096

func (s *slab) of(i int) []uint16 { return s.data[s.at[i]:] }

// layer are worlds of one depth.
type layer struct {
	slabs []*slab
	spare []*slab
}

func (l *layer) add(world []uint16) {
	if n := len(l.slabs); n == 0 || len(l.slabs[n-1].at) == perSlab {
		s := &slab{}
		if f := len(l.spare); f > 0 {
			s, l.spare = l.spare[f-1], l.spare[:f-1]
		}
		l.slabs = append(l.slabs, s)
	}
	s := l.slabs[len(l.slabs)-1]
	s.at = append(s.at, uint32(len(s.data)))
	s.data = append(s.data, world...)
}

// reuse takes s, of another layer, for worlds of this one.
func (l *layer) reuse(s *slab) {
	s.data, s.at = s.data[:0], s.at[:0]
	l.spare = append(l.spare, s)
}
