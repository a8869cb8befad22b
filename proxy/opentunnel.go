package proxy

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// openTunnel is a tunnel and what is to be said of it at its end. It takes the
// place of its client's conn, which is then free: nothing else is held for it. At the end
// it is used again for another.
type openTunnel struct {
	srv *Server
	at  int // see slot
	openTunnelLife
	tun  tunnel.Tunnel // starts anew by itself
	last atomic.Int64  // when bytes moved, by the coarse clock
	// life counts the tunnels that this has been, in steps of two. The sweeper makes it
	// odd to cut one, and fails when that is over: then it is another, or about to be.
	life atomic.Uint64
}

// openTunnelLife is what an openTunnel knows of the tunnel that it is now.
type openTunnelLife struct {
	rec  accesslog.Request
	text [64]byte // what rec.Text is in, if there is room
}

// handOver makes a tunnel of the exchange's connections. The exchange and the conn
// have nothing to do with them from then on. It reports whether nobody else has either:
// the sweeper may be about to cut the conn.
func (x *exchange) handOver() (free bool) {
	c, s := x.c, x.c.srv
	o := s.tunnels.Get().(*openTunnel)
	o.rec = x.rec
	o.rec.Text = append(o.text[:0], x.rec.Text...)
	o.last.Store(int64(s.now()))
	x.rec.Silent = true // o books it
	free = c.deadline.Swap(0) != expired
	c.tunnel.Store(o)
	s.conns.replace(c, o)
	s.Metrics.Tunnels.Inc()
	if x.rec.Received > 0 || x.rec.Sent > 0 {
		s.Metrics.Moved(x.rec.Mode, x.rec.Received, x.rec.Sent)
	}
	s.opened.Add(1)
	client, up := tunnel.Side{Conn: c.tcp, Loop: c.loop}, tunnel.Side{Conn: x.up.TCP, Loop: x.up.Loop()}
	c.setUpstream(nil)
	x.up = nil
	s.pump.Start(&o.tun, client, up, o)
	if s.cutting.Load() {
		o.cut() // whoever cut the others may have come too early for this one
	}
	return free
}

func (o *openTunnel) slot() *int { return &o.at }

func (o *openTunnel) client() netip.Addr { return o.rec.Client.Addr() }

// Touch is called when bytes have moved.
func (o *openTunnel) Touch() { o.last.Store(int64(o.srv.now())) }

// Moved counts bytes that have moved.
func (o *openTunnel) Moved(up, down int64) { o.srv.Metrics.Moved(o.rec.Mode, up, down) }

// Ended books the tunnel. Its connections are closed.
func (o *openTunnel) Ended(res tunnel.Result) {
	defer o.release()
	tunnelEnded(&o.rec, res)
	o.srv.book(&o.rec, 0, 0)
}

// release gives back what the tunnel had, and itself, to be used again.
func (o *openTunnel) release() {
	o.srv.Metrics.Tunnels.Dec()
	o.srv.released(o)
	o.last.Store(math.MaxInt64) // whoever sees the next life does not see it late
	if life := o.life.Load(); life%2 == 0 && o.life.CompareAndSwap(life, life+2) {
		o.openTunnelLife = openTunnelLife{}
		o.srv.tunnels.Put(o)
	}
}

// sweep is the sweeper's look at one tunnel.
func (o *openTunnel) sweep() {
	life := o.life.Load() // before anything else of it
	o.tun.Look()
	idle := o.srv.now() - time.Duration(o.last.Load())
	if limit := o.srv.IdleTimeout; limit > 0 && idle >= limit && life%2 == 0 && o.life.CompareAndSwap(life, life+1) {
		o.tun.Cut()
	}
}

// closeIfIdle leaves it: a tunnel that is quiet is still wanted.
func (o *openTunnel) closeIfIdle() {}

// cut ends the tunnel now.
func (o *openTunnel) cut() { o.tun.Cut() }

// Abandon ends the tunnel after a panic.
func (o *openTunnel) Abandon() { o.tun.Abandon() }
