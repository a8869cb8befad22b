package hold

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/fencetime"
	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/netsetup"
	"github.com/sluiceproxy/sluice/netsetup/fence"
)

// An address has a lifetime, so that the kernel takes it away when nobody is left to do so.
const (
	lifetime = 60 * time.Second
	refresh  = lifetime / 4 // it is given a new one after that
)

// member is an address of a group.
type member struct {
	addr    netip.Addr
	gateway netip.Addr
	link    string
}

// group is addresses that are held together.
type group struct {
	h       *Holder
	name    string
	members []member
	fence   *fence.Fence
	counts  counts

	mu        sync.Mutex // one commit or letting go at a time; guards what is below
	tenure    *tenure    // nil: not held
	refreshed time.Time  // when the addresses were brought, or given a new lifetime
}

// adopt goes on with what an earlier process of this pod has held.
func (g *group) adopt() {
	left, err := g.fence.Held()
	if err != nil || left < fencetime.Least {
		return // whatever is wrong is told by the first attempt
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	wires, err := g.listen()
	if err != nil {
		g.h.o.Log.Error("held yet, by what ran here before, and neither announced nor watched", "group", g.name, "error", err)
		return
	}
	g.h.o.Log.Info("held yet, by what ran here before", "group", g.name, "for", left)
	g.tenure = newTenure(g, left, wires)
}

// listen opens a wire for each address, or none.
func (g *group) listen() (wires []*netsetup.Wire, err error) {
	for _, m := range g.members {
		w, err := netsetup.OpenWire(m.link, m.addr)
		if err != nil {
			closeAll(wires)
			return nil, err
		}
		wires = append(wires, w)
	}
	return wires, nil
}

func closeAll(wires []*netsetup.Wire) {
	for _, w := range wires {
		w.Close()
	}
}

// prepare begins an attempt.
func (g *group) prepare(n fence.Nonce, p time.Duration) error {
	err := g.fence.Prepare(n, p)
	if err == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, mended := g.mend()
	return errors.Join(err, mended)
}

func (g *group) commit(n fence.Nonce, v time.Duration, renewing bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	brought := false
	if !renewing {
		var err error
		if brought, err = g.bring(); err != nil {
			return errors.Join(err, g.undo(brought))
		}
	}
	var wires []*netsetup.Wire // opened before: what others say from the commit on is heard
	if g.tenure == nil {
		var err error
		if wires, err = g.listen(); err != nil {
			return errors.Join(err, g.undo(brought))
		}
	}
	if err := g.fence.Commit(n, v, renewing); err != nil {
		closeAll(wires)
		g.counts.refused.Add(1)
		if errors.Is(err, fence.ErrRefused) {
			err = fmt.Errorf("%w: %w", holding.ErrRefused, err)
		}
		return errors.Join(err, g.undo(brought))
	}
	if renewing {
		g.counts.renewed.Add(1)
	} else {
		g.counts.taken.Add(1)
	}
	if g.tenure == nil {
		g.h.o.Log.Info("held", "group", g.name, "for", v, "attempt", n.String())
		g.tenure = newTenure(g, v, wires)
	} else {
		g.tenure.extend(v)
	}
	if renewing && time.Since(g.refreshed) > refresh {
		if _, err := g.bring(); err != nil {
			g.h.o.Log.Error("the addresses could not be given a new lifetime", "group", g.name, "error", err)
		}
	}
	return nil
}

// undo takes the addresses away again after an attempt that came to nothing, if it has
// brought them; and in any case when the fence is gone.
func (g *group) undo(brought bool) error {
	if gone, err := g.mend(); gone || err != nil || !brought {
		return err
	}
	return g.away()
}

// mend is for who holds the group's mu: what somebody has taken of the fence is put up again.
// When what is held went with it, or it cannot be put up, the addresses are taken away, which
// were there without, and gone is true; else what is held is so by the kernel's own clock, and
// goes on.
func (g *group) mend() (gone bool, err error) {
	d, err := g.fence.Restore()
	if d.What == "" {
		return false, err
	}
	g.counts.restored.Add(1)
	if err == nil && !d.Held {
		g.h.o.Log.Error("somebody has taken a part of the fence away: it is there again", "group", g.name, "what", d.What)
		return false, nil
	}
	g.quit()
	err = errors.Join(err, g.away())
	g.h.o.Log.Error("somebody has taken the fence away: it is there again, and the group is let go", "group", g.name, "what", d.What, "error", err)
	return true, err
}

// quit ends what is done while the group is held.
func (g *group) quit() {
	if g.tenure != nil {
		g.tenure.end()
		g.tenure = nil
	}
}

// bring has the addresses be there, with a new lifetime, and reports whether one was not.
// The fence is there before.
func (g *group) bring() (brought bool, err error) {
	if err := g.fence.Cover(); err != nil {
		return false, err
	}
	present, err := g.present()
	if err != nil {
		return false, err
	}
	for _, m := range g.members {
		l, err := netlink.LinkByName(m.link)
		if err != nil {
			return !present, fmt.Errorf("interface %s: %w", m.link, err)
		}
		a := m.netlink()
		a.ValidLft, a.PreferedLft = int(lifetime/time.Second), int(lifetime/time.Second)
		if err := netlink.AddrReplace(l, a); err != nil {
			return !present, fmt.Errorf("bring %s to %s: %w", m.addr, m.link, err)
		}
	}
	g.refreshed = time.Now()
	if !present {
		g.h.routes() // the kernel took some away with the last address of an interface
	}
	return !present, nil
}

// netlink is the address as the kernel is told of it: of a host alone, since of several of one
// network the kernel takes all away with the first. What is on the link, routes say. Its own
// question whether another has it would leave the fence.
func (m member) netlink() *netlink.Addr {
	bits := m.addr.BitLen()
	a := &netlink.Addr{IPNet: &net.IPNet{IP: m.addr.AsSlice(), Mask: net.CIDRMask(bits, bits)}}
	if m.addr.Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// present reports whether all addresses are there.
func (g *group) present() (bool, error) {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("list addresses: %w", err)
	}
	there := map[netip.Addr]bool{}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			there[addr.Unmap()] = true
		}
	}
	for _, m := range g.members {
		if !there[m.addr] {
			return false, nil
		}
	}
	return true, nil
}

// away takes the addresses away, and puts the routes right that the kernel takes with them.
func (g *group) away() error {
	var errs []error
	removed := false
	for _, m := range g.members {
		l, err := netlink.LinkByName(m.link)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue // it went with the interface
		}
		if err == nil {
			err = netlink.AddrDel(l, m.netlink())
		}
		switch {
		case err == nil:
			removed = true
		case !errors.Is(err, unix.EADDRNOTAVAIL):
			errs = append(errs, fmt.Errorf("take %s away from %s: %w", m.addr, m.link, err))
		}
	}
	if removed {
		g.h.routes()
	}
	return errors.Join(errs...)
}

// letGo fences the addresses, before anything else, and takes them away.
func (g *group) letGo() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.fence.LetGo()
	if err != nil {
		if gone, mended := g.mend(); gone {
			err = mended
		}
	}
	if g.tenure != nil {
		g.quit()
		g.h.o.Log.Info("let go", "group", g.name)
	}
	return errors.Join(err, g.away())
}

// expire is called when a tenure may be over. The addresses stay, fenced, and connections
// with them: it may be held again.
func (g *group) expire(t *tenure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tenure != t || time.Now().Before(t.until) {
		return // it was let go, or renewed
	}
	g.quit()
	g.counts.expired.Add(1)
	g.h.o.Log.Warn("not held any more, since it was not renewed in time", "group", g.name)
	g.h.o.Tell(holding.Event{Kind: holding.Expired, Group: g.name})
}

// foreign lets the group go when another host speaks for one of its addresses.
func (g *group) foreign(t *tenure, m member, h netsetup.Heard) {
	g.mu.Lock()
	current := g.tenure == t
	g.mu.Unlock()
	if !current {
		return
	}
	g.counts.foreign.Add(1)
	err := g.letGo()
	g.h.o.Log.Error("another host has the address that is held here: let go", "group", g.name, "address", m.addr, "mac", h.MAC, "interface", m.link, "error", err)
	g.h.o.Tell(holding.Event{Kind: holding.Foreign, Group: g.name, Addr: m.addr, By: h.MAC.String(), Link: m.link})
}
