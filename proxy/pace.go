package proxy

import (
	"time"

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
}

// bodies says that a body is on its way.
type bodies struct{ down, up bool }

// onItsWay is which bodies are, as far as the client has to do with them.
func (c *conn) onItsWay() (b bodies) {
	if c.away {
		return bodies{down: c.sending.Load(), up: c.expecting.Load()}
	}
	if c.x != nil {
		b.down = c.x.stage == stageBody || c.x.stage == stageAnswer && c.blocked
	}
	return b
}

// tooSlow is the sweeper's look at how fast the client is.
func (c *conn) tooSlow() bool {
	rate := uint64(c.srv.MinRate)
	if rate == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b, now := c.onItsWay(), max(1, int64(c.srv.now()))
	if c.over || b == (bodies{}) {
		c.pace = pace{}
		return false
	}
	since := time.Duration(now - c.pace.at)
	if c.pace.at != 0 && since < c.srv.MinRateOver/paceLooks {
		return false
	}
	info, err := c.tcp.Progress()
	if err != nil {
		return false
	}
	moved := info.Taken + info.Received
	if c.pace.at == 0 {
		c.pace = pace{at: now, moved: moved}
		return false
	}
	if c.pace.at = now; b.down && info.Untaken || b.up && c.due(info) {
		c.pace.owed += since
	}
	if c.pace.owed < c.srv.MinRateOver {
		return false
	}
	slow := moved-c.pace.moved < rate*uint64(c.srv.MinRateOver/time.Millisecond)/1000
	c.pace = pace{at: now, moved: moved}
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

// cutSlow ends the exchange with a client that is too slow. What it has not taken goes.
func (c *conn) cutSlow() {
	c.slow.Store(true)
	if old := c.deadline.Load(); old != expired && c.deadline.CompareAndSwap(old, expired) {
		c.wake()
	}
}
