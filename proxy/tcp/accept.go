package tcp

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/door"
)

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
	x.did.start, x.did.client = time.Now(), x.peer
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
		// Who has its place and whose goroutine has not come to run can give way as well.
		x.reading.Store(x.port.plan.Load().readsHead(x.peer.Addr()))
		s.wg.Add(1)
		go x.serve()
	}
}
