package hold

// node is a world that was reached: from which other, by which of its moves.
type node struct {
	parent int32
	move   uint16
}

// nodes are a list that grows without being copied.
type nodes struct {
	n    int
	list [][]node
}

const perNodes = 1 << 20

func (l *nodes) of(i int) node { return l.list[i/perNodes][i%perNodes] }

func (l *nodes) add(n node) {
	if l.n%perNodes == 0 {
		l.list = append(l.list, make([]node, 0, perNodes))
	}
	last := &l.list[len(l.list)-1]
	*last = append(*last, n)
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
