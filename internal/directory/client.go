package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// Options of a [Client]. What is zero has the default.
type Options struct {
	Socket  string        // path of the directory's Unix socket
	MaxAge  time.Duration // how old what was heard may be before nobody is known any more; 5m
	Wait    time.Duration // how long [Client.Wait] waits; 1s
	Version string        // of the program
	Log     *slog.Logger  // nil: nothing is said
}

// Client keeps a copy of what a [Server] knows. Between connections, and when either end
// begins anew, the last known state stays, until it is older than MaxAge: then nobody is
// known. Its methods may be called concurrently.
type Client struct {
	o       Options
	table   atomic.Pointer[Table] // what is looked up; nil: nobody
	version atomic.Uint64         // of the last table that was not nil
	waits   waits

	mu     sync.Mutex // guards what is below
	known  *Table     // the last known state, however old
	asOf   time.Time  // when that was known to be so; zero: never
	old    *time.Timer
	stale  bool       // it is older than MaxAge, and that was said
	wire   *peer.Conn // nil: not connected
	err    error      // why not
	lastID uint64     // of a question
	asked  map[uint64]chan verdict
}

// NewClient returns a client that knows nobody until it runs.
func NewClient(o Options) *Client {
	if o.MaxAge == 0 {
		o.MaxAge = 5 * time.Minute
	}
	if o.Wait == 0 {
		o.Wait = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{o: o, asked: make(map[uint64]chan verdict), err: errors.New("not connected yet")}
}

// Lookup is the pod that has an address, as far as is known. It takes no lock, asks no
// clock, and allocates nothing.
func (c *Client) Lookup(addr netip.Addr) (Pod, bool) { return c.table.Load().Lookup(addr) }

// Version changes whenever what Lookup says does; 0 while nobody is known.
func (c *Client) Version() uint64 {
	if c.table.Load() == nil {
		return 0
	}
	return c.version.Load()
}

// show has t looked up from now on. c.mu is held.
func (c *Client) show(t *Table) {
	if c.table.Swap(t) != t {
		c.version.Add(1)
	}
}

// Table is what Lookup looks up, as it is now; nil while nobody is known.
func (c *Client) Table() *Table { return c.table.Load() }

// Age is how long ago what is known was last known to be so, and false when it never was.
func (c *Client) Age() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asOf.IsZero() {
		return 0, false
	}
	return time.Since(c.asOf), true
}

// Status is what operators want to know of the directory.
type Status struct {
	Connected bool
	Problem   string        // why it is not connected; "" when it is
	Known     bool          // it has been heard of who has which address
	Age       time.Duration // how long ago; of no meaning unless Known
	Stale     bool          // longer ago than MaxAge: nobody is known
	Addresses int           // of the last known state
}

// Status is how the client fares.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Connected: c.wire != nil, Known: !c.asOf.IsZero(), Stale: c.stale, Addresses: c.known.Len()}
	if s.Known {
		s.Age = time.Since(c.asOf)
	}
	if !s.Connected && c.err != nil {
		s.Problem = c.err.Error()
	}
	return s
}

// Times between two attempts to connect.
const (
	retryFirst = 50 * time.Millisecond
	retryMost  = 2 * time.Second
)

// Run connects, and connects again, until ctx is done. It is called once.
func (c *Client) Run(ctx context.Context) {
	defer c.rest()
	pause, said := retryFirst, ""
	for ctx.Err() == nil {
		heard, err := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause, said = retryFirst, ""
		}
		if err.Error() != said { // an attempt that fails as the one before is not told again
			said = err.Error()
			c.o.Log.Warn("the directory is away: what was known of pods stays for now", "error", said, "max_age", c.o.MaxAge)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMost)
	}
}

// rest stops the clock of what is known.
func (c *Client) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.old != nil {
		c.old.Stop()
	}
}

// once is one connection. It reports whether a whole state came by it, and why it ended.
func (c *Client) once(ctx context.Context) (heard bool, err error) {
	defer func() { c.disconnected(err) }()
	conn, err := (&net.Dialer{Timeout: quietTime}).DialContext(ctx, "unix", c.o.Socket)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	w := peer.New(conn, maxAnswer)
	if err := w.Greet(Protocol, c.o.Version, "sluice-kube"); err != nil {
		return false, err
	}
	c.connected(w)
	s := state{c: c}
	for {
		var m message
		if err := w.Within(quietTime); err != nil {
			return s.whole, err
		}
		if err := w.Receive(&m); err != nil {
			return s.whole, fmt.Errorf("the connection to the directory: %w", err)
		}
		if err := s.take(m); err != nil {
			return s.whole, err
		}
	}
}

func (c *Client) connected(w *peer.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wire, c.err = w, nil
}

// disconnected gives up what was asked by the connection.
func (c *Client) disconnected(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wire, c.err = nil, err
	for id, answer := range c.asked {
		delete(c.asked, id)
		answer <- verdict{State: stateUnknown, Why: "the connection to the directory broke"}
	}
}

// state is what a connection has told so far.
type state struct {
	c     *Client
	next  *Table // the snapshot that comes; nil: none does
	whole bool   // a snapshot has come
	last  *Pod   // that was set, which often has another address
}

// take takes a message in.
func (s *state) take(m message) error {
	switch {
	case m.Begin != nil:
		s.next = &Table{}
	case m.Set != nil:
		addr := m.Set.Addr.Unmap()
		if !addr.IsValid() || addr.Zone() != "" {
			return errors.New("the directory sent an address that is none")
		}
		s.set(addr, s.reuse(addr, m.Set.pod()))
	case m.End != nil:
		if s.next == nil {
			return errors.New("the directory ended what it had not begun")
		}
		s.c.put(s.next)
		s.next, s.whole = nil, true
		s.c.confirm(m.End.Age)
		s.c.waits.wakeAll()
	case m.Beat != nil && s.whole:
		s.c.confirm(m.Beat.Age)
	case m.Verdict != nil:
		s.c.judged(*m.Verdict)
	}
	return nil
}

// reuse is p, or one that is kept already and says the same.
func (s *state) reuse(addr netip.Addr, p *Pod) *Pod {
	if p == nil {
		return nil
	}
	if s.last == nil || *s.last != *p {
		s.c.mu.Lock()
		kept := s.c.known.find(addr)
		s.c.mu.Unlock()
		if kept != nil && *kept == *p {
			p = kept
		}
		s.last = p
	}
	return s.last
}

func (s *state) set(addr netip.Addr, p *Pod) {
	switch {
	case s.next != nil && p != nil:
		s.next.set(addr, p)
	case s.next == nil && s.whole:
		s.c.change(addr, p)
		s.c.waits.wake(addr)
	}
}

// put replaces what is known.
func (c *Client) put(t *Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = t
}

func (c *Client) change(addr netip.Addr, p *Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = c.known.with(addr, p)
	if !c.stale {
		c.show(c.known)
	}
}

// confirm says that what is known was so age ago, in milliseconds; nil: that nobody knows.
func (c *Client) confirm(age *int64) {
	if age == nil || *age < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asOf = time.Now().Add(-time.Duration(min(*age, int64(time.Hour/time.Millisecond)*24*365)) * time.Millisecond)
	left := time.Until(c.asOf.Add(c.o.MaxAge))
	if c.old == nil {
		c.old = time.AfterFunc(max(left, 0), c.expire)
	} else {
		c.old.Reset(max(left, 0))
	}
	if left <= 0 {
		return // expire sees to it
	}
	if c.stale {
		c.o.Log.Info("the directory is back: pods are known again", "addresses", c.known.Len())
	}
	c.stale = false
	c.show(c.known)
}

// expire forgets everybody for now, when nothing new was heard.
func (c *Client) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.asOf) < c.o.MaxAge || c.stale {
		return
	}
	c.stale = true
	c.table.Store(nil)
	c.o.Log.Error("nothing new was heard of pods for too long: all are unknown until the directory is back",
		"max_age", c.o.MaxAge, "addresses", c.known.Len())
}
