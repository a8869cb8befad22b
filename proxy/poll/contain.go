package poll

// Abandoner is a Handler or Task that can be ended when it has panicked, whatever state that
// has left it in. What is used again for others counts its lives, so that the next does not end
// for the one before.
type Abandoner interface {
	// Look is the life that it is now.
	Look() uint64
	// Abandon ends that life, if it is not over. It is called by the loop, once for each panic,
	// and must not block.
	Abandon(of uint64)
}

// tell tells h of an event, and outlives its panic.
func (l *Loop) tell(h Handler, fd int, events uint32) {
	a, of := lookAt(h)
	defer l.report.Recover(func() { abandon(a, of) })
	h.Ready(l, fd, events)
}

// do does t, and outlives its panic.
func (l *Loop) do(t Task) {
	a, of := lookAt(t)
	defer l.report.Recover(func() { abandon(a, of) })
	t.Do(l)
}

func lookAt(v any) (a Abandoner, of uint64) {
	if a, _ = v.(Abandoner); a != nil {
		of = a.Look()
	}
	return a, of
}

func abandon(a Abandoner, of uint64) {
	if a != nil {
		a.Abandon(of)
	}
}
