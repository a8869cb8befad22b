package proxy

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// A conn is a door.Member: what the door may do with it at any time.

// Client is who is connected.
func (c *conn) Client() netip.Addr { return c.from().Addr() }

// from is Client, and its port.
func (c *conn) from() netip.AddrPort {
	if c.client.IsValid() {
		return c.client
	}
	return c.tcp.Remote()
}

// Sweep is the sweeper's look at one connection.
func (c *conn) Sweep() {
	of := c.Look() // before anything else of it
	if d := c.deadline.Load(); d > 0 && int64(c.srv.door.Now()) >= d {
		c.late(of, d)
	}
	c.keepPace()
	c.tcp.KeepAlive() // most are gone before a sweep sees them
	if u := c.upstream.Load(); u != nil {
		u.TCP.KeepAlive()
	}
}

// late ends the connection, whose time limit was d, unless that has moved since.
func (c *conn) late(of door.Lease, d int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline.Load() == d && c.End(of, door.Late) {
		c.stopServing()
	}
}

// Cut ends that life of the connection now.
func (c *conn) Cut(of door.Lease, why door.Why) (cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cut = c.End(of, why)
	if cut || why == door.Shutdown { // the last word, also to what was ended already
		c.stopServing()
	}
	return cut
}

// CutIf ends the connection if it is what which says: with c.mu held it stays that.
func (c *conn) CutIf(which func(*door.Open) bool, why door.Why) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var o door.Open
	if !c.describe(&o) || !which(&o) || !c.EndNow(why) {
		return false
	}
	c.stopServing()
	return true
}

// wake has what was ended meanwhile end now.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopServing()
}

// stopServing ends a connection whose life was ended. c.mu is held.
func (c *conn) stopServing() {
	if !c.onLoop {
		c.interrupt()
		return
	}
	c.expire()
}

// interrupt has the goroutine that serves the connection wait for nothing any more. c.mu is
// held, so that it can't come when the loop has the connection again, nor touch a server's
// that is another exchange's by then.
func (c *conn) interrupt() {
	past := time.Unix(1, 0)
	c.tcp.SetDeadline(past)
	if u := c.upstream.Load(); u != nil {
		u.TCP.SetDeadline(past)
	}
	if stop := c.stop.Load(); stop != nil && c.Why() != door.Late {
		(*stop)()
	}
}

// setUpstream makes u the connection that a time limit cuts too; nil: none, from the moment
// when it returns.
func (c goConn) setUpstream(u *outbound.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upstream.Store(u)
	if u != nil && c.Why() != 0 {
		c.stopServing() // which may have come between
	}
}

// Drain ends a connection between two requests. A request that has just come is still
// served: see waitForRequest.
func (c *conn) Drain() {
	if c.drainOnLoop() {
		return
	}
	switch c.waiting.Load() {
	case waitFirst:
		c.setLimit(firstGrace)
	case waitNext:
		c.tcp.SetReadDeadline(time.Unix(1, 0))
	}
}

func (c *conn) drainOnLoop() (onLoop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.onLoop {
		return false
	}
	if c.x == nil && !c.lingers {
		c.toGoroutine(nil) // which looks for such a request
	}
	return true
}

// Room is what the connection would give way as. While a loop is dealing with it, it
// is in use.
func (c *conn) Room() (door.Room, time.Duration) {
	if !c.mu.TryLock() {
		return door.InUse, 0
	}
	defer c.mu.Unlock()
	room := c.room()
	if room == door.Headless {
		return room, c.srv.HeadTimeout - (time.Duration(c.deadline.Load()) - c.srv.door.Now())
	}
	return room, c.srv.KeepAliveTimeout - (time.Duration(c.deadline.Load()) - c.srv.door.Now())
}

// room is Room; c.mu is held.
func (c *conn) room() door.Room {
	switch {
	case c.over || c.gone.Load() || c.Why() != 0:
		return door.InUse
	case !c.onLoop:
		switch c.waiting.Load() {
		case waitFirst, waitHead:
			return door.Headless
		case waitNext:
			return door.Idle
		}
		return door.InUse
	case c.x != nil:
		return door.InUse
	case c.served == 0 && !c.lingers:
		return door.Headless
	}
	return door.Idle
}

// GiveWay ends a connection that still may be: at once, or as soon as the goroutine that
// serves it sees.
func (c *conn) GiveWay(of door.Lease) (given, atOnce bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Look() != of || c.room() == door.InUse {
		return false, false
	}
	if c.onLoop {
		c.finish()
		return true, true
	}
	c.markGone()
	return true, false
}

// doing is what a goroutine that serves a connection is at.
type doing struct {
	since  time.Time // zero: nothing
	tunnel bool      // encrypted on one side, so that a goroutine moves its bytes
	who    policy.Who
	tenant string
	target acl.Target
	addr   netip.AddrPort
	asked  *policy.Asked
}

// doing is what the exchange is.
func (x *exchange) doing() doing {
	d := doing{since: x.did.start, tunnel: x.did.tunnel, who: x.wanted.Who, target: x.wanted.Target, addr: x.did.addr, asked: x.did.asked}
	if x.wanted.At.IsValid() && !x.wanted.Inside { // what is inside is judged, as in all tunnels that are opened
		d.addr = netip.AddrPort{}
	}
	if t := x.ticket.Tenant; t != nil {
		d.tenant = t.Name
	}
	return d
}

// does says what the goroutine that serves the connection is at from now on.
func (c goConn) does(d doing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doing = d
}

// Describe says what is open. A tunnel that was made of it describes itself.
func (c *conn) Describe(o *door.Open) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.describe(o)
}

// describe is Describe; c.mu is held.
func (c *conn) describe(o *door.Open) bool {
	if c.over || !c.onLoop && !c.hadGoroutine || c.tunnel.Load() != nil {
		return false
	}
	*o = door.Open{Client: c.from()}
	d := c.doing
	if x := c.x; x != nil {
		d = x.doing()
		o.Received, o.Sent = x.did.received, x.did.sent
	}
	if !d.since.IsZero() {
		o.State, o.Since, o.Who, o.Tenant, o.Target, o.Addr, o.Asked = door.Request, d.since, d.who, d.tenant, d.target, d.addr, d.asked
	}
	if d.tunnel {
		o.State = door.Tunnel
	}
	return true
}
