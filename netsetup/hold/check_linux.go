package hold

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/netsetup"
)

// How a check asks: so often, and so long in all.
const (
	checkCount    = 3
	checkInterval = 130 * time.Millisecond
	checkTime     = 400 * time.Millisecond
)

// found is what was found of one address.
type found struct {
	up, gateway bool
	by          net.HardwareAddr // who else has it; nil: nobody, or it was not asked
	err         error
}

// Check looks whether the interfaces of a group are up and their gateways answer, and with
// duplicate whether nobody else has an address. Nothing of it says that the addresses are
// wanted here. It takes 0.4 s; without duplicate it ends with the gateways' answers.
func (h *Holder) Check(ctx context.Context, name string, duplicate bool) (holding.Checked, error) {
	g, err := h.group(name)
	if err != nil {
		return holding.Checked{}, err
	}
	wanted := duplicate
	duplicate = duplicate && !h.o.Config.SkipProbe // else it is taken on trust
	all := make([]found, len(g.members))
	var asked sync.WaitGroup
	for i, m := range g.members {
		asked.Go(func() { all[i] = m.check(ctx, duplicate) })
	}
	asked.Wait()
	c := holding.Checked{Up: true, Gateway: true, Alone: wanted}
	var why []string
	for i, f := range all {
		m := g.members[i]
		c.Up, c.Gateway = c.Up && f.up, c.Gateway && f.gateway
		c.Alone = c.Alone && f.up && f.err == nil && f.by == nil
		switch {
		case !f.up:
			why = append(why, fmt.Sprintf("interface %s is not up", m.link))
		case f.err != nil:
			why = append(why, f.err.Error())
		case !f.gateway:
			why = append(why, fmt.Sprintf("gateway %s does not answer on %s", m.gateway, m.link))
		}
		if f.by != nil {
			c.By = f.by.String()
			why = append(why, fmt.Sprintf("the host with MAC address %s has %s too, seen on %s (a router that answers for every address wants --probe=false)", f.by, m.addr, m.link))
		}
	}
	g.counts.checked(c)
	c.Why = strings.Join(why, "; ")
	return c, ctx.Err()
}

// check asks about one address.
func (m member) check(ctx context.Context, duplicate bool) (f found) {
	if f.up = up(m.link); !f.up {
		return f
	}
	w, err := netsetup.OpenWire(m.link, m.addr)
	if err != nil {
		return found{up: true, err: err}
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	defer context.AfterFunc(ctx, w.Close)()
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	asking.Go(func() { m.ask(ctx, w, duplicate) })
	err = w.Hear(time.Time{}, func(h netsetup.Heard) bool {
		switch {
		case h.Asks: // somebody else checks, too
		case h.Addr == m.gateway:
			f.gateway = true
		case h.Addr == m.addr && duplicate:
			f.by = h.MAC
		}
		return duplicate && f.by == nil || !f.gateway
	})
	if err != nil && ctx.Err() == nil {
		f.err = err
	}
	return f
}

// ask sends the questions, until ctx ends. One that does not leave has no answer.
func (m member) ask(ctx context.Context, w *netsetup.Wire, duplicate bool) {
	for range checkCount {
		_ = w.AskFor(m.gateway)
		if duplicate {
			_ = w.Ask()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(checkInterval):
		}
	}
}

// up reports whether an interface is there, up, and has a carrier.
func up(link string) bool {
	ifi, err := net.InterfaceByName(link)
	const both = net.FlagUp | net.FlagRunning
	return err == nil && ifi.Flags&both == both
}

// up reports whether the interfaces of a group are.
func (g *group) up() bool {
	for _, m := range g.members {
		if !up(m.link) {
			return false
		}
	}
	return true
}
