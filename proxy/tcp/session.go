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
	did     progress
	rec     accesslog.Connection // made of all that at the end
	begun   begun
	to      *address           // that the tunnel leads to
	tenant  string             // whose the client is, once there is a tunnel
	gen     *policy.Generation // that admits it, until there is a tunnel
	policy  *policy.Name       // of that
	target  acl.Target         // being connected to, under mu
	relayed bool               // a tunnel was made of it
	ahead   int64              // bytes of early that went ahead of the tunnel
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
	x.reading.Store(pl.readsHead(x.peer.Addr()))
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
		g := pl.route(x.did.serverName)
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
	x.did.received, x.did.sent = res.Up+x.ahead, res.Down
	end := ends[x.Why()]
	switch {
	case end != endClosed:
	case errors.Is(res.Err, tunnel.ErrReset):
		end = endReset
	case res.Err != nil:
		x.did.why = res.Err.Error()
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
	x.did.refused, x.did.why = cause.String(), why
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
	x.fillRecord(e)
	x.srv.Access.Write(&x.rec)
}
