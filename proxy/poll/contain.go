package poll

// Abandoner is a Handler or Task that can be ended when it has panicked, whatever state that
// has left it in. It is called by the loop, once for each panic, and must not block.
type Abandoner interface{ Abandon() }

// tell tells h of an event, and outlives its panic.
func (l *Loop) tell(h Handler, fd int, events uint32) {
	defer l.report.Recover(func() { abandon(h) })
	h.Ready(l, fd, events)
}

// do does t, and outlives its panic.
func (l *Loop) do(t Task) {
	defer l.report.Recover(func() { abandon(t) })
	t.Do(l)
}

func abandon(v any) {
	if a, ok := v.(Abandoner); ok {
		a.Abandon()
	}
}
