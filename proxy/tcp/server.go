package tcp

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accesslog"
	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// Options is what a Server uses. Gate, TTL, Metrics and Log are required.
type Options struct {
	Gate *outbound.Gate
	// TTL is for how long what the gate's resolver said of a name holds.
	TTL     func(name string) time.Duration
	Metrics *metrics.TCP
	Log     *slog.Logger
	Budget  *fdbudget.Budget // nil: no limit
	// Access, if non-nil, is given the record of each connection at its end.
	Access *accesslog.Log[accesslog.Connection]
	// Listen, if non-nil, opens a port in the place of [sock.Listen].
	Listen func(addr string) (*sock.Listener, error)
	// Changed, if non-nil, is called when Ready may have changed. It is called
	// concurrently and must not block.
	Changed func()
	// Panicked, if non-nil, is told of faults of the program that have ended one connection.
	// It is called concurrently.
	Panicked contain.Reporter
}

// Server serves ports. Make it with New; its methods may be called concurrently.
type Server struct {
	Options
	loops  poll.Loops
	pump   *tunnel.Pump
	single bool // there is one processor
	live   atomic.Pointer[settings]
	ctx    context.Context // ends when everything is cut
	cancel context.CancelFunc
	wg     sync.WaitGroup
	door   *door.Door
	free   sync.Pool // of *session
	pace   pace

	mu      sync.Mutex // one Apply, SetGeneration or Shutdown at a time
	ports   atomic.Pointer[[]*port]
	closing atomic.Bool
	ended   sync.Once
}

// settings are the parts of a Config that concern every port.
type settings struct {
	generation                                           *policy.Generation
	maxConns                                             int
	headTimeout, connectTimeout, dnsTimeout, idleTimeout time.Duration
}

// pace is how often things are tried; tests have no time.
type pace struct {
	look time.Duration // least time between two look-ups of a name
	// hold is for how long addresses are kept when DNS says that the name does not
	// exist: a zone that is being reloaded, or a service between two versions, must
	// not cut clients off at once. The original's haproxy holds them as long.
	hold time.Duration
	// An address that has failed is tried after firstRetry, then after twice that,
	// and so on up to lastRetry.
	firstRetry, lastRetry time.Duration
}

// New returns a server without ports. It runs a goroutine until Shutdown.
func New(o Options) *Server {
	s := &Server{Options: o}
	if s.Listen == nil {
		s.Listen = sock.Listen
	}
	s.door = door.New(door.Options{Budget: o.Budget, Report: o.Panicked, Every: sweepEvery})
	s.single = runtime.GOMAXPROCS(0) == 1
	s.loops.Report = o.Panicked
	s.pump = tunnel.New(o.Budget, &s.loops)
	s.free.New = func() any {
		x := &session{srv: s}
		x.client = &x.socket
		return x
	}
	s.pace = pace{time.Second, 30 * time.Second, time.Second, 15 * time.Second}
	s.live.Store(&settings{})
	s.ports.Store(&[]*port{})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// sweepEvery is how often idle sessions are looked for: the idle time is passed
// by so much at most.
const sweepEvery = 250 * time.Millisecond

// ListenError is why a port can't be opened.
type ListenError struct {
	Listen string // as in [Listener]
	Err    error
}

func (e *ListenError) Error() string { return "listen on " + e.Listen + ": " + e.Err.Error() }

// Unwrap is the kernel's error.
func (e *ListenError) Unwrap() error { return e.Err }

// Apply puts c in force. When a port can't be opened nothing has changed, and the
// error is a *[ListenError]. Ports
// that stay keep their sockets, destinations that stay what is known of them.
// Open connections live on in any case.
func (s *Server) Apply(c Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return net.ErrClosed
	}
	old := make(map[string]*port)
	for _, p := range *s.ports.Load() {
		old[p.key] = p
	}
	var ports, opened []*port
	times := make(map[string]int)
	for _, l := range c.Listeners {
		key := l.Listen + " " + strconv.Itoa(times[l.Listen]) // :0 may be asked for several times
		times[l.Listen]++
		p := old[key]
		if p == nil {
			var err error
			if p, err = s.open(key, l); err != nil {
				for _, p := range opened {
					p.l.Close()
					p.metrics.Release()
				}
				return &ListenError{l.Listen, err}
			}
			opened = append(opened, p)
		}
		delete(old, key)
		ports = append(ports, p)
	}
	// Nothing fails from here on.
	s.live.Store(&settings{c.Generation, c.MaxConns, c.HeadTimeout, c.ConnectTimeout, c.DNSTimeout, c.IdleTimeout})
	s.ports.Store(&ports)
	for i, p := range ports {
		p.apply(c.Listeners[i])
	}
	for _, p := range old {
		p.close()
	}
	for _, p := range opened {
		p.serving.Add(1)
		s.wg.Go(p.serve)
	}
	s.judgeAgain()
	s.changed()
	return nil
}

// SetGeneration puts g in force in the place of the one that Apply set: every
// address is judged again by it.
func (s *Server) SetGeneration(g *policy.Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.live.Load()
	next.generation = g
	s.live.Store(&next)
	s.judgeAgain()
}

func (s *Server) judgeAgain() {
	for _, p := range *s.ports.Load() {
		for _, d := range p.plan.Load().destinations {
			d.judgeAgain()
		}
	}
}

func (s *Server) changed() {
	if s.Changed != nil {
		s.Changed()
	}
}

// Ready reports whether connections to at least one port have somewhere to go.
func (s *Server) Ready() bool {
	for _, p := range *s.ports.Load() {
		if p.plan.Load().up() {
			return !s.closing.Load()
		}
	}
	return false
}

// Status says of each port what a person wants to know, in the order of the
// configuration.
func (s *Server) Status() []PortStatus {
	var all []PortStatus
	for _, p := range *s.ports.Load() {
		plan := p.plan.Load()
		st := PortStatus{Label: p.label, Addr: p.l.Addr(), Up: plan.up()}
		for _, d := range plan.destinations {
			st.Destinations = append(st.Destinations, d.status())
		}
		all = append(all, st)
	}
	return all
}

// Open lists the connections that are open, in no order.
func (s *Server) Open() []door.Open { return s.door.List() }

// Cut ends the connections that which says, and returns how many those are.
func (s *Server) Cut(which func(*door.Open) bool) int { return s.door.CutWhere(which, door.Cut) }

// Revoke ends the connections that the generation in force would not admit, by the
// destination and the address in use, and returns how many those are. It does nothing where
// the generation says that what is open may go on.
func (s *Server) Revoke() int {
	g, now := s.live.Load().generation, time.Now()
	if g.KeepsOpen() {
		return 0
	}
	return s.door.Revoke(func(o *door.Open) *policy.Revocation {
		return s.Gate.Revocation(g, &outbound.Request{Client: o.Client.Addr(), Tenant: o.Tenant, Target: o.Target}, o.Addr.Addr(), now)
	})
}

// Shutdown closes the ports, lets open connections end by themselves, and cuts
// what is left when ctx ends. It returns when nothing is left. Once is enough.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	ports := *s.ports.Load()
	s.closing.Store(true)
	s.mu.Unlock()
	s.changed()
	for _, p := range ports {
		p.acceptor.Stop()
	}
	for _, p := range ports {
		p.serving.Wait()
	}
	s.door.Drain()
	s.door.Wait(ctx)
	s.cancel()
	s.door.CutAll()
	s.door.Wait(context.Background())
	for _, p := range ports {
		p.close()
	}
	s.wg.Wait()
	s.ended.Do(func() {
		s.door.Close()
		s.pump.Close()
		s.loops.Close()
	})
}
