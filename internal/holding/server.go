package holding

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// Holder does what is asked for. Its methods are called concurrently.
type Holder interface {
	Status() (Status, error)
	Check(ctx context.Context, group string, duplicate bool) (Checked, error)
	Prepare(group string, n Nonce, p time.Duration) error
	// Commit's error is ErrRefused when the kernel has refused it.
	Commit(group string, n Nonce, v time.Duration, renewing bool) error
	Probe(ctx context.Context, group string) (bool, error)
	LetGo(group string) error
	Ended()
}

// Bounds of what clients may ask at once.
const (
	maxClients  = 4
	maxRequests = 32 // of one client; more wait in the socket
)

// Server serves a holder on a socket. Its fields are not changed once it serves.
type Server struct {
	Holder  Holder
	Version string // of the program
	Log     *slog.Logger

	mu      sync.Mutex
	clients map[*client]struct{}
}

// client is one connection.
type client struct {
	conn   *peer.Conn
	events chan Event
}

// Clients is the number of connected clients.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// Tell tells all clients. It does not wait for them: one that is far behind is cut off.
func (s *Server) Tell(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		select {
		case c.events <- e:
		default:
			c.conn.Close()
		}
	}
}

// Serve answers at l until ctx is done, and closes l. It returns when all clients are gone:
// nil, or what is wrong with l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	p := peer.Server{Most: maxClients, Serve: s.serve,
		Full: func() { s.Log.Warn("a client was turned away: there are too many", "most", maxClients) }}
	return p.Run(ctx, l)
}

func (s *Server) enter(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients == nil {
		s.clients = map[*client]struct{}{}
	}
	s.clients[c] = struct{}{}
}

func (s *Server) leave(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

// serve is one client's connection.
func (s *Server) serve(ctx context.Context, nc net.Conn) {
	c := &client{conn: peer.New(nc, maxLine), events: make(chan Event, maxEvents)}
	s.enter(c)
	defer s.leave(c)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.conn.Greet(Protocol, s.Version, "the client"); err != nil {
		s.Log.Warn("a client was sent away", "error", err)
		return
	}
	if c.conn.Within(0) != nil {
		return
	}
	s.Log.Info("a client has come")
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()
	open.Go(func() {
		defer c.conn.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-c.events:
				if c.conn.Send(message{Event: &e}) != nil {
					return
				}
			}
		}
	})
	places := make(chan struct{}, maxRequests)
	for {
		var r request
		if err := c.conn.Receive(&r); err != nil {
			c.conn.Close() // so that nothing is told any more
			s.Log.Info("a client has gone; what is held ends by itself unless another renews it", "error", err)
			return
		}
		places <- struct{}{}
		open.Go(func() {
			defer func() { <-places }()
			if c.conn.Send(message{Answer: s.answer(ctx, r)}) != nil {
				c.conn.Close()
			}
		})
	}
}

// answer does what is asked for.
func (s *Server) answer(ctx context.Context, r request) *answer {
	a := &answer{ID: r.ID}
	if err := s.do(ctx, r, a); err != nil {
		*a = answer{ID: r.ID, Error: err.Error(), Refused: errors.Is(err, ErrRefused)}
	}
	return a
}

func (s *Server) do(ctx context.Context, r request, a *answer) (err error) {
	if (r.Op == OpPrepare || r.Op == OpCommit) && r.Nonce == nil {
		return fmt.Errorf("%s without a nonce", r.Op)
	}
	t := time.Duration(r.Time) * time.Millisecond
	switch r.Op {
	case OpStatus:
		var status Status
		status, err = s.Holder.Status()
		a.Status = &status
	case OpCheck:
		var checked Checked
		checked, err = s.Holder.Check(ctx, r.Group, r.Duplicate)
		a.Checked = &checked
	case OpPrepare:
		err = s.Holder.Prepare(r.Group, *r.Nonce, t)
	case OpCommit:
		err = s.Holder.Commit(r.Group, *r.Nonce, t, r.Renewing)
	case OpProbe:
		a.Replies, err = s.Holder.Probe(ctx, r.Group)
	case OpLetGo:
		err = s.Holder.LetGo(r.Group)
	case OpEnded:
		s.Holder.Ended()
	default:
		err = fmt.Errorf("%q is nothing that can be asked for", r.Op)
	}
	return err
}
