package hold

import (
	"encoding/binary"
	"slices"
	"sync"
)

// memo keeps what a replica can do, by its part and the Lease's. What was found in one world is
// said without its names: which name of the two parts, or which new one; see stepper.say.
type memo struct {
	mu     sync.RWMutex
	ahead  map[key][]uint16 // outcomes: of time that passes, then of the moves, in their order
	pruned map[key][]uint16 // the replica, when the Lease has become another
	others map[key][]uint16 // outcomes of what is done by nobody of the replicas
}

func newMemo() *memo {
	return &memo{ahead: map[key][]uint16{}, pruned: map[key][]uint16{}, others: map[key][]uint16{}}
}

func (m *memo) get(of map[key][]uint16, k key) (said []uint16, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	said, ok = of[k]
	return said, ok
}

func (m *memo) put(of map[key][]uint16, k key, said []uint16) []uint16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	of[k] = slices.Clip(said)
	return said
}

// stepper finds what worlds lead to. It is one goroutine's.
type stepper struct {
	*coder
	memo  *memo
	next  parts  // of the world that was found last
	space []name // of next
	found part
	said  [3][]uint16
}

func newStepper(r *rules, f *forms, m *memo) *stepper {
	return &stepper{coder: newCoder(r, f), memo: m}
}

const nobody = -1

// ahead calls yield with each world that p leads to, in the order of world.moves; what it is
// given is there until it returns.
func (s *stepper) ahead(p *parts, yield func(*parts)) {
	n := s.r.replicas
	for i := range n {
		s.said[i] = s.known(s.memo.ahead, p, i)
	}
	s.again(p)
	for i := range n {
		s.said[i] = s.hear(s.said[i], p, i, &s.next.all[i])
	}
	yield(&s.next)
	for i := range n {
		for len(s.said[i]) > 0 {
			s.again(p)
			if s.said[i] = s.outcome(s.said[i], p, i); s.next.faults >= 0 {
				yield(&s.next)
			}
		}
	}
	if s.r.kinds&(deleted|stranger) == 0 {
		return
	}
	said := s.known(s.memo.others, p, nobody)
	for len(said) > 0 {
		s.again(p)
		if said = s.outcome(said, p, nobody); s.next.faults >= 0 {
			yield(&s.next)
		}
	}
}

// known is what i does next.
func (s *stepper) known(of map[key][]uint16, p *parts, i int) []uint16 {
	k := s.view(p, i)
	said, ok := s.memo.get(of, k)
	if !ok {
		said = s.memo.put(of, k, s.find(p, i))
	}
	return said
}

// again begins with p as the next world.
func (s *stepper) again(p *parts) { s.next, s.space = *p, s.space[:0] }

// view is the key of what i does next: the same for all worlds in which the two parts have the
// same forms, names that are equal where theirs are, and the same order of the nonces, to which
// the last one that was given out belongs, since the next one comes behind it. Two that are right
// behind each other, as a floor and a nonce may be, are told from two with something between.
func (s *stepper) view(p *parts, i int) key {
	s.begin()
	s.write(&p.all[theLease])
	if i != nobody {
		q := &p.all[i]
		s.write(q)
		s.placed = append(s.placed, placeOf(processOf(q.nonces[0]), 2*uint64(q.count)))
	}
	s.end(2)
	s.asTheyAre(p.all[theLease].names)
	if i != nobody {
		s.asTheyAre(p.all[i].names)
		s.buf = append(s.buf, bit(!s.r.blind && s.othersLet(p, i)))
	}
	if s.r.flaws.names() {
		s.asTheyAre(s.placed)
	}
	return hash(s.buf)
}

// asTheyAre writes those names that are more than equal to others: the ones that are always the
// same; or all, if there are flaws that look at them.
func (s *stepper) asTheyAre(names []name) {
	for k, n := range names {
		if s.r.flaws.names() || none <= n && n < allNames {
			s.buf = append(s.buf, byte(k))
			s.buf = binary.LittleEndian.AppendUint16(s.buf, n)
		}
	}
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (s *stepper) othersLet(p *parts, i int) bool {
	for j := range s.r.replicas {
		if j != i && s.forms.of(p.all[j].form).lets {
			return true
		}
	}
	return false
}

// find finds what i does next, by the moves of a world that has nothing else in it.
func (s *stepper) find(p *parts, i int) (said []uint16) {
	w := s.leased(p)
	w.faults = min(max(s.r.faults, 0), 1) // outcome leaves out what is too much
	if i == nobody {
		w.movesOfLease(s.r, func(_ move, v *world) { said = s.tell(said, p, i, w, v) })
		return said
	}
	w.replicas[i] = s.decodeReplica(&p.all[i])
	if s.othersLet(p, i) {
		w.replicas[(i+1)%s.r.replicas] = &replica{kernel: kernel{held: 1}}
	}
	later := w.fork()
	later.tick++
	later.passOf(s.r, i)
	later.pruneOf(s.r, i)
	s.encodeReplica(later, i, &s.found)
	said = s.say(said, p, i, &s.found)
	w.movesOf(s.r, i, func(_ move, v *world) {
		v.pruneOf(s.r, i)
		said = s.tell(said, p, i, w, v)
	})
	return said
}

// tell says what i did from w to v; outcome does that in another world.
func (s *stepper) tell(said []uint16, p *parts, i int, w, v *world) []uint16 {
	put := v.lease != w.lease
	said = append(said, uint16(w.faults-v.faults), uint16(v.version-w.version), uint16(v.process-w.process), uint16(bit(put)))
	if i != nobody {
		s.encodeReplica(v, i, &s.found)
		said = s.say(said, p, i, &s.found)
	}
	if put {
		s.encodeLease(v, &s.found)
		said = s.say(said, p, i, &s.found)
	}
	return said
}

// outcome has the next world be what was said of i, and gives what was said behind that. It has
// less than no faults left if it is not possible.
func (s *stepper) outcome(said []uint16, p *parts, i int) []uint16 {
	s.next.faults -= int(said[0])
	s.next.version += said[1]
	s.next.process += said[2]
	put := said[3] != 0
	said = said[4:]
	if i != nobody {
		said = s.hear(said, p, i, &s.next.all[i])
	}
	if !put {
		return said
	}
	said = s.hear(said, p, i, &s.next.all[theLease])
	if s.next.faults < 0 {
		return said
	}
	for j := range s.r.replicas {
		if j != i && s.forms.of(s.next.all[j].form).prunable {
			s.prune(&s.next, j)
		}
	}
	return said
}

// prune drops what of j can have no effect any more now that the Lease is another.
func (s *stepper) prune(p *parts, j int) {
	k := s.view(p, j)
	said, ok := s.memo.get(s.memo.pruned, k)
	if !ok {
		w := s.leased(p)
		w.replicas[j] = s.decodeReplica(&p.all[j])
		w.pruneOf(s.r, j)
		s.encodeReplica(w, j, &s.found)
		said = s.memo.put(s.memo.pruned, k, s.say(nil, p, j, &s.found))
	}
	s.hear(said, p, j, &p.all[j])
}
