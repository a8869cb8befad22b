package proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/door"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
	"github.com/sluiceproxy/sluice/proxy/terminate"
)

// conn is one client connection. While it is on the loop (see loop.go), whoever holds mu owns
// it; otherwise the goroutine that serves it owns all but the atomic fields.
type conn struct {
	door.Entry
	srv    *Server
	tcp    *sock.Conn
	socket sock.Conn             // what tcp points to
	fillFn func(fd uintptr) bool // tryFill, bound once; nil before the first wait

	tunnel             atomic.Pointer[openTunnel] // what its sockets have become; nil: they are its own
	upstream           atomic.Pointer[outbound.Conn]
	waiting            atomic.Int32                       // for a request: notWaiting …
	deadline           atomic.Int64                       // by the coarse clock; 0: none
	half               atomic.Bool                        // the client has ended its half: see halfClosed
	sending, expecting atomic.Bool                        // a goroutine sends a body to the client, waits for one of it: see pace
	stop               atomic.Pointer[context.CancelFunc] // ends what a goroutine waits for before there is a server: see whileThere
	gone               atomic.Bool                        // the client has reset the connection, while a goroutine serves it

	mu     sync.Mutex
	onLoop bool // else a goroutine serves the connection, or nobody does (yet, any more)
	connLife
}

// connLife is what a conn knows of the client that it has now.
type connLife struct {
	secure    *terminate.Client // who has come by TLS; nil: in plain
	inside    *inside           // the opened tunnel that its requests come out of; nil: none. A goroutine serves it
	sealed    *sealed           // the TLS of that, if the connection is the tunnel; the goroutine's
	client    netip.AddrPort    // who it is by its PROXY header; invalid: the peer. Changed by becomes
	announced bool              // that header is still to come
	socks     socksLife         // how far a client of SOCKS has come; the zero one of a client of HTTP

	buf  []byte // what was read and not used is buf[r:w]; nil while the client is quiet
	r, w int
	n    int   // what the last tryFill read
	err  error // its error

	bound         []*outbound.Conn // idle, and of nobody else: see bind
	served        int              // requests
	hadGoroutine  bool             // a goroutine serves it, or has
	over          bool             // it is being closed, or a tunnel
	x             *exchange        // on the loop; nil: none
	doing         doing            // on a goroutine
	pending       bool             // x has something to do when the round is over
	spoken        bool             // x's server has, before the request was sent
	blocked       bool             // the client takes no more of x's answer for now
	writeInterest bool             // an event tells when it does
	more          bool             // there may be more to read
	ending        bool             // and an end of some kind to be seen
	loop          *poll.Loop       // with which tcp is registered, or nil
	pace          pace
	lingers       bool  // its last answer was sent: see linger
	lingerEnd     int64 // when it must end, by the coarse clock
	registered    int   // as which descriptor
}

// forget leaves nothing of the client that c has had. Atomic fields may still be looked at
// by who comes late: deadline is set anew by whoever ends the connection.
func (c *conn) forget() {
	c.connLife = connLife{}
	c.upstream.Store(nil)
	c.tunnel.Store(nil)
	c.waiting.Store(notWaiting)
	c.half.Store(false)
	c.gone.Store(false)
	c.stop.Store(nil)
	c.sending.Store(false)
	c.expecting.Store(false)
}

// What conn.waiting says.
const (
	notWaiting int32 = iota
	waitFirst        // nothing was read yet
	waitNext         // between two requests
	waitHead         // for the rest of its head
)

// firstGrace is what a client that has just connected gets to send its request
// when the server begins to drain.
const firstGrace = time.Second

// headRoom is the size of the buffer for a head; one that is larger gets a buffer
// of its own, up to the limit.
const headRoom = 4 << 10

var headBuffers = sync.Pool{New: func() any { return new([headRoom]byte) }}

// errExpired says that the connection was ended: a time limit has passed, or the door has
// ended it.
var errExpired = errors.New("time limit passed")

// setLimit sets the time limit for what comes next; 0 is none. It fails when the connection was
// ended.
func (c *conn) setLimit(d time.Duration) error {
	if c.Why() != 0 {
		return errExpired
	}
	next := int64(0)
	if d > 0 {
		next = max(1, int64(c.srv.door.Now()+d))
	}
	c.deadline.Store(next)
	return nil
}

// touch says that bytes have moved: the idle time starts anew.
func (c *conn) touch() {
	if c.half.Load() {
		c.setLimit(c.srv.halfCloseLimit())
		return
	}
	c.setLimit(c.srv.IdleTimeout)
}

// buffered is what was read and not used.
func (c *conn) buffered() []byte { return c.buf[c.r:c.w] }

// fill reads more behind what is buffered, and makes room for it first. It may
// move what is buffered. An end of the stream is io.EOF.
func (c goConn) fill() error {
	if c.buf != nil && c.w == len(c.buf) {
		c.makeRoom()
	}
	if c.sealed != nil {
		return c.fillSealed()
	}
	if fd, ok := c.tcp.Bare(); ok && c.tryFill(uintptr(fd)) {
		return c.err
	}
	if c.fillFn == nil {
		c.fillFn = c.tryFill
		c.tcp.Share() // there was nothing to read, so don't try that again
	}
	if err := c.tcp.ReadWhenReady(c.fillFn); err != nil {
		return err
	}
	return c.err
}

// tryFill is a try of ReadWhenReady. With nothing buffered it holds a buffer
// only for the moment of the read, so that a client that is quiet costs none.
func (c *conn) tryFill(fd uintptr) bool {
	if c.buf == nil {
		c.buf = headBuffers.Get().(*[headRoom]byte)[:]
	}
	var err error
	c.n, err = sock.TryRead(int(fd), c.buf[c.w:])
	if err == unix.EAGAIN {
		c.n = 0
		c.releaseBuffer()
		return false
	}
	switch {
	case err != nil:
		c.n, c.err = 0, err
	case c.n == 0:
		c.err = io.EOF
	default:
		c.err = nil
	}
	c.w += c.n
	return true
}

// makeRoom moves what is buffered to the front, or makes the buffer larger.
func (c *conn) makeRoom() {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		return
	}
	b := make([]byte, len(c.buf)+len(c.buf)/2) // what does not end shall not cost twice its size
	copy(b, c.buf[:c.w])
	c.recycle()
	c.buf = b
}

// releaseBuffer gives the buffer back if nothing is in it.
func (c *conn) releaseBuffer() {
	if c.buf != nil && c.r == c.w {
		c.recycle()
		c.buf, c.r, c.w = nil, 0, 0
	}
}

// recycle puts the buffer into the pool, unless it is one that has grown.
func (c *conn) recycle() {
	if len(c.buf) == headRoom {
		headBuffers.Put((*[headRoom]byte)(c.buf))
	}
}

// unread puts back what was read beyond the end of a request, in front of what
// the client sends next. What was buffered has been used up by then.
func (c *conn) unread(b []byte) {
	c.r, c.w = 0, 0
	c.releaseBuffer()
	if len(b) > 0 {
		c.buf = append(make([]byte, 0, max(2*headRoom, len(b))), b...)
		c.buf, c.w = c.buf[:cap(c.buf)], len(b)
	}
}
