package hold

import (
	"context"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/netsetup"
)

// When a held address is announced: after so long, and then again and again.
var announceAfter = []time.Duration{0, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second}

const announceEvery = 30 * time.Second

// tenure is what is done while a group is held: it is announced and watched.
type tenure struct {
	until  time.Time // guarded by the group's mu
	expiry *time.Timer
	stop   context.CancelFunc
	over   sync.WaitGroup
}

// newTenure begins one of v, with a wire for each address, for who holds the group's mu.
func newTenure(g *group, v time.Duration, wires []*netsetup.Wire) *tenure {
	ctx, stop := context.WithCancel(context.Background())
	t := &tenure{until: time.Now().Add(v), stop: stop}
	t.expiry = time.AfterFunc(v, func() { g.expire(t) })
	for i, m := range g.members {
		context.AfterFunc(ctx, wires[i].Close)
		t.over.Go(func() { g.announce(ctx, m, wires[i]) })
		if !g.h.o.Config.SkipProbe {
			t.over.Go(func() { g.watch(ctx, t, m, wires[i]) })
		}
	}
	return t
}

// extend has it end v from now on, for who holds the group's mu.
func (t *tenure) extend(v time.Duration) {
	t.until = time.Now().Add(v)
	t.expiry.Reset(v)
}

// end ends it, and waits until nothing of it runs.
func (t *tenure) end() {
	t.expiry.Stop()
	t.stop()
	t.over.Wait()
}

// announce announces an address until ctx ends.
func (g *group) announce(ctx context.Context, m member, w *netsetup.Wire) {
	begun := time.Now()
	for i := 0; ; i++ {
		if err := w.Announce(); err != nil && ctx.Err() == nil {
			g.h.o.Log.Warn("an announcement did not leave", "address", m.addr, "error", err)
		}
		next := announceEvery
		if i+1 < len(announceAfter) {
			next = time.Until(begun.Add(announceAfter[i+1]))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// watch hears who else speaks for an address, until ctx ends.
func (g *group) watch(ctx context.Context, t *tenure, m member, w *netsetup.Wire) {
	err := w.Hear(time.Time{}, func(h netsetup.Heard) bool {
		if h.Addr != m.addr || h.Asks {
			return true
		}
		g.h.running.Go(func() { g.foreign(t, m, h) }) // this one ends by it
		return false
	})
	if err != nil && ctx.Err() == nil {
		g.h.o.Log.Error("a held address is not watched", "address", m.addr, "error", err)
	}
}
