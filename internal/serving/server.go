package serving

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// Server is the end of sluice-kube hold. Its exported fields are set before Serve.
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
	proxies map[*peer.Conn]bool // true: it drains
}

// Serve serves the proxies that connect to l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		c := peer.New(nc, maxLine)
		all.Go(func() {
			defer context.AfterFunc(ctx, c.Close)()
			s.serve(c)
		})
	}
}

func (s *Server) serve(c *peer.Conn) {
	defer c.Close()
	if err := c.Greet(Protocol, s.Version, "sluice"); err != nil {
		s.Log.Warn("a proxy cannot be told what is held", "error", err)
		return
	}
	if c.Within(0) != nil || !s.enter(c) {
		return
	}
	defer s.leave(c)
	s.Log.Info("a proxy has come")
	for {
		var said Said
		if c.Receive(&said) != nil {
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

// enter counts a proxy, and tells it what is held.
func (s *Server) enter(c *peer.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Send(Told{Held: &s.held}) != nil {
		return false
	}
	if s.proxies == nil {
		s.proxies = map[*peer.Conn]bool{}
	}
	s.proxies[c] = false
	if len(s.proxies) == 1 {
		s.Changed(true)
	}
	return true
}

func (s *Server) leave(c *peer.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	drains := s.proxies[c]
	delete(s.proxies, c)
	if len(s.proxies) == 0 {
		s.Changed(false)
	}
	if drains {
		s.allDrained()
	}
}

func (s *Server) drained(c *peer.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.proxies[c] {
		return
	}
	s.proxies[c] = false
	s.allDrained()
}

// allDrained is called with mu held, when one has drained.
func (s *Server) allDrained() {
	for _, drains := range s.proxies {
		if drains {
			return
		}
	}
	s.Drained()
}

// Tell tells all proxies. What is held is told to those, too, who come later. It does not wait
// for an answer.
func (s *Server) Tell(t Told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Held != nil {
		s.held = *t.Held
	}
	for c := range s.proxies {
		if t.Drain != 0 {
			s.proxies[c] = true
		}
		if c.Send(t) != nil {
			c.Close() // which ends it
		}
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
