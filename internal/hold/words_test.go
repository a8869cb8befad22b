package hold

// What is said of a name: which one it is of those of the Lease and the replica, or that it is
// so many behind the last one of all until then, or itself if it is always the same.
const (
	sayVersion  = 0x1000
	sayIdentity = 0x2000
	sayItself   = 0x3000

	// Of a nonce, which one times 4; and 1 more if it is the one behind that, 2 more if it is the
	// one before: a floor is at a nonce of the process, or right before it.
	sayOwn   = 0x4000 // behind the last nonce of the process
	sayOther = 0x8000 // of a process that is behind the last one of all
	sayThat  = 0xc000
)

// say says what a replica, or the Lease, is after what i has done in p.
func (s *stepper) say(said []uint16, p *parts, i int, q *part) []uint16 {
	l, own := &p.all[theLease], &part{}
	process, twice := uint64(0), uint64(0)
	if i != nobody {
		own = &p.all[i]
		process, twice = processOf(own.nonces[0]), 2*uint64(own.count)
	}
	count := q.count
	if len(q.nonces) > 0 && count > 0 && processOf(q.nonces[0]) == process {
		count = 0x8000 + q.count - own.count
	}
	said = append(said, uint16(q.form), uint16(q.form>>16), count, uint16(len(q.names)), uint16(len(q.nonces)))
	for _, n := range q.names {
		x := uint16(0)
		if at := indexOf(n, l.names, own.names); at >= 0 {
			x = uint16(at)
		} else if n >= none {
			x = sayItself + n
		} else if n >= identities {
			x = sayIdentity + behind(n-identities, p.process)
		} else {
			x = sayVersion + behind(n, p.version)
		}
		said = append(said, x)
	}
	for _, n := range q.nonces {
		x := uint16(0)
		if at := indexOf(n, l.nonces, own.nonces); at >= 0 {
			x = uint16(at) * 4
		} else if at := indexOf(n+1, l.nonces, own.nonces); at >= 0 {
			x = uint16(at)*4 + 2
		} else if at := indexOf(n-1, l.nonces, own.nonces); at >= 0 {
			x = uint16(at)*4 + 1
		} else if processOf(n) == process && twiceOf(n) > twice {
			x = sayOwn + uint16(twiceOf(n)-twice)
		} else if processOf(n) > uint64(p.process) {
			x = sayOther + n - p.process*perProcess
		} else if s.r.flaws.names() {
			x = sayThat + n
		} else {
			panic("a nonce from nowhere")
		}
		said = append(said, x)
	}
	return said
}

func behind(n, last name) uint16 {
	if n <= last {
		panic("a name from nowhere")
	}
	return n - last
}

func indexOf(n name, lists ...[]name) int {
	before := 0
	for _, list := range lists {
		for i, m := range list {
			if m == n {
				return before + i
			}
		}
		before += len(list)
	}
	return -1
}

// hear makes of what was said what it means for i in p.
func (s *stepper) hear(said []uint16, p *parts, i int, to *part) []uint16 {
	l, own := &p.all[theLease], &part{}
	if i != nobody {
		own = &p.all[i]
	}
	is := part{form: uint32(said[0]) | uint32(said[1])<<16, count: said[2]}
	if is.count&0x8000 != 0 {
		is.count = is.count&0x7fff + own.count
	}
	names, nonces := int(said[3]), int(said[4])
	said = said[5:]
	begin := len(s.space)
	for _, x := range said[:names] {
		switch {
		case int(x) < len(l.names):
			x = l.names[x]
		case x < sayVersion:
			x = own.names[int(x)-len(l.names)]
		case x < sayIdentity:
			x += p.version - sayVersion
		case x < sayItself:
			x += p.process + identities - sayIdentity
		default:
			x -= sayItself
		}
		s.space = append(s.space, x)
	}
	is.names = s.space[begin:len(s.space):len(s.space)]
	said, begin = said[names:], len(s.space)
	for _, x := range said[:nonces] {
		switch {
		case x < sayOwn:
			at, beside := int(x/4), x%4
			if at < len(l.nonces) {
				x = l.nonces[at]
			} else {
				x = own.nonces[at-len(l.nonces)]
			}
			x += (beside & 1) - beside>>1
		case x < sayOther:
			x += placeOf(processOf(own.nonces[0]), 2*uint64(own.count)) - sayOwn
		case x < sayThat:
			x += p.process*perProcess - sayOther
		default:
			x -= sayThat
		}
		s.space = append(s.space, x)
	}
	is.nonces = s.space[begin:len(s.space):len(s.space)]
	*to = is
	return said[nonces:]
}
