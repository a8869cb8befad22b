package peer

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// Server takes connections. Its fields are not changed once it serves.
type Server struct {
	// Serve has a connection, on a goroutine of its own. It is closed when Serve has returned,
	// and when the context ends: then Serve is to return soon, which a read or write that
	// fails tells it, too.
	Serve func(context.Context, net.Conn)
	// Most is how many connections there may be at once; one more is closed at once, of which
	// Full is told, unless it is nil. 0: as many as there can be.
	Most int
	Full func()
}

// acceptAgain is how long a listener rests that could not accept for now.
const acceptAgain = 100 * time.Millisecond

// Run takes connections to l until ctx ends: then nobody comes in any more, all connections are
// closed, and when all have ended it returns nil. It closes l in any case. An error is what is
// wrong with l; that there is no descriptor for now, or that somebody has gone before he was
// let in, is none.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	end := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(end)) // of those that came in
	var open sync.WaitGroup
	defer open.Wait()
	shut := func() {
		l.Close() // before: who sees the end of his connection finds the door closed
		cancel()
	}
	defer shut()
	defer context.AfterFunc(end, shut)()
	places := make(chan struct{}, s.Most)
	for {
		c, err := l.Accept()
		switch {
		case end.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case err != nil && passing(err):
			select {
			case <-end.Done():
			case <-time.After(acceptAgain):
			}
			continue
		case err != nil:
			return err
		}
		if s.Most > 0 {
			select {
			case places <- struct{}{}:
			default:
				c.Close()
				if s.Full != nil {
					s.Full()
				}
				continue
			}
		}
		open.Go(func() {
			defer c.Close()
			if s.Most > 0 {
				defer func() { <-places }() // before: who sees the end may come again
			}
			defer context.AfterFunc(ctx, func() { c.Close() })()
			s.Serve(ctx, c)
		})
	}
}

// passing reports whether accepting may go on after err.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
