package tcp

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// session is one client connection. Its goroutine owns all but the atomic fields,
// until a tunnel is made of it; then it owns nothing, and what is left to do is done
// by Touch and Ended. After that it is used again for another.
type session struct {
	door.Entry
	srv    *Server
	client *sock.Conn
	socket sock.Conn  // what client points to
	mu     sync.Mutex // held while the life begins and is forgotten: see Describe
	sessionLife

	last       atomic.Int64 // the coarse clock when bytes moved last; 0: not relaying
	upstream   atomic.Pointer[sock.Conn]
	quit       atomic.Pointer[context.CancelFunc] // ends what its goroutine waits for
	connecting atomic.Bool                        // to a destination
	reading    atomic.Bool                        // what must be said before a destination is chosen
	tunnel     tunnel.Tunnel                      // starts anew by itself
}

// sessionLife is what a session knows of the client that it has now.
type sessionLife struct {
	port    *port
	peer    netip.AddrPort // who connected
	local   netip.AddrPort // where to, as a PROXY header said; invalid: the socket knows
	early   []byte         // read from the client, and not sent on yet
	rec     accesslog.Connection
	begun   begun
	to      *address           // that the tunnel leads to
	tenant  string             // whose the client is, once there is a tunnel
	gen     *policy.Generation // that has admitted it
	target  acl.Target         // being connected to, under mu
	relayed bool               // a tunnel was made of it
	ahead   int64              // bytes of early that went ahead of the tunnel
}

// accept starts to serve a client, or refuses it.
func (p *port) accept(x *session) {
	s := p.srv
	p.metrics.Accepted()
	x.meet(p)
	l := s.limits(x.Client())
	why, await := s.door.EnterOrShed(x, l)
	if await {
		s.wg.Add(1)
		go x.acceptLater(l)
		return
	}
	x.start(why)
}

// meet makes x that of the client who has come to the port.
func (x *session) meet(p *port) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.peer = x.client.Remote()
	x.rec = accesslog.Connection{Common: accesslog.Common{Start: time.Now(), Client: x.peer}, Listener: p.label, Peer: x.peer}
}

// acceptLater serves x when somebody has given way for it, or refuses it.
func (x *session) acceptLater(l door.Limits) {
	defer x.srv.wg.Done()
	defer x.srv.Panicked.Recover(func() { abort(x.client) })
	x.start(x.srv.door.Await(x, l))
}

// limits are those for the connections of a client.
func (s *Server) limits(client netip.Addr) door.Limits {
	live := s.live.Load()
	return door.Limits{Conns: live.maxConns, ConnsPerClient: live.generation.Tenant(client).Limits.ConnsPerClient}
}

// refusals say why there is no place.
var refusals = [...]string{door.Full: "too many connections", door.NoDescriptors: "no descriptor is left for it",
	door.TooMany: "too many connections from this client"}

// start serves a session that has its place, and refuses any other.
func (x *session) start(why door.Refusal) {
	if why != 0 {
		x.refuse(metrics.TCPLimit, refusals[why])
		return
	}
	x.begin()
}

// begin serves a session that has its place.
func (x *session) begin() {
	s := x.srv
	x.port.metrics.Clients.Inc()
	of := x.Look()
	defer s.Panicked.Recover(func() { x.abandon(of) })
	if !x.atOnce() {
		s.wg.Add(1)
		go x.serve()
	}
}

// begun is a first attempt to connect, made by the loop that accepts, which may not
// wait.
type begun struct {
	order []*address // to try; nil: not chosen yet
	made  bool       // the attempt, at the first of them
	conn  *outbound.Conn
	err   error
	at    time.Time
}

// atOnce makes a tunnel if nothing has to be waited for, as on the same node, and there is
// no other processor that could do it meanwhile. Anything else is for serve.
func (x *session) atOnce() bool {
	pl := x.port.plan.Load()
	if !x.srv.single || pl.names != nil || pl.fallback == nil || pl.trusts(x.peer.Addr()) || pl.SendProxy > 0 {
		return false
	}
	b := &x.begun
	b.order = pl.fallback.order(x.rec.Client.Addr())
	if len(b.order) == 0 || !b.order[0].d.ref(b.order[0]) {
		return false
	}
	a := b.order[0]
	b.at = time.Now()
	x.gen = x.srv.live.Load().generation
	conn, connecting, able, err := x.srv.begin(x.rec.Client.Addr(), a.d.target, a.addr)
	if !able {
		a.d.ended(a)
		return false
	}
	if connecting || err != nil {
		b.made, b.conn, b.err = true, conn, err
		return false
	}
	x.rec.Attempts++
	x.connected(a, b.at)
	x.reached(a, conn)
	x.makeTunnel(conn)
	return true
}

// connected books an attempt that has succeeded.
func (x *session) connected(a *address, begin time.Time) {
	x.rec.Connect = time.Since(begin)
	a.d.metrics.Connected(x.rec.Connect)
	a.answers()
}

// abandon ends a session whose service has panicked, in whatever state, before a tunnel was
// made of it; the tunnel ends by itself.
func (x *session) abandon(of door.Lease) {
	if !x.Stop(of, door.Cut) {
		return // it has ended, and is another's by now
	}
	if x.relayed {
		x.tunnel.Abandon(x.tunnel.Look())
		return
	}
	if up := x.upstream.Load(); up != nil {
		up.Close()
	}
	abort(x.client)
	x.gone()
}

// gone is the last that happens to a session. Its connections are closed.
func (x *session) gone() {
	x.port.metrics.Clients.Dec()
	x.srv.door.Leave(x)
}

// goSession is a session as the goroutine has it that serves it: it may wait for the client
// and for the destination. A loop has no such thing.
type goSession struct {
	*session
	client sock.Blocking
}

// serve takes the connection to where a tunnel is made of it, or to its end.
func (x *session) serve() {
	defer x.srv.wg.Done()
	of := x.Look()
	defer x.srv.Panicked.Recover(func() { x.abandon(of) })
	ctx, cancel := context.WithCancel(x.srv.ctx)
	defer cancel() // and x may be another client's by then
	x.quit.Store(&cancel)
	if cause, err := (goSession{x, x.client.Blocking()}).open(ctx); err != nil {
		x.refuse(cause, err.Error())
		x.gone()
	}
}

// open makes a tunnel of the connection.
func (x goSession) open(ctx context.Context) (metrics.TCPRefusal, error) {
	pl := x.port.plan.Load()
	x.reading.Store(true)
	cause, err := x.readHead(pl)
	x.reading.Store(false)
	if x.Why() == door.Shed {
		return metrics.TCPLimit, errors.New("it gave way to others: it had not said where to")
	}
	if err != nil {
		return cause, err
	}
	for range 2 {
		pl = x.port.plan.Load() // the head may have taken its time
		g := pl.route(x.rec.ServerName)
		if g == nil {
			return metrics.TCPName, errors.New("no destination for this server name")
		}
		x.connecting.Store(true)
		a, conn, cause, err := x.connect(ctx, g)
		x.connecting.Store(false)
		if errors.Is(err, errGone) {
			continue // a reload came between
		}
		if err != nil {
			return cause, err
		}
		x.relay(pl, a, conn)
		return 0, nil
	}
	return metrics.TCPNoAddress, errGone
}

// readHead reads what the client must say before a destination is chosen.
func (x goSession) readHead(pl *plan) (metrics.TCPRefusal, error) {
	proxied := pl.trusts(x.peer.Addr())
	if !proxied && pl.names == nil {
		return 0, nil
	}
	x.client.SetReadDeadline(time.Now().Add(x.srv.live.Load().headTimeout))
	if x.Why() != 0 {
		x.client.SetReadDeadline(time.Unix(1, 0)) // cut meanwhile
	}
	if proxied {
		if err := x.readProxyHeader(); err != nil {
			return metrics.TCPHeader, err
		}
	}
	if pl.names != nil {
		if err := x.readServerName(); err != nil {
			return metrics.TCPName, err
		}
	}
	x.client.SetReadDeadline(time.Time{})
	if x.Why() != 0 {
		return metrics.TCPConnect, os.ErrDeadlineExceeded // cut meanwhile
	}
	return 0, nil
}

// errClientGone says that the client has reset the connection before it was connected.
var errClientGone = errors.New("the client has gone")

// errGone says that all addresses that were to be tried left the configuration.
var errGone = errors.New("the destination left the configuration")

// connect tries addresses until one answers.
func (x goSession) connect(ctx context.Context, g *group) (*address, *outbound.Conn, metrics.TCPRefusal, error) {
	s := x.srv
	order, b := x.begun.order, x.begun
	if x.begun = (begun{}); order == nil {
		order = g.order(x.rec.Client.Addr())
	}
	if len(order) == 0 {
		// Just after the start nothing may be known yet.
		wait, cancel := context.WithTimeout(ctx, s.live.Load().dnsTimeout)
		g.resolved(wait.Done())
		cancel()
		if order = g.order(x.rec.Client.Addr()); len(order) == 0 {
			return nil, nil, metrics.TCPNoAddress, g.problem()
		}
	}
	failure := errGone
	for i, a := range order {
		conn, begin, err := b.conn, b.at, b.err
		if i > 0 || !b.made {
			if !a.d.ref(a) {
				continue
			}
			x.gen = s.live.Load().generation
			x.connectsTo(a.d.target)
			begin = time.Now()
			conn, err = s.dial(ctx, x.rec.Client.Addr(), a.d.target, a.addr)
		} else if err == nil {
			err = conn.Blocking().Wait(&outbound.Until{Context: ctx, At: begin.Add(s.live.Load().connectTimeout)})
		}
		x.rec.Attempts++
		if err == nil {
			x.connected(a, begin)
			return a, conn, 0, nil
		}
		a.d.ended(a)
		if failure = err; ctx.Err() != nil {
			if x.Why() == door.Gone {
				failure = errClientGone
			}
			break
		}
		class := classOf(err)
		a.d.metrics.ConnectFailed(class)
		if class != metrics.TCPLocal && class != metrics.TCPDenied {
			a.failed(err)
		}
	}
	return nil, nil, metrics.TCPConnect, failure
}

// connectsTo says what the session waits for.
func (x *session) connectsTo(t acl.Target) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.target = t
}

// problem says why no address is known.
func (g *group) problem() error {
	for _, d := range g.members {
		if st := d.status(); st.Problem != "" {
			return errors.New(st.Problem)
		}
	}
	return errors.New("no address is known yet")
}

// reached says which connection is the destination's.
func (x *session) reached(a *address, conn *outbound.Conn) {
	x.rec.Destination, x.rec.Addr, x.rec.Source = a.d.label, conn.Dst, conn.Local()
	x.to, x.tenant = a, conn.Tenant()
	x.Touch()
	x.upstream.Store(conn.TCP)
	if x.Why() != 0 {
		conn.TCP.SetDeadline(time.Unix(1, 0)) // cut meanwhile
	}
}

// relay makes a tunnel of the two connections, in which what was read early goes
// first.
func (x goSession) relay(pl *plan, a *address, conn *outbound.Conn) {
	x.reached(a, conn)
	if !x.sendHead(pl, conn.TCP.Blocking()) {
		abort(x.session.client)
		abort(conn.TCP)
		x.Ended(tunnel.Result{Err: os.ErrDeadlineExceeded})
		return
	}
	if x.ahead, x.early = int64(len(x.early)), nil; x.ahead > 0 { // a tunnel holds no buffer
		a.d.metrics.Moved(x.ahead, 0)
	}
	x.makeTunnel(conn)
}

// makeTunnel makes a tunnel of the two connections.
func (x *session) makeTunnel(conn *outbound.Conn) {
	x.upstream.Store(nil)
	x.relayed = true
	free := x.Why() == 0 // else whoever cuts it may have conn
	of, gen, client, target, at := x.Look(), x.gen, x.Client(), x.to.d.target, conn.Dst.Addr()
	x.srv.pump.Start(&x.tunnel, tunnel.Side{Conn: x.client}, tunnel.Side{Conn: conn.TCP}, x)
	if x.Why() != 0 {
		x.tunnel.Cut() // whoever cut it may have come too early
	}
	// What was put in force while it was being connected is looked at now that it can be revoked.
	if live := x.srv.live.Load().generation; live != gen && !x.srv.Gate.Stands(live, client, target, at) {
		x.Cut(of, door.Revoked)
	}
	if free {
		conn.Release()
	}
}

// Touch is called when bytes have moved: the idle time starts anew.
func (x *session) Touch() { x.last.Store(max(1, int64(x.srv.door.Now()))) }

// Moved counts bytes that have moved.
func (x *session) Moved(up, down int64) { x.to.d.metrics.Moved(up, down) }

// Ended books the session.
func (x *session) Ended(res tunnel.Result) {
	defer x.release()
	x.last.Store(0)
	a := x.to
	a.d.metrics.Ended()
	a.d.ended(a)
	x.rec.Received, x.rec.Sent = res.Up+x.ahead, res.Down
	end := ends[x.Why()]
	switch {
	case end != endClosed:
	case errors.Is(res.Err, tunnel.ErrReset):
		end = endReset
	case res.Err != nil:
		x.rec.Error = res.Err.Error()
	}
	x.log(end)
}

// release gives back what the session had, and itself, to be used again.
func (x *session) release() {
	x.gone()
	if x.Again() {
		x.forget()
		x.srv.free.Put(x)
	}
}

// forget leaves nothing of the client that x has had.
func (x *session) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sessionLife = sessionLife{}
	x.upstream.Store(nil)
	x.quit.Store(nil)
}

// refuse resets the client's connection, as a port with nothing behind it would.
func (x *session) refuse(cause metrics.TCPRefusal, why string) {
	abort(x.client)
	x.port.metrics.Refused(cause)
	x.rec.Refused, x.rec.Error = cause.String(), why
	x.log(endRefused)
}

// abort makes c end in a reset.
func abort(c *sock.Conn) {
	c.ResetOnClose()
	c.Close()
}

func (x *session) log(e end) {
	if x.srv.Access == nil {
		return
	}
	x.rec.Name = x.port.plan.Load().Name
	x.rec.End = endNames[e]
	x.rec.Total = time.Since(x.rec.Start)
	x.srv.Access.Write(&x.rec)
}
