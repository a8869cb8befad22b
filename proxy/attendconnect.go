package proxy

import (
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// beginConnect begins to serve a CONNECT.
func (x *exchange) beginConnect(l *poll.Loop) bool {
	c := x.c
	if !x.parse(http1.AuthorityForm) || c.r != c.w {
		return false
	}
	x.rec.Mode = metrics.Connect
	known, err := x.admitNow(0)
	switch {
	case !known:
		return false
	case err != nil:
		x.failed, x.stage = err, stageFailed
	default:
		x.beginDial(l)
	}
	return true
}

// beginDial begins to connect to the server.
func (x *exchange) beginDial(l *poll.Loop) {
	c, s := x.c, x.c.srv
	x.begun = time.Now()
	up, connecting, able, err := s.Gate.BeginConnect(&x.ticket.Route)
	switch {
	case !able:
		x.stage = stageDial // it may take happy eyeballs
	case err != nil:
		x.failed, x.stage = err, stageFailed
		x.rec.Connect = time.Since(x.begun)
	case connecting:
		x.up, x.stage = up, stageConnecting
		c.upstream.Store(up)
		c.arm(s.ConnectTimeout)
		if l, err = s.orNext(l); err == nil {
			err = up.WatchConnecting(l, (*serverSide)(c))
		}
		if err != nil {
			x.failed, x.stage = err, stageFailed
		}
	default:
		c.upstream.Store(up)
		x.connected(up, l)
	}
}

// connected goes on when there is a connection to the server.
func (x *exchange) connected(up *outbound.Conn, l *poll.Loop) {
	x.take(up, false)
	x.rec.Connect = time.Since(x.begun)
	if x.rec.Mode == metrics.Forward {
		x.readyToAsk(l)
		return
	}
	x.rec.Status, x.tail = 200, established
	x.stage = stageConnected
}

// endConnect is called when there may be news of a handshake.
func (c *conn) endConnect(l *poll.Loop) {
	x := c.x
	switch over, err := x.up.Connected(); {
	case err != nil:
		x.failed, x.stage = err, stageFailed
		x.rec.Connect = time.Since(x.begun)
		c.goAway(x)
	case over:
		x.connected(x.up, l)
		c.proceed(l)
	}
}

// makeTunnel tells the client, and makes a tunnel of the connection.
func (c *conn) makeTunnel() {
	x := c.x
	fd, _ := c.tcp.Bare()
	n, _ := sock.TryWrite(fd, x.tail)
	if n != len(x.tail) {
		x.tail = x.tail[max(n, 0):]
		c.goAway(x)
		return
	}
	x.rec.Tunnel, x.rec.FirstByte = true, time.Since(x.rec.Start)
	x.fillRecord()
	c.releaseBuffer()
	c.dropBound()
	c.away, c.over, c.x = true, true, nil
	up := x.up
	free := x.handOver()
	x.end()
	if free {
		up.Release()
		c.reuse()
	}
}
