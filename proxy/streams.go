package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// HTTP/2 is spoken at both ends of an opened tunnel, and nowhere between: proxy/inspect makes each
// stream of a client a request of HTTP/1.1 to this front door, which serves it as those of any
// other client, and proxy/streams makes each request that goes to a server of HTTP/2 a stream there.

// streamsIdle is for how long a connection to a server is kept that carries no stream.
const streamsIdle = time.Minute

// insideAnswers are the limits of a head as this front door writes it: it adds fields to those
// that it has held to its own limits.
func insideAnswers(l http1.Limits) http1.Limits {
	return http1.Limits{MaxHead: l.MaxHead + 16<<10, MaxFields: l.MaxFields + 32}
}

// serveStreams serves the client of an opened tunnel that speaks HTTP/2.
func (s *Server) serveStreams(client net.Conn, in *inside) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	if s.door.Draining() { // and who drains may have come before this one
		time.AfterFunc(firstGrace, s.inspect.Drain)
	}
	s.inspect.Serve(ctx, client, func() (near *sock.Conn, done func(), err error) {
		if !s.Budget.Take(1) && (s.makeRoom(1) == 0 || !s.Budget.Take(1)) {
			return nil, nil, errNoRoom
		}
		near, far, err := sock.Pair()
		if err != nil {
			s.Budget.Give(1)
			return nil, nil, err
		}
		s.serveStream(far, in)
		return near, func() { s.Budget.Give(1) }, nil
	})
}

// errNoRoom is why a stream is reset.
var errNoRoom = errors.New("no descriptor is free for a request in an opened tunnel")

// mayShare reports whether the request may go over a stream: it is one of an opened tunnel, and
// wants nothing of the connection that it goes over.
func (x *exchange) mayShare(server string) bool {
	return server != "" && x.c.inside != nil && x.req.Upgrade == nil && !x.req.ConnAuth
}

// offers are the protocols that the server may choose among. A client of HTTP/1.1 gets a server
// of HTTP/1.1 where there is one: what it is sent is what the server has sent.
func (x *exchange) offers(server string) []string {
	if x.mayShare(server) && x.c.inside.h2 {
		return both
	}
	return nil
}

// both are the protocols that a server may choose among for who takes either. They are not changed.
var both = []string{"h2", "http/1.1"}

// sharedStream is a stream of a connection that there is already; nil: there is none.
func (x *exchange) sharedStream(server string) *outbound.Conn {
	if !x.mayShare(server) {
		return nil
	}
	return x.c.srv.Gate.Pool.Stream(&x.ticket.Route, server, !x.c.inside.h2)
}

// secure agrees on TLS with the server, and makes a session of the connection where HTTP/2 is
// spoken. What is not returned is closed.
func (x goExchange) secure(ctx *outbound.Until, up *outbound.Conn, server string) (*outbound.Conn, error) {
	s := x.c.srv
	bounded, cancel := context.WithDeadline(ctx, ctx.At)
	defer cancel()
	offer := x.offers(server)
	only := x.mayShare(server) && offer == nil // HTTP/2 is for want of HTTP/1.1
	if only && s.Gate.Pool.ChoosesNone(up, server) {
		offer = both
	}
	err := up.Blocking().Secure(bounded, server, s.TLS, offer...)
	if only && offer == nil {
		up, err = x.offerMore(bounded, up, server, err)
	}
	if err != nil {
		return nil, err
	}
	if !up.Multiplexed() {
		return up, nil
	}
	return s.Gate.Pool.Share(up, only, func(conn *tls.Conn, ended func()) (outbound.Session, error) {
		return s.streams.Begin(conn, ended)
	})
}

// offerMore offers HTTP/2 too, on another connection, to a server that would not choose HTTP/1.1, or has
// chosen nothing: who speaks nothing but HTTP/2 may do either. Nothing was asked of it by then.
func (x goExchange) offerMore(ctx context.Context, up *outbound.Conn, server string, failed error) (*outbound.Conn, error) {
	s := x.c.srv
	offer := both
	switch {
	case failed == nil && !up.ChoseNone():
		return up, nil
	case failed == nil:
		s.Gate.Pool.NoteChoosesNone(up)
		up.Close()
	case outbound.SpeaksOther(failed):
		offer = both[:1] // in a list with HTTP/1.1 it might choose that again
	default:
		return nil, failed
	}
	up, err := s.Gate.Blocking().Connect(ctx, &x.ticket.Route)
	if err == nil {
		err = up.Blocking().Secure(ctx, server, s.TLS, offer...)
	}
	switch {
	case err == nil:
		return up, nil
	case failed != nil:
		return nil, failed
	}
	return nil, err
}

// flight has those who need a connection of an opened tunnel to its server wait for one that is
// being made: they may find that they can share it. The zero flight is ready for use.
type flight struct {
	mu    sync.Mutex
	ended chan struct{} // nil: none is being made
}

// join returns nil to who is to connect, who then calls land; and to others what is closed when
// that was done.
func (f *flight) join() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended != nil {
		return f.ended
	}
	f.ended = make(chan struct{})
	return nil
}

func (f *flight) land() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.ended)
	f.ended = nil
}

// dialFirst is dial for who may share a connection: it waits for the one that is being made.
func (x goExchange) dialFirst(server string) error {
	in := x.c.inside
	if in == nil || !in.h2 || !x.mayShare(server) {
		return x.dial(server)
	}
	first := in.first.join()
	if first == nil {
		defer in.first.land()
		return x.dial(server)
	}
	ctx, done := x.c.whileThere()
	defer done()
	select {
	case <-first:
	case <-ctx.Done():
		return errExpired
	}
	if up := x.sharedStream(server); up != nil {
		return x.use(up, true)
	}
	done()
	return x.dial(server)
}
