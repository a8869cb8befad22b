package tcp

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/accept"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// port is a listening socket with the plan in force for its connections.
type port struct {
	srv      *Server
	key      string
	label    string
	l        *sock.Listener
	metrics  *metrics.TCPListener
	plan     atomic.Pointer[plan]
	acceptor *accept.Acceptor
	serving  sync.WaitGroup
	closed   sync.Once
}

// plan is where a port's connections go. It is immutable.
type plan struct {
	Listener
	names        map[string]*group // by server name; the key of *.domain begins with a dot
	fallback     *group            // nil: refuse
	destinations []*destination    // of all groups, each once
}

// open opens a socket. It does not accept yet.
func (s *Server) open(key string, l Listener) (*port, error) {
	open, err := s.Listen(l.Listen)
	if err != nil {
		return nil, err
	}
	p := &port{srv: s, key: key, label: l.Label, l: open}
	var next *session
	open.Room = func() *sock.Conn {
		next = s.free.Get().(*session)
		next.port = p
		return next.client
	}
	p.acceptor = accept.New(open, func(*poll.Loop, *sock.Conn) { p.accept(next) }, func(err error, in time.Duration) {
		s.Log.Warn("cannot accept clients for now", "listener", p.label, "error", err, "retry_in", in.String())
	})
	p.metrics = s.Metrics.Listener(p.label)
	p.plan.Store(&plan{})
	return p, nil
}

// apply puts l in force for the connections that come from now on.
func (p *port) apply(l Listener) {
	old := p.plan.Load().destinations
	next := &plan{Listener: l}
	take := func(targets []acl.Target) *group {
		g := &group{balance: l.Balance}
		for _, t := range targets {
			same := func(d *destination) bool { return d.target == t && d.check == l.Check && d.tenant == l.Tenant }
			i := slices.IndexFunc(next.destinations, same)
			if i < 0 {
				if j := slices.IndexFunc(old, same); j >= 0 {
					next.destinations = append(next.destinations, old[j])
				} else {
					next.destinations = append(next.destinations, newDestination(p, t, l))
				}
				i = len(next.destinations) - 1
			}
			g.members = append(g.members, next.destinations[i])
		}
		return g
	}
	if len(l.Routes) > 0 {
		next.names = make(map[string]*group)
	}
	for _, r := range l.Routes {
		g := take(r.Destinations)
		for _, name := range r.Names {
			if len(name) > 1 && name[0] == '*' {
				name = name[1:]
			}
			next.names[name] = g
		}
	}
	if len(l.Destinations) > 0 {
		next.fallback = take(l.Destinations)
	}
	p.plan.Store(next)
	for _, d := range old {
		if !slices.Contains(next.destinations, d) {
			d.stop()
		}
	}
	p.refresh()
}

// refresh is called when an address has come, gone, failed or recovered.
func (p *port) refresh() {
	p.metrics.SetUp(p.plan.Load().up())
	p.srv.changed()
}

// up reports whether any connection has somewhere to go.
func (pl *plan) up() bool {
	return slices.ContainsFunc(pl.destinations, (*destination).up)
}

// serve accepts clients until the port is closed. Running out of descriptors is
// no reason to end: it waits and goes on.
func (p *port) serve() {
	defer p.serving.Done()
	if err := p.acceptor.Run(p.srv.ctx, &p.srv.loops); err != nil {
		p.srv.Log.Error("the port accepts no more", "listener", p.label, "error", err)
	}
}

// close gives up what the port has; its connections live on.
func (p *port) close() {
	p.closed.Do(func() {
		p.acceptor.Stop()
		p.serving.Wait()
		for _, d := range p.plan.Load().destinations {
			d.stop()
		}
		p.metrics.Release()
	})
}

// PortStatus is what is known of a port.
type PortStatus struct {
	Label        string
	Addr         netip.AddrPort // where it listens
	Up           bool           // connections have somewhere to go
	Destinations []DestinationStatus
}
