package tcp

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"
)

// attempts is how many addresses a client's connection is tried at.
const attempts = 3

// group is the destinations among which connections are shared out.
type group struct {
	balance Balance
	members []*destination
	turn    atomic.Uint32
}

// order is the addresses to try for a client, the best first. Those that are left
// out come last: when nothing else answers they are worth the attempt. The slice must
// not be changed.
func (g *group) order(client netip.Addr) []*address {
	if len(g.members) == 1 {
		if only := *g.members[0].list.Load(); len(only) == 1 {
			return only
		}
	}
	var up, down []*address
	seen := make(map[netip.AddrPort]bool)
	for _, d := range g.members {
		for _, a := range *d.list.Load() {
			at := netip.AddrPortFrom(a.addr, d.target.Port)
			switch {
			case seen[at]: // by two names
			case a.down.Load():
				down = append(down, a)
			default:
				up = append(up, a)
			}
			seen[at] = true
		}
	}
	if len(seen) == 0 {
		return nil
	}
	turn := g.turn.Add(1) - 1
	for _, list := range [][]*address{up, down} {
		g.arrange(list, client, turn)
	}
	all := append(up, down...)
	return all[:min(len(all), attempts)]
}

func (g *group) arrange(list []*address, client netip.Addr, turn uint32) {
	if len(list) < 2 {
		return
	}
	if g.balance == SourceHash {
		slices.SortFunc(list, func(a, b *address) int { return cmp.Compare(score(client, b), score(client, a)) })
		return
	}
	n := int(turn % uint32(len(list)))
	rotated := append(append([]*address(nil), list[n:]...), list[:n]...)
	if g.balance == LeastConnections {
		slices.SortStableFunc(rotated, func(a, b *address) int { return cmp.Compare(a.open.Load(), b.open.Load()) })
	}
	copy(list, rotated)
}

// score is how much a client likes an address (rendezvous hashing): when an
// address goes, only its own clients move, and every replica and every restart
// agrees. It is FNV-1a with a mixing step.
func score(client netip.Addr, a *address) uint64 {
	h := uint64(14695981039346656037)
	add := func(bs []byte) {
		for _, b := range bs {
			h = (h ^ uint64(b)) * 1099511628211
		}
	}
	c, to := client.As16(), a.addr.As16()
	port := a.d.target.Port
	add(c[:])
	add(to[:])
	add([]byte{byte(port >> 8), byte(port)})
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// resolved waits until every member has been looked up once, or done.
func (g *group) resolved(done <-chan struct{}) {
	for _, d := range g.members {
		select {
		case <-d.first:
		case <-done:
			return
		}
	}
}
