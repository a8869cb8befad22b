package proxy

import (
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/poll"
)

// beginDial begins to connect to the server.
func (x *exchange) beginDial(l *poll.Loop) {
	c, s := x.c, x.c.srv
	x.begun = time.Now()
	up, connecting, able, err := s.Gate.BeginConnect(&x.ticket.Route)
	switch {
	case !able:
		x.to(stageDial) // it may take happy eyeballs
	case err != nil:
		x.fail(err)
		x.did.connect = time.Since(x.begun)
	case connecting:
		x.up = up
		x.to(stageConnecting)
		c.upstream.Store(up)
		c.setLimit(s.ConnectTimeout)
		if l, err = s.orNext(l); err == nil {
			err = up.RegisterConnecting(l, (*serverSide)(c))
		}
		if err != nil {
			x.fail(err)
		}
	default:
		c.upstream.Store(up)
		x.connected(up, l)
	}
}

// connected goes on when there is a connection to the server.
func (x *exchange) connected(up *outbound.Conn, l *poll.Loop) {
	x.attach(up, false)
	x.did.connect = time.Since(x.begun)
	if err := x.admitAgain(); err != nil {
		x.fail(err)
		return
	}
	if x.did.mode == metrics.Forward {
		x.readyToSend(l)
		return
	}
	x.did.status, x.tail = 200, x.established()
	x.to(stageConnected)
}

// endConnect is called when there may be news of a handshake.
func (c *conn) endConnect(l *poll.Loop) {
	x := c.x
	switch over, err := x.up.Connected(); {
	case err != nil:
		x.fail(err)
		x.did.connect = time.Since(x.begun)
		c.refuseNow(l)
	case over:
		x.connected(x.up, l)
		c.proceed(l)
	}
}

// dialTunnel makes a tunnel to where x.ticket leads, or one that is opened.
func (x goExchange) dialTunnel() bool {
	if x.ticket.Inspected != nil {
		return x.open()
	}
	if err := x.dial(""); err != nil {
		return x.refuse(err)
	}
	x.did.status = 200
	return x.switchTo(x.established())
}

// connectServer makes x.up a connection: one that is bound to this client, one from the pool
// if it may be, or a new one.
func (x goExchange) connectServer(server string, pool bool) error {
	x.up = nil
	for {
		up := x.takeBound(server)
		if up == nil {
			if up = x.sharedStream(server); up != nil {
				return x.use(up, true)
			}
		}
		if up == nil && pool {
			up = x.c.srv.Gate.Pool.Get(&x.ticket.Route, server)
		}
		if up == nil {
			return x.dialFirst(server)
		}
		up.Deregister()
		if up.TLS == nil && x.body.whole || up.Quiet() { // else trySend finds out
			return x.use(up, true)
		}
		up.Close()
	}
}

// dial connects x.up to an address of x.ticket; server, if not "", is the name
// that TLS must verify.
func (x goExchange) dial(server string) error {
	s := x.c.srv
	start := time.Now()
	ctx := &x.until
	if x.ticket.Route.Len() > 1 {
		ctx = new(outbound.Until) // attempts that came too late may look at it still
	}
	there, done := x.c.whileThere()
	defer done()
	*ctx = outbound.Until{Context: there, At: start.Add(s.ConnectTimeout)}
	up, err := s.Gate.Blocking().Connect(ctx, &x.ticket.Route)
	if err == nil && server != "" {
		up, err = x.secure(ctx, up, server)
	}
	x.did.connect = time.Since(start)
	if err != nil {
		return err
	}
	return x.use(up, false)
}

// use makes up the connection of this exchange, if that still stands.
func (x goExchange) use(up *outbound.Conn, pooled bool) error {
	x.attach(up, pooled)
	x.c.does(x.doing())
	x.c.setUpstream(up)
	err := x.admitAgain()
	if err != nil {
		x.dropUpstream()
	}
	return err
}

func (x *exchange) attach(up *outbound.Conn, pooled bool) {
	x.up, x.pooled = up, pooled
	x.did.addr, x.did.source = up.Dst, up.Local()
}
