package tcp

import "time"

// end is how a connection ended.
type end int32

const (
	endClosed end = iota // both sides closed
	endReset
	endIdle
	endShutdown
	endRefused
	endShed // it had to give way, and is refused
)

var endNames = [...]string{"closed", "reset", "idle", "shutdown", "refused", "refused"}

// oneLife is what session.ending counts connections by.
const oneLife = 1 << 8

// cutFor is why the session was cut from outside; endClosed: it was not.
func (x *session) cutFor() end { return end(x.ending.Load() % oneLife) }

// cut ends the session from outside.
func (x *session) cut(why end) {
	for old := x.ending.Load(); old%oneLife == 0 && !x.ending.CompareAndSwap(old, old+uint64(why)); {
		old = x.ending.Load()
	}
	x.stop()
}

// sweep is the sweeper's look at the session.
func (x *session) sweep(clock, idle int64) {
	old := x.ending.Load() // before anything else of it
	x.tunnel.Look()
	last := x.last.Load()
	late := idle > 0 && last > 0 && clock-last >= idle
	if late && old%oneLife == 0 && x.ending.CompareAndSwap(old, old+uint64(endIdle)) {
		x.stop()
	}
	if old%oneLife != 0 || !x.connecting.Load() {
		return
	}
	// A client that has reset the connection is not waited for; one that has ended its half
	// may want the answer.
	if _, all := x.client.PeerEnd(); all && x.ending.CompareAndSwap(old, old+uint64(endReset)) {
		x.stop()
	}
}

// stop ends a session whose ending is set.
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
