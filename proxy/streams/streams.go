// Package streams speaks HTTP/2 (RFC 9113) with servers for a front door that speaks HTTP/1.1. It
// is given a connection that the gate has made and whose certificate was verified; each exchange
// of the front door goes over a stream of it, and looks to the front door like a connection of
// its own. Nothing is dialled here, and nothing decided.
//
// Ends come across as they are: an exchange that the front door gives up resets its stream, and an
// answer that the server cuts resets the front door's connection.
package streams

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

const (
	// most is how many exchanges a connection carries at once; another one is made for more.
	most = 100
	// window is what a stream may have sent that its client has not taken: the bound of memory.
	// While more than mostWide exchanges may take that much, those on new connections may take narrow.
	window   = 512 << 10
	narrow   = 64 << 10
	mostWide = 256
	// lookEvery is how often a server is asked whether it is there, that sends nothing.
	lookEvery = 30 * time.Second
	// lastWord bounds the wait for what a server that has closed has sent before.
	lastWord = time.Second
)

// Options is what a Transport uses.
type Options struct {
	MaxHead int              // bytes of the head of an answer, as HTTP/2 counts them; required
	Idle    time.Duration    // after which a connection without an exchange is closed; 0: never
	Budget  *fdbudget.Budget // of descriptors; nil: no limit
	Report  contain.Reporter // is told of panics; nil: nobody is
}

// Transport begins sessions. Make it with New. Its methods may be called concurrently.
type Transport struct {
	Options
	wide, lean *http2.Transport // of streams with a window of that, and a narrow one
	wides      atomic.Int32     // exchanges that have, or are about to have, a wide one
	ctx        context.Context
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// New returns a Transport.
func New(o Options) *Transport {
	t := &Transport{Options: o, wide: transport(&o, window), lean: transport(&o, narrow)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

func transport(o *Options, window int) *http2.Transport {
	never := func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("connections are made by the gate alone")
	}
	h1 := &http.Transport{
		DialContext: never, DialTLSContext: never, DisableCompression: true, IdleConnTimeout: o.Idle,
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: window, SendPingTimeout: lookEvery, PingTimeout: lookEvery / 2, WriteByteTimeout: lookEvery},
	}
	h2, err := http2.ConfigureTransports(h1)
	if err != nil {
		panic(err) // of what stands here
	}
	h2.MaxHeaderListSize, h2.DisableCompression = uint32(o.MaxHead), true
	h2.ConnPool = nobody{}
	return h2
}

// Close gives up every exchange, and returns when none is under way. No session is begun after.
func (t *Transport) Close() {
	t.cancel()
	t.wg.Wait()
}

// nobody is a pool without connections: each session is asked for by name.
type nobody struct{}

func (nobody) GetClientConn(*http.Request, string) (*http2.ClientConn, error) {
	return nil, http2.ErrNoCachedConn
}
func (nobody) MarkDead(*http2.ClientConn) {}

// Session is a connection to a server. Its methods may be called concurrently.
type Session struct {
	t    *Transport
	cc   *http2.ClientConn
	conn *ending
	wide bool // the window of its streams

	mu       sync.Mutex
	open     int  // exchanges under way
	reserved bool // the first one is counted among the wide already
	retired  bool // no other is to begin
}

// Begin makes a session of a connection on which HTTP/2 was agreed, and which is the session's from
// then on. ended is called once, when that is closed; also when Begin fails.
func (t *Transport) Begin(conn *tls.Conn, ended func()) (*Session, error) {
	own := &ending{Conn: conn, ended: ended, closed: make(chan struct{}), failed: make(chan struct{})}
	s := &Session{t: t, conn: own, wide: t.widen()}
	s.reserved = s.wide
	of := t.lean
	if s.wide {
		of = t.wide
	}
	var err error
	if s.cc, err = of.NewClientConn(own); err != nil {
		own.Close()
		s.unreserve()
		return nil, err
	}
	return s, nil
}

// widen counts an exchange with a wide window, if there may be another.
func (t *Transport) widen() bool {
	if t.wides.Add(1) <= mostWide {
		return true
	}
	t.wides.Add(-1)
	return false
}

// unreserve gives back what Begin has counted and no exchange has used. s.mu is held, or nobody else
// has s.
func (s *Session) unreserve() {
	if s.reserved {
		s.reserved = false
		s.t.wides.Add(-1)
	}
}

// ending is a connection that tells when it is closed.
type ending struct {
	*tls.Conn
	frames smallFrames
	once   sync.Once
	ended  func()
	closed chan struct{} // when Close was called

	failed chan struct{} // closed when Read has failed
	err    error         // of Read then
}

// Read reads what the server sends. One goroutine calls it.
func (e *ending) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	e.frames.see(b[:n])
	if err != nil && e.err == nil {
		e.err = err
		close(e.failed)
	}
	return n, err
}

// Write sends to the server. If the server has closed the connection, what it has said last may be why:
// Write waits until that was read, since the connection is closed on an error.
func (e *ending) Write(b []byte) (int, error) {
	n, err := e.Conn.Write(b)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		timer := time.NewTimer(lastWord)
		defer timer.Stop()
		select {
		case <-e.failed:
		case <-e.closed: // nobody reads any more
		case <-timer.C:
		}
	}
	return n, err
}

// Close closes the connection without a word by TLS, for which a server that takes nothing would be
// waited for, maybe by a loop.
func (e *ending) Close() error {
	err := e.NetConn().Close()
	e.once.Do(func() {
		close(e.closed)
		e.ended()
	})
	return err
}

// Open begins an exchange: what is written to near is a request of HTTP/1.1, and one answer comes
// back, after which near has ended; it ends without one, and not by a reset, when the server has not
// begun with the request. The caller closes it, at any time. ok is false when the
// session can take none.
func (s *Session) Open() (near *sock.Conn, ok bool) {
	if !s.enter() {
		return nil, false
	}
	if !s.t.Budget.Take(1) {
		s.leave()
		return nil, false
	}
	near, fd, err := sock.Pair()
	if err != nil {
		s.t.Budget.Give(1)
		s.leave()
		return nil, false
	}
	far := sock.New(fd, near.Local())
	s.t.wg.Go(func() {
		defer s.leave()
		defer s.t.Budget.Give(1)
		defer far.Close()
		defer s.t.Report.Recover(far.ResetOnClose)
		s.carry(far)
	})
	return near, true
}

// enter counts an exchange, if another may begin.
func (s *Session) enter() bool {
	state := s.cc.State()
	limit := most
	if n := int(state.MaxConcurrentStreams); n > 0 { // 0: the server has not said it yet
		limit = min(most, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired || state.Closed || state.Closing || s.open >= limit || s.t.ctx.Err() != nil {
		return false
	}
	switch {
	case s.reserved:
		s.reserved = false
	case s.wide && !s.t.widen():
		return false
	}
	s.open++
	return true
}

func (s *Session) leave() {
	s.mu.Lock()
	s.open--
	if s.wide {
		s.t.wides.Add(-1)
	}
	last := s.retired && s.open == 0
	s.mu.Unlock()
	if last {
		s.cc.Close()
	}
}

// Alive reports whether another exchange may ever begin.
func (s *Session) Alive() bool {
	state := s.cc.State()
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.retired && !state.Closed && !state.Closing
}

// Retire has the session begin no other exchange, and close when the last one is over.
func (s *Session) Retire() {
	s.mu.Lock()
	s.retired = true
	s.unreserve()
	idle := s.open == 0
	s.mu.Unlock()
	if idle {
		s.cc.Close()
	}
}

// Failed is what has come of reading from the server, when that has failed; else nil.
func (s *Session) Failed() error {
	select {
	case <-s.conn.failed:
		return s.conn.err
	default:
		return nil
	}
}

// Idle reports whether no exchange is under way.
func (s *Session) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0
}
