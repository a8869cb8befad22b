package proxy

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// openTunnel is a tunnel and what is to be said of it at its end. It takes the
// place of its client's conn, which is then free: nothing else is held for it. At the end
// it is used again for another.
type openTunnel struct {
	door.Entry
	srv *Server
	openTunnelLife
	tun  tunnel.Tunnel // starts anew by itself
	last atomic.Int64  // when bytes moved, by the coarse clock
	due  atomic.Int64  // when its first bytes must have been judged, by the same; 0: they need not, or were
}

// openTunnelLife is what an openTunnel knows of the tunnel that it is now.
type openTunnelLife struct {
	rec    accesslog.Request
	target acl.Target
	tenant string
	usage  *policy.Usage     // nil: it is not counted
	hold   outbound.Hold     // its place among its tenant's
	asked  *policy.Asked     // of what an Upgrade has made, see door.Open
	other  *acl.Target       // see door.Open
	check  *outbound.Opening // what its first bytes are judged by; nil: they are not, or were
	text   [96]byte          // what rec.Text is in, if there is room
}

// handOver makes a tunnel of the exchange's connections. The exchange and the conn
// have nothing to do with them from then on. It reports whether nobody else has either:
// the sweeper may be about to cut the conn. first is what the client has sent for the tunnel, if
// that is to be judged.
func (x *exchange) handOver(first []byte) (free bool) {
	c, s := x.c, x.c.srv
	o := s.tunnels.Get().(*openTunnel)
	o.rec = *x.fillRecord()
	o.rec.Text = append(o.text[:0], x.rec.Text...)
	o.rec.KeepDecision()
	o.last.Store(int64(s.door.Now()))
	x.did.silent = true // o books it
	if t := x.ticket.Tenant; t != nil {
		t.Shadow.Count(o.rec.Shadow)
	}
	o.asked = x.did.asked
	o.target, o.tenant = x.wanted.Target, x.up.Tenant()
	o.usage = x.usage()
	o.hold, x.ticket.Hold = x.ticket.Hold, outbound.Hold{}
	c.deadline.Store(0)
	c.tunnel.Store(o) // first: who ends the conn from here on means the tunnel
	free = c.Again()
	s.door.Replace(c, o)
	s.Metrics.Tunnels.Inc()
	if x.did.received > 0 || x.did.sent > 0 {
		s.Metrics.Moved(x.did.mode, x.did.received, x.did.sent)
		o.usage.Moved(x.did.received, x.did.sent)
	}
	s.opened.Add(1)
	client, up := tunnel.Side{Conn: c.tcp, Loop: c.loop}, tunnel.Side{Conn: x.up.TCP, Loop: x.up.Loop()}
	c.upstream.Store(nil)
	x.up = nil
	of := o.Look()
	if o.check = x.check; o.check == nil {
		s.pump.Start(&o.tun, client, up, o)
	} else {
		o.due.Store(o.firstDue(x.firstDue))
		s.pump.StartJudged(&o.tun, client, up, o, o, first)
	}
	switch why := c.Why(); {
	case why == door.Gone: // the tunnel finds that, and resets the server: a part must not look like the whole
	case !free && o.rec.Revoked != nil:
		door.RevokeNow(o, of, *o.rec.Revoked)
	case !free:
		o.Cut(of, why) // who ended the conn meant this one
	case o.Why() != 0: // it was ended before it had begun
		o.tun.Cut()
	case s.door.Cutting(): // whoever cut the others may have come too early for it
		o.Cut(of, door.Shutdown)
	default:
		s.judgeNew(o, of, x.gen)
	}
	return free
}

// Touch is called when bytes have moved.
func (o *openTunnel) Touch() { o.last.Store(int64(o.srv.door.Now())) }

// Moved counts bytes that have moved.
func (o *openTunnel) Moved(up, down int64) {
	o.srv.Metrics.Moved(o.rec.Mode, up, down)
	o.usage.Moved(up, down)
}

// Ended books the tunnel. Its connections are closed.
func (o *openTunnel) Ended(res tunnel.Result) {
	defer o.release()
	o.book(res)
}

// release gives back what the tunnel had, and itself, to be used again.
func (o *openTunnel) release() {
	o.srv.Metrics.Tunnels.Dec()
	o.hold.Release()
	o.srv.door.Leave(o)
	o.due.Store(0)
	o.last.Store(math.MaxInt64) // whoever sees the next life does not see it late
	if o.Again() {
		o.openTunnelLife = openTunnelLife{}
		o.srv.tunnels.Put(o)
	}
}

// An openTunnel is a door.Member.

// Client is whose tunnel it is.
func (o *openTunnel) Client() netip.Addr { return o.rec.Client.Addr() }

// Sweep is the sweeper's look at one tunnel.
func (o *openTunnel) Sweep() {
	of := o.Look() // before anything else of it
	o.tun.Tell()
	if due := o.due.Load(); due > 0 && int64(o.srv.door.Now()) >= due {
		o.tun.Late()
	}
	idle := o.srv.door.Now() - time.Duration(o.last.Load())
	if limit := o.srv.IdleTimeout; limit > 0 && idle >= limit {
		o.Cut(of, door.Late)
	}
}

// Cut ends that life of the tunnel now.
func (o *openTunnel) Cut(of door.Lease, why door.Why) (cut bool) {
	cut = o.End(of, why)
	if cut || why == door.Shutdown { // the last word, also to what was ended already
		o.tun.Cut()
	}
	return cut
}

// CutIf ends the tunnel if it is what which says: a life is one tunnel.
func (o *openTunnel) CutIf(which func(*door.Open) bool, why door.Why) bool {
	of := o.Look()
	var is door.Open
	return o.Describe(&is) && which(&is) && o.Cut(of, why)
}

// Drain leaves it: a tunnel that is quiet is still wanted.
func (o *openTunnel) Drain() {}

// Room is that of what is in use.
func (o *openTunnel) Room() (door.Room, time.Duration) { return door.InUse, 0 }

// GiveWay does not.
func (o *openTunnel) GiveWay(door.Lease) (given, atOnce bool) { return false, false }

// Describe says what the tunnel is.
func (o *openTunnel) Describe(to *door.Open) bool {
	return o.tun.While(func(up, down int64) {
		*to = door.Open{State: door.Tunnel, Client: o.rec.Client, Who: o.rec.Who, Tenant: o.tenant, Target: o.target, Asked: o.asked, Other: o.other,
			Addr: o.rec.Addr, Since: o.rec.Start, Received: o.rec.Received + up, Sent: o.rec.Sent + down}
	})
}

// Abandon ends that life of the tunnel after a panic.
func (o *openTunnel) Abandon(of door.Lease) {
	if o.Stop(of, door.Cut) { // so it is no other by now
		o.tun.Abandon(o.tun.Look())
	}
}
