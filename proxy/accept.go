package proxy

import (
	"runtime/debug"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

// openDoor makes the door that clients come through.
func (s *Server) openDoor() {
	s.door = door.New(door.Options{
		Budget:  s.Budget,
		Evict:   s.makeRoom,
		Report:  s.panicked,
		Every:   sweepEvery(s.Options),
		Swept:   s.housekeeping(),
		Counted: func(n int) { s.Metrics.Clients.Add(float64(n)) },
		Gave:    func(r door.Room) { s.Metrics.Shed(r == door.Headless) },
	})
}

// makeRoom frees up to n descriptors of those that serve nobody, and says how many.
func (s *Server) makeRoom(n int) int {
	freed := s.Gate.Pool.Evict(n)
	if freed < n {
		freed += s.terminator.CutLate(n - freed)
	}
	return freed
}

// sweepEvery is how often the door looks at all: often enough that a limit is passed
// by no more than a quarter of it, and a second is enough for any.
func sweepEvery(o Options) time.Duration {
	d := time.Second
	for _, limit := range []time.Duration{o.HeadTimeout, o.ConnectTimeout, o.IdleTimeout, o.KeepAliveTimeout, o.HalfCloseTimeout} {
		if limit > 0 {
			d = min(d, limit/4)
		}
	}
	return max(d, time.Millisecond)
}

// Opening a tunnel leaves a goroutine's stack and buffers behind, which the runtime
// keeps until a collection that a quiet proxy has no cause for. So many since the
// last time are worth one, so often at most.
const (
	trimOpened = 256
	trimEvery  = 10 * time.Second
)

// housekeeping is what is done beside the looks.
func (s *Server) housekeeping() func(now time.Time) {
	pool, trimmed := time.Now(), time.Time{}
	return func(now time.Time) {
		s.judgeAgain(now)
		if now.Sub(pool) >= time.Second {
			s.Gate.Pool.Sweep(now)
			pool = now
		}
		if s.opened.Load() >= trimOpened && now.Sub(trimmed) >= trimEvery {
			s.opened.Store(0)
			trimmed = now
			debug.FreeOSMemory()
		}
	}
}

// accept starts to serve a client, or refuses it in words.
func (s *Server) accept(l *poll.Loop, c *conn) {
	c.announced = s.announces(c.Client())
	s.enter(l, c, s.placesFor(c.Client()))
}

// enter starts to serve a client within those limits, or refuses it in words.
func (s *Server) enter(l *poll.Loop, c *conn, limits door.Limits) {
	switch why, await := s.door.EnterOrShed(c, limits); {
	case await:
		s.wg.Go(func() { s.acceptLater(c, limits) })
	case why != 0:
		s.wg.Go(func() { c.onGoroutine().refuse(why) })
	default:
		of := c.Look()
		defer s.panicked.Recover(func() { c.Abandon(of) })
		c.start(l)
	}
}

// acceptLater takes the client in when a place is free that somebody is about to give up, or
// refuses it.
func (s *Server) acceptLater(c *conn, limits door.Limits) {
	if why := s.door.Await(c, limits); why != 0 {
		c.onGoroutine().refuse(why)
		return
	}
	of := c.Look()
	defer s.panicked.Recover(func() { c.Abandon(of) })
	if s.door.Draining() { // Drain has seen who is there
		c.tcp.Close()
		s.door.Leave(c)
		return
	}
	c.start(nil)
}

// headBytesMost bounds the buffers of all heads that have not come whole, beyond the first
// headRoom of each.
const headBytesMost = 32 << 20

// holdHead counts the buffer of a head that has not come whole, of which held was counted
// before. When all together are too large some give way, maybe this one.
func (c *conn) holdHead(held int) int {
	n := max(0, len(c.buf)-headRoom)
	if n != held && c.srv.headBytes.Add(int64(n-held)) > headBytesMost && n > held {
		c.srv.door.ShedHeadless(func(m door.Member) bool {
			c, ok := m.(*conn)
			return ok && c.waiting.Load() == waitHead
		})
	}
	return n
}

// refusals say how a client that is not let in is counted.
var refusals = [...]metrics.Refusal{door.Full: metrics.TooManyConnections, door.NoDescriptors: metrics.TooManyConnections,
	door.TooMany: metrics.TooManyFromClient}

// Open lists the connections that are open, in no order.
func (s *Server) Open() []door.Open { return s.door.List() }

// Cut ends the connections that which says, and returns how many those are.
func (s *Server) Cut(which func(*door.Open) bool) int { return s.door.CutWhere(which, door.Cut) }
