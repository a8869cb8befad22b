package hold

import (
	"context"
	"sync"
	"time"
)

// guardEvery is how often the fences are looked at: nobody tells when rules are flushed, and what
// is asked for meanwhile need not fail.
const guardEvery = 500 * time.Millisecond

// guard sees to it that the fences are whole, and on all interfaces, until what it returns is
// called, which waits for its end.
func (h *Holder) guard() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() {
		tick := time.NewTicker(guardEvery)
		defer tick.Stop()
		said := make([]bool, len(h.groups))
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				h.look(said)
			}
		}
	})
	return func() {
		cancel()
		over.Wait()
	}
}

// look looks at all fences, once; said is of which it was said that they cannot be looked at.
func (h *Holder) look(said []bool) {
	for i, g := range h.groups {
		err := g.look()
		if err != nil && !said[i] {
			h.o.Log.Error("the fence could not be looked at: it is tried again", "group", g.name, "error", err)
		}
		said[i] = err != nil
	}
}

// look mends the fence if there is a need to.
func (g *group) look() error {
	d, err := g.fence.Damage()
	if err != nil {
		return err
	}
	if d.What == "" {
		return g.fence.Cover()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err = g.mend()
	return err
}
