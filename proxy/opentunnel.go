package proxy

import (
	"errors"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// openTunnel is a tunnel and what is to be said of it at its end. It takes the
// place of its client's conn, which is then free: nothing else is held for it.
type openTunnel struct {
	srv     *Server
	at      int // see slot
	rec     Record
	text    [64]byte // what rec.text is in, if there is room
	tun     tunnel.Tunnel
	started atomic.Bool  // tun is
	last    atomic.Int64 // when bytes moved, by the coarse clock
}

// handOver makes a tunnel of the exchange's connections. The exchange and the conn
// have nothing to do with them from then on.
func (x *exchange) handOver() {
	c, s := x.c, x.c.srv
	o := &openTunnel{srv: s, rec: x.rec}
	o.rec.text = append(o.text[:0], x.rec.text...)
	o.last.Store(int64(s.now()))
	x.rec.silent = true // o books it
	c.deadline.Store(0)
	c.tunnel.Store(o)
	s.conns.replace(c, o)
	s.Metrics.Tunnels.Inc()
	s.opened.Add(1)
	client, up := tunnel.Side{Conn: c.tcp, Loop: c.loop}, tunnel.Side{Conn: x.up.TCP, Loop: x.up.Loop()}
	c.setUpstream(nil)
	x.up = nil
	s.pump.Start(&o.tun, client, up, o)
	o.started.Store(true)
	if s.cutting.Load() {
		o.cut() // whoever cut the others may have come too early for this one
	}
}

func (o *openTunnel) slot() *int { return &o.at }

func (o *openTunnel) client() netip.Addr { return o.rec.Client.Addr() }

// Touch is called when bytes have moved.
func (o *openTunnel) Touch() { o.last.Store(int64(o.srv.now())) }

// Ended books the tunnel. Its connections are closed.
func (o *openTunnel) Ended(res tunnel.Result) {
	o.rec.ended(res)
	o.srv.book(&o.rec)
	o.srv.Metrics.Tunnels.Dec()
	o.srv.released(o)
}

// ended adds to the record what a tunnel carried and how it ended.
func (r *Record) ended(res tunnel.Result) {
	r.Received += res.Up
	r.Sent += res.Down
	switch {
	case res.Err == nil:
	case errors.Is(res.Err, os.ErrDeadlineExceeded):
		r.Error = classIdle
	default:
		r.Error = classTerminated
	}
}

// sweep is the sweeper's look at one tunnel.
func (o *openTunnel) sweep() {
	if !o.started.Load() {
		return
	}
	o.tun.KeepAlive()
	idle := o.srv.now() - time.Duration(o.last.Load())
	if limit := o.srv.IdleTimeout; limit > 0 && idle >= limit {
		o.tun.Cut()
	}
}

// closeIfIdle leaves it: a tunnel that is quiet is still wanted.
func (o *openTunnel) closeIfIdle() {}

// cut ends the tunnel now.
func (o *openTunnel) cut() {
	if o.started.Load() {
		o.tun.Cut()
	}
}
