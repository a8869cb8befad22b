package hold

import (
	"context"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sluiceproxy/sluice/internal/holding"
)

// followLinks tells when interfaces go down and come up, until ctx ends.
func (h *Holder) followLinks(ctx context.Context) error {
	var was = make([]bool, len(h.groups))
	look := func() {
		for i, g := range h.groups {
			is := g.up()
			if is == was[i] {
				continue
			}
			was[i] = is
			kind := holding.Up
			if !is {
				kind = holding.Down
			}
			e := holding.Event{Kind: kind, Group: g.name}
			for _, m := range g.members {
				if up(m.link) == is {
					e.Link = m.link
					break
				}
			}
			h.o.Log.Info("the interface of a group has changed", "group", g.name, "interface", e.Link, "up", is)
			h.o.Tell(e)
		}
	}
	for i, g := range h.groups {
		was[i] = g.up()
	}
	changes, err := subscribe(ctx)
	if err != nil {
		return err
	}
	h.running.Go(func() {
		for {
			look()
			for range changes {
				look()
			}
			// ctx has ended, or there were more changes than could be told.
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			if changes, err = subscribe(ctx); err != nil {
				h.o.Log.Error("interfaces are not followed any more", "error", err)
				return
			}
		}
	})
	return nil
}

// subscribe is told of changes of interfaces until ctx ends, or some were lost.
func subscribe(ctx context.Context) (<-chan struct{}, error) {
	ctx, cancel := context.WithCancel(ctx)
	updates := make(chan netlink.LinkUpdate, 16)
	if err := netlink.LinkSubscribe(updates, ctx.Done()); err != nil {
		cancel()
		return nil, fmt.Errorf("follow interfaces: %w", err)
	}
	changes := make(chan struct{})
	go func() {
		defer close(changes)
		defer cancel() // the library closes its socket by that
		for range updates {
			changes <- struct{}{}
		}
	}()
	return changes, nil
}
