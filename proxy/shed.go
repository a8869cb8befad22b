package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// When places or memory for heads run short, somebody gives way: first who has sent no whole
// head, then who is idle between requests; and among those first the client that has most
// connections, its oldest first. So whoever opens all places and sends nothing holds up
// nobody but itself.

// room is what a connection would give way as.
type room uint8

const (
	inUse room = iota // it does not
	headless
	idle
)

// headBytesMost bounds the buffers of all heads that have not come whole, beyond the first
// headRoom of each.
const headBytesMost = 32 << 20

// shedAtOnce is how many are chosen in one look at all connections.
const shedAtOnce = 64

// waitersMost bounds the newcomers that wait at once for a place that is being given up.
const waitersMost = 64

// grace is how long a client that has no more connections than the newcomer keeps a place
// without a whole head: else those who come would drive each other out.
const grace = time.Second

// shedder chooses who gives way.
type shedder struct {
	mu    sync.Mutex
	queue []candidate // the next to give way at the end
}

// candidate is a connection that may give way, while it is of that client.
type candidate struct {
	c      *conn
	life   uint64
	client netip.Addr
	most   int // connections that the client has
}

// room is what the connection would give way as. While an attended one is being dealt with
// it is in use.
func (c *conn) room() room {
	if !c.mu.TryLock() {
		return inUse
	}
	defer c.mu.Unlock()
	return c.roomNow()
}

// roomNow is room; c.mu is held.
func (c *conn) roomNow() room {
	switch {
	case c.over || c.gone.Load() || c.deadline.Load() == expired:
		return inUse
	case c.away:
		switch c.waiting.Load() {
		case waitFirst, waitHead:
			return headless
		case waitNext:
			return idle
		}
		return inUse
	case c.x != nil:
		return inUse
	case c.served == 0 && !c.lingers:
		return headless
	}
	return idle
}

// giveWay ends a connection that still may be, and reports whether it has: at once, or as
// soon as the goroutine that serves it sees.
func (v candidate) giveWay() (given, atOnce bool) {
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lives.Load() != v.life {
		return false, false // it is another client's by now
	}
	what := c.roomNow()
	if what == inUse {
		return false, false
	}
	c.srv.Metrics.Shed(what == headless)
	if c.away {
		c.leave()
		return true, false
	}
	c.finish()
	return true, true
}

// shed has one connection give way for a newcomer.
func (s *Server) shed(newcomer netip.Addr) (given, atOnce bool) {
	s.shedder.mu.Lock()
	defer s.shedder.mu.Unlock()
	for range 2 {
		for q := &s.shedder.queue; len(*q) > 0; {
			v := (*q)[len(*q)-1]
			(*q)[len(*q)-1] = candidate{}
			*q = (*q)[:len(*q)-1]
			if given, atOnce := v.giveWay(); given {
				return true, atOnce
			}
		}
		s.shedder.queue = s.whoGivesWay(s.conns.count(newcomer))
	}
	return false, false
}

// whoGivesWay returns those who give way next for a client with so many connections, the
// first at the end.
func (s *Server) whoGivesWay(newcomer int) []candidate {
	best, found := inUse, []candidate(nil)
	for _, v := range s.conns.candidates() {
		what := v.c.room()
		if what == inUse || what == headless && v.most <= newcomer && v.c.age() < grace {
			continue
		}
		if best == inUse || what < best {
			best, found = what, found[:0]
		}
		if what == best {
			found = append(found, v)
		}
	}
	return lastOf(found)
}

// lastOf orders candidates: by client, the one with the most last, then by age, the oldest
// last. It returns the last few.
func lastOf(all []candidate) []candidate {
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.most, b.most), a.client.Compare(b.client),
			cmp.Compare(b.c.deadline.Load(), a.c.deadline.Load()))
	})
	return all[max(0, len(all)-shedAtOnce):]
}

// age is for how long a connection without a whole head has been so.
func (c *conn) age() time.Duration {
	return c.srv.HeadTimeout - (time.Duration(c.deadline.Load()) - c.srv.now())
}

// holdHead counts the buffer of a head that has not come whole, of which held was counted
// before. When all together are too large some give way, maybe this one.
func (c *conn) holdHead(held int) int {
	n := max(0, len(c.buf)-headRoom)
	if n != held && c.srv.headBytes.Add(int64(n-held)) > headBytesMost && n > held {
		var reading []candidate
		for _, v := range c.srv.conns.candidates() {
			if v.c.waiting.Load() == waitHead {
				reading = append(reading, v)
			}
		}
		for _, v := range lastOf(reading) {
			v.giveWay()
		}
	}
	return n
}

// admitLater takes the client in when a place is free that somebody is about to give up, or
// refuses it.
func (s *Server) admitLater(c *conn) {
	if s.placesWanted.Add(1) > waitersMost {
		s.placesWanted.Add(-1)
		c.tcp.Close() // too many wait
		return
	}
	limit, ok := s.admit(c)
	for late := time.After(grace); !ok; limit, ok = s.admit(c) {
		select {
		case <-s.places:
			continue
		case <-late:
		}
		break
	}
	s.placesWanted.Add(-1)
	if ok && s.draining.Load() { // Shutdown has seen who is there
		c.tcp.Close()
		s.released(c)
		return
	}
	if !ok {
		s.Metrics.Refused(limit)
		c.refuse(limit)
		return
	}
	c.attend(nil)
}
