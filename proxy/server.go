// Package proxy is the HTTP front door: a forward proxy for CONNECT and for
// requests in absolute form (RFC 9110, RFC 9112), which lets through what the
// policy in force allows.
//
// A client connection that is quiet, or whose request and answer each come in one
// piece, takes no goroutine: see loop.go. For anything else one goroutine serves it.
// It reads each head into a buffer that it gives back while it waits, decides, writes
// the request to a pooled or new upstream connection and reads the answer itself; only
// a request body that is not there at once takes a second goroutine. A tunnel takes
// none: see proxy/tunnel. Time limits are kept by one sweeper for all connections.
package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accept"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/inspect"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/streams"
	"github.com/sluiceproxy/sluice/proxy/terminate"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// Options is what a Server uses. Gate, Metrics and Log are required; so are the
// limits and time-outs, which have no defaults here.
type Options struct {
	Gate    *outbound.Gate
	Metrics *metrics.Metrics
	Log     *slog.Logger
	Budget  *fdbudget.Budget                  // nil: no limit
	Access  *accesslog.Log[accesslog.Request] // nil: no access log
	TLS     *tls.Config                       // for https targets in absolute form; nil: the system's roots

	Name         string // ends loops: this proxy's pseudonym in Via, unique among proxies
	ForwardedFor bool   // add X-Forwarded-For
	LogQuery     bool   // the access log has the queries of requests to inspected hosts, too

	Head       http1.Limits // of a request
	AnswerHead http1.Limits // of an answer; MaxHead bounds the interim ones before it too, all together
	MaxConns   int          // open client connections; 0: as many as the budget has room for

	ProxyFrom []netip.Prefix // peers whose connections begin with a PROXY protocol header

	HeadTimeout      time.Duration // for a request head, from its first byte or the start
	ConnectTimeout   time.Duration // to connect, all addresses together
	IdleTimeout      time.Duration // of a tunnel, or of a request under way, without a byte
	KeepAliveTimeout time.Duration // between requests
	MinRate          int           // octets a second at which bodies must move to and from a client, when they can; 0: any
	MinRateOver      time.Duration // the time over which that is measured; 0: 30 s
	HalfCloseTimeout time.Duration // of an exchange whose client has ended its half, without a byte from the server; 0: as IdleTimeout
}

// Server serves clients. Make it with New.
type Server struct {
	Options
	loops    poll.Loops
	pump     *tunnel.Pump
	single   bool // there is one processor
	panicked contain.Reporter
	live     atomic.Pointer[policy.Generation]
	door     *door.Door
	ids      idSource
	free     sync.Pool // of *conn, see conn.reuse
	tunnels  sync.Pool // of *openTunnel
	targets  targets

	terminator *terminate.Terminator // of clients by TLS
	leaves     leaves                // shown to clients of inspected hosts
	inspect    *inspect.Server       // of those of them that speak HTTP/2
	streams    *streams.Transport    // of servers that do
	lastFailed [2]atomic.Int64       // handshake in the log, in ns; the second is of those about certificates

	checkTime time.Duration // firstTime; tests have none

	opened   atomic.Int64    // tunnels since the last trim
	ends     atomic.Int64    // Unix time in ns when the first ends of what clients have shown; 0: none does
	podsSeen uint64          // version of who has which address that was judged by, for the sweeper
	ctx      context.Context // ends when connections are cut
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	headBytes atomic.Int64  // see holdHead
	lingering chan struct{} // slots for refused connections that are read empty

	mu        sync.Mutex
	acceptors []*accept.Acceptor
	serving   sync.WaitGroup // calls of Serve
}

// sessionsMost is how many sessions of TLS with servers are kept, to be taken up again by the
// tenant that has made them.
const sessionsMost = 4096

// New returns a server that denies everything until SetGeneration is called. It
// runs a goroutine until Shutdown.
func New(o Options) *Server {
	s := &Server{Options: o, lingering: make(chan struct{}, 16)}
	s.checkTime = firstTime
	s.single = runtime.GOMAXPROCS(0) == 1
	s.panicked = contain.Log(s.Log, s.Metrics.Panics.Inc)
	s.loops.Report = s.panicked
	s.pump = tunnel.New(o.Budget, &s.loops)
	if s.TLS == nil {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	s.TLS = s.TLS.Clone()
	s.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(sessionsMost)
	if s.Name == "" {
		s.Name = fmt.Sprintf("sluice-%08x", rand.Uint32())
	}
	s.Gate.Name = s.Name
	if s.MinRateOver == 0 {
		s.MinRateOver = paceWindow
	}
	s.ids.seed = rand.Uint64()
	s.free.New = func() any {
		c := &conn{srv: s}
		c.tcp = &c.socket
		return c
	}
	s.tunnels.New = func() any { return &openTunnel{srv: s} }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.openDoor()
	s.terminator = s.newTerminator()
	s.inspect = inspect.New(inspect.Options{Head: s.Head, Answer: insideAnswers(s.AnswerHead),
		Idle: s.KeepAliveTimeout, Stalled: s.IdleTimeout, Log: s.Log, Report: s.panicked})
	s.streams = streams.New(streams.Options{MaxHead: s.AnswerHead.MaxHead, Idle: streamsIdle, Budget: s.Budget, Report: s.panicked})
	return s
}

// SetGeneration puts g in force for the requests that start from now on.
func (s *Server) SetGeneration(g *policy.Generation) { s.live.Store(g) }

// Generation returns what is in force, nil before the first SetGeneration.
func (s *Server) Generation() *policy.Generation { return s.live.Load() }

// Serve accepts clients from l until Shutdown, and closes l. It returns nil then, and
// an error when it could not begin. Running out of descriptors is no such error:
// it waits and goes on.
func (s *Server) Serve(l *sock.Listener) error {
	return s.serve(l, func() *accept.Acceptor {
		var next *conn
		l.Room = func() *sock.Conn {
			next = s.free.Get().(*conn)
			return next.tcp
		}
		return accept.New(l, func(on *poll.Loop, _ *sock.Conn) { s.accept(on, next) }, s.cannotAccept)
	})
}

// ServeSOCKS is Serve for clients that speak SOCKS 5 (RFC 1928).
func (s *Server) ServeSOCKS(l *sock.Listener) error {
	return s.serve(l, func() *accept.Acceptor {
		var next *conn
		l.Room = func() *sock.Conn {
			next = s.free.Get().(*conn)
			return next.tcp
		}
		return accept.New(l, func(on *poll.Loop, _ *sock.Conn) {
			next.socks.speaks = true
			s.accept(on, next)
		}, s.cannotAccept)
	})
}

// serve takes clients from l by what make makes, until Shutdown.
func (s *Server) serve(l *sock.Listener, make func() *accept.Acceptor) error {
	a := s.enlist(make)
	if a == nil {
		l.Close()
		return nil
	}
	defer s.serving.Done()
	if err := a.Run(s.ctx, &s.loops); err != nil {
		return fmt.Errorf("accept clients on %s: %w", l.Addr(), err)
	}
	return nil
}

// enlist has make make an acceptor, whose Run is counted already, or returns nil when no more
// clients are to come.
func (s *Server) enlist(make func() *accept.Acceptor) *accept.Acceptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.door.Draining() {
		return nil
	}
	a := make()
	s.acceptors = append(s.acceptors, a)
	s.serving.Add(1)
	return a
}

// cannotAccept says that nobody can be let in for a while.
func (s *Server) cannotAccept(err error, in time.Duration) {
	s.Log.Warn("cannot accept clients for now", "error", err, "retry_in", in.String())
}

// Shutdown stops accepting, lets the requests and tunnels under way end by
// themselves, closes connections between two requests at once, and cuts what is
// left when ctx ends. It returns when nothing is left.
func (s *Server) Shutdown(ctx context.Context) {
	s.stopAccepting()
	s.serving.Wait()
	s.terminator.Settle()
	s.door.Drain()
	s.inspect.Drain()
	if !s.door.Wait(ctx) {
		s.door.CutAll()
	}
	s.cancel()
	s.door.Wait(context.Background())
	s.wg.Wait()
	s.terminator.Wait(ctx)
	s.door.Close()
	s.Gate.Pool.Close()
	s.streams.Close()
	s.pump.Close()
	s.loops.Close()
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.door.Drain()
	for _, a := range s.acceptors {
		a.Stop() // Serve returns, having taken who waits
	}
}
