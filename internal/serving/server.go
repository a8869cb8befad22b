package serving

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// maxProxies is how many connections there may be: a pod has one proxy or a few, and one that was
// started again may be there beside what it was before.
const maxProxies = 16

// Server is the end of sluice-kube hold. Its exported fields are set before Serve. What it
// calls must not wait: proxies come and go meanwhile.
type Server struct {
	Version string
	Log     *slog.Logger
	// Changed is called when the first proxy has come (true), and when the last has gone.
	Changed func(serving bool)
	// Leaving is called when a proxy was told to end.
	Leaving func()
	// Drained is called when every proxy has drained that was told to.
	Drained func()

	mu      sync.Mutex
	held    Held
	proxies map[*client]struct{}
}

// client is a proxy's connection. Its fields are guarded by the server's mu.
type client struct {
	conn   *peer.Conn
	drains bool          // it was told to, and has not said that it has
	next   Told          // what it is to be told yet
	more   chan struct{} // there is something in next
}

// Serve serves the proxies that connect to l until ctx ends, and closes l. It returns when all
// are gone: nil, or what is wrong with l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	p := peer.Server{Most: maxProxies, Serve: s.serve,
		Full: func() { s.Log.Warn("a proxy was turned away: there are too many", "most", maxProxies) }}
	return p.Run(ctx, l)
}

func (s *Server) serve(ctx context.Context, nc net.Conn) {
	c := &client{conn: peer.New(nc, maxLine), more: make(chan struct{}, 1)}
	if err := c.conn.Greet(Protocol, s.Version, "sluice"); err != nil {
		s.Log.Warn("a proxy cannot be told what is held", "error", err)
		return
	}
	if c.conn.Within(0) != nil {
		return
	}
	s.enter(c)
	defer s.leave(c)
	ctx, cancel := context.WithCancel(ctx)
	var tells sync.WaitGroup
	defer tells.Wait()
	defer cancel()
	tells.Go(func() { s.tell(ctx, c) })
	s.Log.Info("a proxy has come")
	for {
		var said Said
		if c.conn.Receive(&said) != nil {
			c.conn.Close() // so that nobody is told any more
			return
		}
		if said.Leaving {
			s.Leaving()
		}
		if said.Drained {
			s.drained(c)
		}
	}
}

// tell tells a proxy what it is to be told, until ctx ends. One that takes nothing for as long
// as a line may take (it is stopped, and its socket full) is cut off, and gone by that.
func (s *Server) tell(ctx context.Context, c *client) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.more:
		}
		s.mu.Lock()
		t := c.next
		c.next = Told{}
		s.mu.Unlock()
		if t == (Told{}) {
			continue // it was in the line before
		}
		if err := c.conn.Send(t); err != nil {
			if ctx.Err() == nil {
				s.Log.Warn("a proxy takes nothing that it is told, and counts as gone", "error", err)
			}
			c.conn.Close() // which ends it
			return
		}
	}
}

// add is called with the server's mu held: t is told behind what was to be told before, which
// it joins when that has not left yet. A proxy does what a line says in this order: what is held,
// then Cut, then Drain. So what is held last counts, and what was open before is cut.
func (c *client) add(t Told) {
	if t.Held != nil {
		c.next.Held = t.Held
	}
	c.next.Cut = c.next.Cut || t.Cut
	if t.Drain != 0 {
		c.next.Drain = t.Drain
	}
	select {
	case c.more <- struct{}{}:
	default: // it will be seen
	}
}

// enter counts a proxy, and tells it what is held.
func (s *Server) enter(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held
	c.add(Told{Held: &held})
	if s.proxies == nil {
		s.proxies = map[*client]struct{}{}
	}
	s.proxies[c] = struct{}{}
	if len(s.proxies) == 1 {
		s.Changed(true)
	}
}

func (s *Server) leave(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.proxies, c)
	if len(s.proxies) == 0 {
		s.Changed(false)
	}
	if c.drains {
		s.allDrained()
	}
}

func (s *Server) drained(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.drains {
		return
	}
	c.drains = false
	s.allDrained()
}

// allDrained is called with mu held, when one has drained.
func (s *Server) allDrained() {
	for c := range s.proxies {
		if c.drains {
			return
		}
	}
	s.Drained()
}

// Tell tells all proxies. What is held is told to those, too, who come later. It waits for
// nobody: what a proxy has not taken yet is joined into one line that says how things are now.
func (s *Server) Tell(t Told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Held != nil {
		s.held = *t.Held
	}
	for c := range s.proxies {
		c.drains = c.drains || t.Drain != 0
		c.add(t)
	}
	if t.Drain != 0 && len(s.proxies) == 0 {
		s.Drained()
	}
}

// Gone returns when no proxy is connected any more, or so much time has passed.
func (s *Server) Gone(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for s.count() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func (s *Server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.proxies)
}
