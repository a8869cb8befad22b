package tcp

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/proxy/door"
)

// end is how a connection ended.
type end uint8

const (
	endClosed end = iota // both sides closed
	endReset
	endIdle
	endShutdown
	endRefused
	endCut
	endRevoked
)

var endNames = [...]string{"closed", "reset", "idle", "shutdown", "refused", "cut", "revoked"}

// ends are the ends of connections that were cut from outside.
var ends = [...]end{door.Late: endIdle, door.Gone: endReset, door.Shed: endRefused, door.Shutdown: endShutdown,
	door.Cut: endCut, door.Revoked: endRevoked}

// A session is a door.Member.

// Client is who connected, whatever a PROXY header says.
func (x *session) Client() netip.Addr { return x.peer.Addr() }

// Cut ends that life of the session.
func (x *session) Cut(of door.Lease, why door.Why) (cut bool) {
	cut = x.End(of, why)
	if cut || why == door.Shutdown { // the last word, also to what was ended already
		x.stop()
	}
	return cut
}

// CutIf ends the session if it is what which says: a life is one client's.
func (x *session) CutIf(which func(*door.Open) bool, why door.Why) bool {
	of := x.Look()
	var is door.Open
	return x.Describe(&is) && which(&is) && x.Cut(of, why)
}

// Abandon ends that life of it after a panic in a look at it.
func (x *session) Abandon(of door.Lease) { x.Cut(of, door.Gone) }

// Drain leaves it: whoever has connected still gets through.
func (x *session) Drain() {}

// Sweep is the sweeper's look at the session.
func (x *session) Sweep() {
	of := x.Look() // before anything else of it
	x.tunnel.Tell()
	last, idle := time.Duration(x.last.Load()), x.srv.live.Load().idleTimeout
	if idle > 0 && last > 0 && x.srv.door.Now()-last >= idle {
		x.Cut(of, door.Late)
	}
	if !x.connecting.Load() {
		return
	}
	// A client that has reset the connection is not waited for; one that has ended its half
	// may want the answer.
	if _, all := x.client.PeerEnd(); all {
		x.Cut(of, door.Gone)
	}
}

// Room is that of one who has not said yet where to: its PROXY header or ClientHello has not
// come.
func (x *session) Room() (door.Room, time.Duration) {
	if !x.reading.Load() || x.Why() != 0 {
		return door.InUse, 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return door.Headless, time.Since(x.did.start)
}

// GiveWay ends it as soon as its goroutine sees.
func (x *session) GiveWay(of door.Lease) (given, atOnce bool) {
	if !x.reading.Load() || !x.End(of, door.Shed) {
		return false, false
	}
	x.stop()
	return true, false
}

// Describe says what the session is.
func (x *session) Describe(o *door.Open) bool {
	if x.tunnel.While(func(up, down int64) {
		*o = door.Open{State: door.Tunnel, Client: x.did.client, Tenant: x.tenant, Target: x.to.d.target,
			Addr: x.did.addr, Since: x.did.start, Received: up + x.ahead, Sent: down}
	}) {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	*o = door.Open{Client: x.peer}
	if x.connecting.Load() {
		o.State, o.Target, o.Since = door.Request, x.target, x.did.start
	}
	return x.peer.IsValid()
}

// stop ends a session that was ended from outside.
func (x *session) stop() {
	if x.tunnel.Cut() {
		return
	}
	if quit := x.quit.Load(); quit != nil {
		(*quit)()
	}
	past := time.Unix(1, 0)
	x.client.SetDeadline(past)
	if up := x.upstream.Load(); up != nil {
		up.SetDeadline(past)
	}
}
