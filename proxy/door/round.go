package door

import (
	"time"
)

// turns bound a round: the members that it begins with, who has taken the place of one
// meanwhile, and who was about to. However many tunnels are made, it ends.
const turns = 3

// Each calls f for every member that is open when it begins, and also for what takes the
// place of one meanwhile. f may end one, but not call Each.
func (d *Door) Each(f func(Member)) {
	d.roundMu.Lock()
	defer d.roundMu.Unlock()
	defer d.endRound()
	next := d.begin()
	for turn := 0; turn < turns && len(next) > 0; turn, next = turn+1, d.latecomers() {
		for i, m := range next {
			d.contained(m, f)
			next[i] = nil
		}
	}
}

// begin begins a round with all that are open.
func (d *Door) begin() []Member {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.round, d.late = append(d.round[:0], d.all...), nil
	d.rounds = true
	return d.round
}

// latecomers are those who have taken another's place since the last turn.
func (d *Door) latecomers() (next []Member) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, d.late = d.late, nil
	return next
}

func (d *Door) endRound() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rounds, d.late = false, nil
}

// contained calls f, whose panic ends that life of m alone.
func (d *Door) contained(m Member, f func(Member)) {
	of := m.entry().Look()
	defer d.Report.Recover(func() { m.Abandon(of) })
	f(m)
}

// sweep moves the coarse clock and looks at all. A timer for each of them would have to be
// moved for each read, which costs more than the read.
func (d *Door) sweep() {
	t := time.NewTicker(d.Every)
	defer t.Stop()
	for {
		select {
		case <-d.stop:
			return
		case now := <-t.C:
			d.Sweep(now)
		}
	}
}

// Sweep looks at all once, as happens by itself.
func (d *Door) Sweep(now time.Time) {
	d.clock.Store(int64(now.Sub(d.start)))
	d.Each(Member.Sweep)
	if d.Swept != nil {
		d.Swept(now)
	}
}
