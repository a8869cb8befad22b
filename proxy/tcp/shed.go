package tcp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
)

// When there is no place for a newcomer, who has not said yet where to gives way: sessions
// whose PROXY header or ClientHello has not come, first those of the client with most, the
// oldest first. One that a tunnel was made of never does.

// placeWait is how long a newcomer waits for the place of who gives way, and how long those
// have at least, unless their client has more than the newcomer's.
const placeWait = time.Second

// waitersMost bounds the newcomers that wait at once.
const waitersMost = 16

// candidate is a session that may give way.
type candidate struct {
	x      *session
	ending uint64 // as it was: see session.ending
	begun  time.Time
	client netip.Addr
	most   int // sessions of that client that read heads
}

// reading returns the sessions that read heads.
func (r *registry) reading() []candidate {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []candidate
	count := make(map[netip.Addr]int)
	for _, x := range r.all {
		if old := x.ending.Load(); x.reading.Load() && old%oneLife == 0 {
			all = append(all, candidate{x: x, ending: old, begun: x.rec.Start, client: x.peer.Addr()})
			count[x.peer.Addr()]++
		}
	}
	for i := range all {
		all[i].most = count[all[i].client]
	}
	return all
}

// shed has a session give way for a newcomer of that client. It reports whether one does.
func (s *Server) shed(newcomer netip.Addr) bool {
	all, own := s.conns.reading(), 0
	for _, v := range all {
		if v.client == newcomer {
			own = v.most
		}
	}
	all = slices.DeleteFunc(all, func(v candidate) bool { return v.most <= own+1 && time.Since(v.begun) < placeWait })
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.most, a.most), a.client.Compare(b.client), a.begun.Compare(b.begun))
	})
	for _, v := range all {
		if v.x.ending.CompareAndSwap(v.ending, v.ending+uint64(endShed)) {
			v.x.stop()
			return true
		}
	}
	return false
}

// place takes a place for x, and two descriptors.
func (x *session) place() (ok bool, why string) {
	s := x.srv
	if !s.Budget.Take(2) {
		return false, "no descriptor is left for it"
	}
	if !s.conns.add(x, s.live.Load().maxConns) {
		s.Budget.Give(2)
		return false, "too many connections"
	}
	return true, ""
}

// acceptLater serves x when somebody has given way for it, or refuses it.
func (x *session) acceptLater() {
	defer x.srv.wg.Done()
	defer x.srv.Panicked.Recover(func() { abort(x.client) })
	late := time.NewTimer(placeWait)
	defer late.Stop()
	ok, why := x.place()
	for waits := true; waits && !ok; ok, why = x.place() {
		select {
		case <-x.srv.places:
		case <-late.C:
			waits = false
		}
	}
	x.srv.waiters.Add(-1)
	if !ok {
		x.refuse(metrics.TCPLimit, why)
		return
	}
	x.begin()
}
