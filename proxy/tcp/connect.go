package tcp

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

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
	b.order = pl.fallback.order(x.did.client.Addr())
	if len(b.order) == 0 || !b.order[0].d.ref(b.order[0]) {
		return false
	}
	a := b.order[0]
	b.at = time.Now()
	x.judgedBy(x.srv.live.Load().generation)
	conn, connecting, able, err := x.srv.begin(x.did.client.Addr(), a)
	if !able {
		a.d.ended(a)
		return false
	}
	if connecting || err != nil {
		b.made, b.conn, b.err = true, conn, err
		return false
	}
	x.did.attempts++
	x.connected(a, b.at)
	x.reached(a, conn)
	x.makeTunnel(conn)
	return true
}

// judgedBy says by which generation the session is admitted, or not.
func (x *session) judgedBy(gen *policy.Generation) { x.gen, x.policy = gen, gen.Name() }

// connected books an attempt that has succeeded.
func (x *session) connected(a *address, begin time.Time) {
	x.did.connect = time.Since(begin)
	a.d.metrics.Connected(x.did.connect)
	a.answers()
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
		order = g.order(x.did.client.Addr())
	}
	if len(order) == 0 {
		// Just after the start nothing may be known yet.
		wait, cancel := context.WithTimeout(ctx, s.live.Load().dnsTimeout)
		g.resolved(wait.Done())
		cancel()
		if order = g.order(x.did.client.Addr()); len(order) == 0 {
			return nil, nil, metrics.TCPNoAddress, g.problem()
		}
	}
	failure := errGone
	for i, a := range order {
		x.connectsTo(a.d.target)
		conn, begin, err := b.conn, b.at, b.err
		if i > 0 || !b.made {
			if !a.d.ref(a) {
				continue
			}
			x.judgedBy(s.live.Load().generation)
			begin = time.Now()
			conn, err = s.dial(ctx, x.did.client.Addr(), a)
		} else if err == nil {
			err = conn.Blocking().Wait(&outbound.Until{Context: ctx, At: begin.Add(s.live.Load().connectTimeout)})
		}
		x.did.attempts++
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
	x.did.destination, x.did.addr, x.did.source = a.d.label, conn.Dst, conn.Local()
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
	of, gen, client, d, at := x.Look(), x.gen, x.Client(), x.to.d, conn.Dst.Addr()
	x.gen = nil // which a tunnel must not keep
	x.srv.pump.Start(&x.tunnel, tunnel.Side{Conn: x.client}, tunnel.Side{Conn: conn.TCP}, x)
	if why := x.Why(); why != 0 && why != door.Gone { // a reset is found, and passed on
		x.tunnel.Cut() // whoever cut it may have come too early
	}
	// What was put in force while it was being connected is looked at now that it can be revoked.
	if live := x.srv.live.Load().generation; live != gen && !live.KeepsOpen() {
		if why := x.srv.Gate.Revocation(live, &outbound.Request{Client: client, Tenant: d.tenant, Target: d.target}, at, time.Now()); why != nil {
			door.RevokeNow(x, of, *why)
		}
	}
	if free {
		conn.Release()
	}
}
