package hold

import "slices"

// renaming gives what stands in a form its names of another world. What a form does not write does
// not matter, and has no name in the other.
type renaming struct{ was, is *part }

func (n *renaming) str(s string) string {
	if s == "" {
		return ""
	}
	if i := slices.Index(n.was.names, nameOf(s)); i >= 0 {
		return stringOf(n.is.names[i])
	}
	return ""
}

func (n *renaming) nonce(x Nonce) Nonce {
	if x == (Nonce{}) {
		return x
	}
	if i := slices.Index(n.was.nonces, placeOf(x.Process, 2*x.Count)); i >= 0 {
		return Nonce{processOf(n.is.nonces[i]), twiceOf(n.is.nonces[i]) / 2}
	}
	return Nonce{}
}

func (n *renaming) lease(l Lease) Lease {
	released := l.Released()
	l.UID, l.Version, l.Holder, l.Successor = n.str(l.UID), n.str(l.Version), n.str(l.Holder), n.str(l.Successor)
	l.Nonce, l.Mark = n.nonce(l.Nonce), ""
	if released {
		l.Mark = mark(l.UID, l.Nonce)
	}
	return l
}

func (n *renaming) state(s State) State {
	own := n.is.nonces[0] // canon.state writes the floor first
	s.self = identityOf(processOf(own))
	s.name = n.str(s.name)
	s.floor = (twiceOf(own) + 1) / 2
	s.count = uint64(n.is.count)
	s.try.nonce, s.try.write = n.nonce(s.try.nonce), n.lease(s.try.write)
	s.asked, s.reading, s.probe = n.nonce(s.asked), n.nonce(s.reading), Nonce{}
	s.lease = n.lease(s.lease)
	return s
}

func (n *renaming) replica(p *replica) *replica {
	q := *p
	q.s = n.state(p.s)
	q.kernel.pending = each(p.kernel.pending, func(e pending) pending { return pending{n.nonce(e.nonce), e.left} })
	q.asks, q.late = each(p.asks, n.action), each(p.late, n.action)
	q.calls, q.strays = each(p.calls, n.action), each(p.strays, n.action)
	q.answers, q.replies, q.echoes = each(p.answers, n.happening), each(p.replies, n.happening), each(p.echoes, n.happening)
	return &q
}

func each[T any](list []T, do func(T) T) []T {
	list = slices.Clone(list)
	for i := range list {
		list[i] = do(list[i])
	}
	return list
}

func (n *renaming) action(a Action) Action {
	switch a := a.(type) {
	case Prepare:
		a.Nonce = n.nonce(a.Nonce)
		return a
	case Commit:
		a.Nonce = n.nonce(a.Nonce)
		return a
	case LetGo:
		a.Nonce = n.nonce(a.Nonce)
		return a
	case Check:
		a.Nonce = n.nonce(a.Nonce)
		return a
	case ReadLease:
		a.Nonce = n.nonce(a.Nonce)
		return a
	case WriteLease:
		base := Lease{Missing: a.Base.Missing, Version: n.str(a.Base.Version)} // all that the store looks at
		return WriteLease{base, n.lease(a.Lease), n.nonce(a.Nonce)}
	}
	panic("not an action on its way")
}

func (n *renaming) happening(h Happening) Happening {
	switch h := h.(type) {
	case Prepared:
		h.Nonce = n.nonce(h.Nonce)
		return h
	case Committed:
		h.Nonce = n.nonce(h.Nonce)
		return h
	case LetGone:
		h.Nonce = n.nonce(h.Nonce)
		return h
	case Checked:
		h.Nonce = n.nonce(h.Nonce)
		return h
	case Seen:
		return Seen{n.nonce(h.Read), n.lease(h.Lease)}
	case Written:
		return Written{n.nonce(h.Nonce), h.Outcome, n.str(h.UID), n.str(h.Version)}
	case Drained:
		return h
	}
	panic("not a happening on its way")
}
