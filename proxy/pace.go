package proxy

import (
	"time"

	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// A client that sends or takes a body more slowly than MinRate, over a time in which it
// could, is cut: it holds descriptors, and often a server, for nothing. What it could is told
// by the kernel: there are bytes for it that it has not acknowledged; or some of its own are
// due, and none stands unread here or on the way to the server. So long polls, and whoever
// waits for a slow server, are left alone; and the data path counts nothing for it.
const (
	paceWindow = 30 * time.Second
	paceLooks  = 8 // in that time
)

// pace is what the sweeper has seen of a client's speed.
type pace struct {
	at    int64         // of the last look, by the coarse clock; 0: none yet
	owed  time.Duration // of the window, in which it could have sent or taken
	moved uint64        // bytes sent and taken when the window began
	taken uint64        // bytes taken at the last look
}

// bodies says that a body is on its way.
type bodies struct{ down, up bool }

// onItsWay is which bodies are, as far as the client has to do with them.
func (c *conn) onItsWay() (b bodies) {
	if !c.onLoop {
		return bodies{down: c.sending.Load(), up: c.expecting.Load()}
	}
	if c.x != nil {
		b.down = c.x.stage == stageBody || c.x.stage != stageBody && c.blocked
	}
	return b
}

// keepPace is the sweeper's look at how fast the client is. It ends the exchange with one
// that is too slow; what that has not taken goes.
func (c *conn) keepPace() {
	if c.srv.MinRate == 0 {
		return
	}
	of := c.Look()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tooSlow() {
		return
	}
	if !c.End(of, door.Slow) {
		return // it is ended already
	}
	c.stopServing()
}

// tooSlow reports whether the client is. c.mu is held.
func (c *conn) tooSlow() bool {
	b, now := c.onItsWay(), max(1, int64(c.srv.door.Now()))
	if c.over || b == (bodies{}) {
		c.pace = pace{}
		return false
	}
	over := c.srv.MinRateOver
	if c.pace.at != 0 && time.Duration(now-c.pace.at) < over/paceLooks {
		return false
	}
	info, err := c.tcp.Progress()
	if err != nil {
		return false
	}
	if b.up = b.up && !b.down; b.up { // who is answered already may take its time
		b.up = c.due(info)
	}
	return c.pace.look(now, b, info, over, uint64(c.srv.MinRate)*uint64(over/time.Millisecond)/1000)
}

// look books what is known at now. b says which bodies could move now if the client did its
// part. It reports whether less than least bytes have moved in a time over in which they could.
func (p *pace) look(now int64, b bodies, info sock.Progress, over time.Duration, least uint64) (slow bool) {
	moved := info.Taken + info.Received
	next := pace{at: now, moved: moved, taken: info.Taken}
	if p.at == 0 {
		*p = next
		return false
	}
	// What was sent and is not acknowledged yet says nothing, as long as other bytes are.
	stuck := info.Waiting || info.Untaken && info.Taken == p.taken
	if b.down && stuck || b.up {
		p.owed += time.Duration(now - p.at)
	}
	if p.at, p.taken = now, info.Taken; p.owed < over {
		return false
	}
	slow = moved-p.moved < least
	*p = next
	return slow
}

// due reports whether it is the client's turn to send: all that it has sent was read, and
// has gone to the server.
func (c *conn) due(info sock.Progress) bool {
	up := c.upstream.Load()
	if info.Unread || up == nil {
		return false
	}
	server, err := up.TCP.Progress()
	return err == nil && !server.Untaken
}
