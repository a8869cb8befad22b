package hold

import (
	"fmt"
	"strings"
)

// move is what may happen next: what, with which replica, with which of several.
type move struct {
	what string
	i, j int
}

// moves calls yield with everything that may happen in w, and the world behind it.
func (w *world) moves(r *rules, yield func(move, *world)) {
	v := w.fork()
	v.pass(r)
	yield(move{"time passes", -1, 0}, v)
	for i := range r.replicas {
		w.movesOf(r, i, yield)
	}
	w.movesOfLease(r, yield)
}

// movesOfLease are those of others than the replicas.
func (w *world) movesOfLease(r *rules, yield func(move, *world)) {
	cost := 1
	if r.faults < 0 {
		cost = 0
	}
	if w.faults < cost || w.lease.Missing {
		return
	}
	if r.kinds&deleted != 0 {
		v := w.fork()
		v.faults -= cost
		v.lease = Lease{Missing: true}
		yield(move{"the Lease is deleted", -1, 0}, v)
	}
	if r.kinds&stranger != 0 {
		v := w.fork()
		v.faults -= cost
		l := v.lease
		l.Holder = ""
		v.put(l)
		yield(move{"a stranger empties the holder", -1, 0}, v)
		v = w.fork()
		v.faults -= cost
		v.put(Lease{UID: v.lease.UID, Holder: "stranger"})
		yield(move{"a stranger writes the Lease", -1, 0}, v)
	}
}

// movesOf are those of replica i.
func (w *world) movesOf(r *rules, i int, yield func(move, *world)) {
	p := w.replicas[i]
	try := func(what string, j int, cost int, do func(*world, *replica)) {
		if r.faults < 0 {
			cost = 0
		}
		if cost > w.faults && r.faults >= 0 {
			return
		}
		v := w.fork()
		v.faults -= cost
		do(v, v.change(i))
		yield(move{what, i, j}, v)
	}
	fault := func(k faultKind, what string, j int, do func(*world, *replica)) {
		if r.kinds&k != 0 {
			try(what, j, 1, do)
		}
	}
	if p.ended {
		fault(sigterm, "a new process", 0, func(v *world, _ *replica) { v.start(r, i) })
	} else {
		try("tick", 0, 0, func(v *world, _ *replica) { v.feed(r, i, Tick{}) })
		if see := w.see(r); !p.s.known || see.Version != p.s.lease.Version || see.Missing != p.s.lease.Missing {
			try("the watch says", 0, 0, func(v *world, _ *replica) { v.feed(r, i, Seen{Lease: see}) })
		}
		fault(restart, "sluice-kube is killed and started", 0, func(v *world, _ *replica) { v.start(r, i) })
		if p.s.leaving == false {
			fault(sigterm, "SIGTERM", 0, func(v *world, _ *replica) { v.feed(r, i, Leave{}) })
		}
		fault(proxyGone, "the proxy goes or comes", 0, func(v *world, _ *replica) { v.feed(r, i, Proxy{Serving: !p.s.serving}) })
		if w.lets(i) {
			fault(heard, "another MAC is heard", 0, func(v *world, _ *replica) { v.feed(r, i, Heard{}) })
		}
	}
	w.movesPrivileged(r, i, try, fault)
	w.movesAPI(r, i, try, fault)
}

type (
	tryFunc   func(what string, j int, cost int, do func(*world, *replica))
	faultFunc func(k faultKind, what string, j int, do func(*world, *replica))
)

// movesPrivileged are those between i and its privileged process.
func (w *world) movesPrivileged(r *rules, i int, try tryFunc, fault faultFunc) {
	p := w.replicas[i]
	for j, a := range p.late {
		try("does, too late,", j, 0, func(v *world, q *replica) { q.late = without(q.late, j); v.perform(r, i, a) })
	}
	if len(p.answers) > 0 {
		try("is answered", 0, 0, func(v *world, q *replica) { q.answers = q.answers[1:]; v.feed(r, i, p.answers[0]) })
	}
	if len(p.asks) == 0 {
		return
	}
	a := p.asks[0]
	try("does", 0, 0, func(v *world, q *replica) {
		q.asks = q.asks[1:]
		if h := v.perform(r, i, a); r.coarse {
			v.feed(r, i, h)
		} else {
			q.answers = with(q.answers, h)
		}
	})
	if _, ok := a.(Check); ok {
		fault(noGateway, "sees no gateway", 0, func(_ *world, q *replica) {
			q.asks = q.asks[1:]
			q.answers = with(q.answers, Happening(Checked{Nonce: a.(Check).Nonce, Up: true}))
		})
	}
	fault(timeout, "does not answer in time", 0, func(v *world, q *replica) {
		q.asks, q.late = q.asks[1:], youngest(with(q.late, a))
		v.feed(r, i, failed(a))
	})
	fault(restart2, "the privileged process is killed and started, before", 0, func(v *world, q *replica) {
		q.asks = nil
		for _, a := range p.asks {
			v.feed(r, i, failed(a))
		}
	})
}

// movesAPI are those between i and the API server.
func (w *world) movesAPI(r *rules, i int, try tryFunc, fault faultFunc) {
	p := w.replicas[i]
	for j, a := range p.calls {
		_, writes := a.(WriteLease)
		done := func(v *world, q *replica) {
			q.calls = without(q.calls, j)
			if h := v.serve(r, a); r.coarse && !writes {
				v.feed(r, i, h)
			} else {
				q.replies = with(q.replies, h)
			}
		}
		try("the store does", j, 0, done)
		if writes {
			fault(double, "the store does, and will once more,", j, func(v *world, q *replica) {
				done(v, q)
				q.strays = youngest(with(q.strays, a))
			})
		}
		fault(timeout, "has no answer in time to", j, func(v *world, q *replica) {
			q.calls, q.strays = without(q.calls, j), youngest(with(q.strays, a))
			v.feed(r, i, failed(a))
		})
	}
	for j, a := range p.strays {
		try("the store does, too late,", j, 0, func(v *world, q *replica) { q.strays = without(q.strays, j); v.serve(r, a) })
	}
	for j, h := range p.replies {
		try("is told", j, 0, func(v *world, q *replica) { q.replies = without(q.replies, j); v.feed(r, i, h) })
		if lost := unanswered(h); lost != nil {
			fault(timeout, "is told too late", j, func(v *world, q *replica) {
				q.replies, q.echoes = without(q.replies, j), youngest(with(q.echoes, h))
				v.feed(r, i, lost)
			})
		}
	}
	for j, h := range p.echoes {
		try("is told what was given up:", j, 0, func(v *world, q *replica) { q.echoes = without(q.echoes, j); v.feed(r, i, h) })
	}
}

// describe is m, which led from w, in words.
func (w *world) describe(m move) string {
	if m.i < 0 {
		return m.what
	}
	p := w.replicas[m.i]
	var about any = ""
	switch m.what {
	case "does, too late,":
		about = p.late[m.j]
	case "is answered":
		about = p.answers[0]
	case "does", "sees no gateway", "does not answer in time", "the privileged process is killed and started, before":
		about = p.asks[0]
	case "the store does", "the store does, and will once more,", "has no answer in time to":
		about = p.calls[m.j]
	case "the store does, too late,":
		about = p.strays[m.j]
	case "is told", "is told too late":
		about = p.replies[m.j]
	case "is told what was given up:":
		about = p.echoes[m.j]
	case "the watch says":
		about = w.lease
	}
	return fmt.Sprintf("%c: %s %s", 'A'+m.i, m.what, words(about))
}

// words say what a message is.
func words(about any) string {
	short := func(n Nonce) string { return fmt.Sprintf("%d.%d", n.Process, n.Count) }
	switch a := about.(type) {
	case Prepare:
		return "prepare " + short(a.Nonce)
	case Commit:
		if a.Renewing {
			return "commit renewing " + short(a.Nonce)
		}
		return "commit " + short(a.Nonce)
	case LetGo:
		return "let go"
	case Check:
		return "check"
	case ReadLease:
		return "read"
	case WriteLease:
		return "write on " + a.Base.Version + ": " + words(a.Lease)
	case Lease:
		switch {
		case a.Missing:
			return "no Lease"
		case a.Released():
			return "released " + a.Version
		}
		by, _, _ := strings.Cut(a.Holder, "_")
		return fmt.Sprintf("holder %q, nonce %s, %s", by, short(a.Nonce), a.Version)
	case Seen:
		return "the Lease: " + words(a.Lease)
	case Written:
		return [...]string{"written: unknown", "written: acknowledged", "written: conflict"}[a.Outcome]
	case Prepared:
		return fmt.Sprintf("prepared: %v", a.OK)
	case Committed:
		return fmt.Sprintf("committed: %v", a.OK)
	case LetGone:
		return fmt.Sprintf("let gone: %v", a.OK)
	case Checked:
		return fmt.Sprintf("checked: gateway %v, alone %v", a.Gateway, a.Alone)
	case Drained:
		return "drained"
	}
	return ""
}

// picture is w in one line.
func (w *world) picture(r *rules) string {
	var b strings.Builder
	fmt.Fprintf(&b, "t=%d", w.tick)
	for i := range r.replicas {
		p := w.replicas[i]
		fmt.Fprintf(&b, "  %c %s", 'A'+i, modeNames[p.s.mode])
		for _, e := range p.kernel.pending {
			fmt.Fprintf(&b, " pending %d.%d(%d)", e.nonce.Process, e.nonce.Count, e.left)
		}
		if p.kernel.held > 0 {
			fmt.Fprintf(&b, " HELD(%d)", p.kernel.held)
		}
	}
	return b.String()
}
