package directory

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// ErrRefused is the error of a token that is good for nothing here.
var ErrRefused = errors.New("the token is refused")

// ErrUnavailable is the error of a token that cannot be verified now.
var ErrUnavailable = errors.New("the token cannot be verified now")

// Bounds of what readers may ask at once.
const (
	maxReaders   = 16
	maxReviews   = 64 // of one reader; more wait in the socket
	reviewTime   = 5 * time.Second
	snapshotPart = 512 // messages between which verdicts and beats may come
)

// Server serves an index on a socket. Its fields are not changed once it serves.
type Server struct {
	Index *Index
	// Age is how long ago the index was last known to be whole, and false when it never was.
	// nil: it always is.
	Age func() (time.Duration, bool)
	// Review judges a token. Its error is ErrRefused, or anything else when the token cannot
	// be verified now. It is called concurrently. nil: no token can be verified.
	Review  func(ctx context.Context, token string) (Identity, error)
	Version string // of the program
	Log     *slog.Logger

	readers atomic.Int64
}

// Readers is the number of connected readers.
func (s *Server) Readers() int { return int(s.readers.Load()) }

// Serve answers at l until ctx is done, and closes l. It returns when all readers are
// gone: nil, or what is wrong with l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	p := peer.Server{Most: maxReaders, Serve: s.serve,
		Full: func() { s.Log.Warn("a reader was turned away: there are too many", "most", maxReaders) }}
	return p.Run(ctx, l)
}

// serve is one reader's connection.
func (s *Server) serve(ctx context.Context, c net.Conn) {
	s.readers.Add(1)
	defer s.readers.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := peer.New(c, maxQuestion)
	if err := w.Greet(Protocol, s.Version, "the reader"); err != nil {
		s.Log.Warn("a reader of the directory was sent away", "error", err)
		return
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	asked.Go(func() {
		defer w.Close() // so that nothing is told any more
		defer cancel()
		s.answer(ctx, w)
	})
	err := s.tell(ctx, w)
	if ctx.Err() == nil {
		s.Log.Warn("a reader of the directory was cut off", "error", err)
	}
	cancel()
	w.Close() // which ends answer
}

// answer judges the tokens that a reader asks about.
func (s *Server) answer(ctx context.Context, w *peer.Conn) {
	if w.Within(0) != nil {
		return
	}
	var open sync.WaitGroup
	defer open.Wait()
	places := make(chan struct{}, maxReviews)
	for {
		var m message
		if err := w.Receive(&m); err != nil {
			return
		}
		if m.Review == nil {
			continue // of a later minor form of the protocol
		}
		places <- struct{}{}
		open.Go(func() {
			defer func() { <-places }()
			if w.Send(message{Verdict: s.judge(ctx, *m.Review)}) != nil {
				w.Close()
			}
		})
	}
}

func (s *Server) judge(ctx context.Context, q question) *verdict {
	if s.Review == nil {
		return &verdict{ID: q.ID, State: stateUnknown, Why: "tokens are not verified here"}
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	id, err := s.Review(ctx, q.Token)
	switch {
	case errors.Is(err, ErrRefused):
		return &verdict{ID: q.ID, State: stateRefused, Why: err.Error()}
	case err != nil:
		return &verdict{ID: q.ID, State: stateUnknown, Why: err.Error()}
	}
	v := &verdict{ID: q.ID, State: stateValid, Namespace: id.Namespace, Account: id.ServiceAccount, Pod: id.Pod, PodUID: id.PodUID}
	if !id.Expires.IsZero() {
		v.Expires = id.Expires.Unix()
	}
	return v
}

// tell tells a reader who has which address, until ctx is done.
func (s *Server) tell(ctx context.Context, w *peer.Conn) error {
	beats := time.NewTicker(beatTime)
	defer beats.Stop()
	for s.age() == nil { // nobody knows all yet
		if err := w.Send(message{Beat: &beat{}}); err != nil {
			return err
		}
		// The first state is waited for in shorter turns than those of beats.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(beatTime / 20):
		}
	}
	now, changes := s.Index.subscribe()
	defer s.Index.unsubscribe(changes)
	if err := w.Send(message{Begin: &struct{}{}}); err != nil {
		return err
	}
	if err := sets(w, now); err != nil {
		return err
	}
	now = nil
	if err := w.Send(message{End: &beat{s.age()}}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beats.C:
			if err := w.Send(message{Beat: &beat{s.age()}}); err != nil {
				return err
			}
		case <-changes.more:
			cs, all := changes.take()
			if !all {
				return errors.New("it is too far behind")
			}
			if err := sets(w, cs); err != nil {
				return err
			}
		}
	}
}

// sets tells changes in parts.
func sets(w *peer.Conn, cs []change) error {
	for len(cs) > 0 {
		part := cs[:min(len(cs), snapshotPart)]
		cs = cs[len(part):]
		ms := make([]any, len(part))
		for i, c := range part {
			ms[i] = message{Set: settingOf(c)}
		}
		if err := w.Send(ms...); err != nil {
			return err
		}
	}
	return nil
}

// age is that of the index in milliseconds, nil when it was never whole.
func (s *Server) age() *int64 {
	var ms int64
	if s.Age != nil {
		age, ok := s.Age()
		if !ok {
			return nil
		}
		ms = age.Milliseconds()
	}
	return &ms
}
