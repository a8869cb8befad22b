package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/contain"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// bridge carries the bytes of one connection to a parent that is spoken to by TLS:
//
//	gateway ── pair ── near │ secure ══ TLS ══ parent
//
// So the rest of the gateway has a plain connection, in which a tunnel may be spliced, judged,
// cut and pooled, and TLS with a server be made. Ends come across as they are: close_notify is
// the end of a half, and an end without it is a reset.
type bridge struct {
	near   *bridgeEnd
	raw    *bridgeEnd
	secure *tls.Conn
}

// bridgeDescriptors are those of a bridge besides that of its user.
const bridgeDescriptors = 2

const (
	bridgeLook   = time.Second      // how often who waits to write looks whether the other end is there
	bridgeLinger = 2 * time.Second  // for the end of a parent when nobody takes more
	bridgeGrace  = 30 * time.Second // for what is on its way to a parent when the gateway has closed
)

var errNoBridge = &Error{Kind: NoDescriptors, Err: errors.New("no descriptor is free to speak TLS with a parent proxy")}

// secureParent makes c, a connection to p, one by TLS.
func (g *Gate) secureParent(ctx context.Context, c *Conn, p *policy.Parent) error {
	c.TCP.Share() // ctx closes it beside the handshake
	raw := &bridgeEnd{Blocking: c.TCP.Blocking()}
	config := p.TLS.Clone()
	config.VerifyConnection = strong
	secure := tls.Client(raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		e := dialError(fmt.Errorf("TLS: %w", err))
		if e.Kind == ConnectionFailed {
			e.Kind = TLSFailed
		}
		return e
	}
	budget := g.Pool
	for n := range bridgeDescriptors {
		if !budget.takeOne() {
			for range n {
				budget.giveOne()
			}
			return errNoBridge
		}
	}
	near, far, err := sock.Pair()
	if err != nil {
		for range bridgeDescriptors {
			budget.giveOne()
		}
		return &Error{Kind: NoDescriptors, Err: err}
	}
	c.TCP.KeepAlive()
	near.KeepAlive() // by which the kernel tells of an end that was closed behind bytes which nobody takes
	near.Share()
	b := &bridge{near: &bridgeEnd{Blocking: near.Blocking()}, raw: raw, secure: secure}
	b.near.other, b.raw.other = b.raw, b.near
	limit := &idleLimit{after: g.Idle}
	b.near.idle, b.raw.idle = limit, limit
	c.TCP = sock.New(far, c.Dst)
	go func() {
		b.run(g.Panics)
		for range bridgeDescriptors {
			budget.giveOne()
		}
	}()
	return nil
}

// run carries until both halves have ended, and closes both connections.
func (b *bridge) run(report contain.Reporter) {
	defer b.near.Close()
	defer b.raw.Close()
	var down sync.WaitGroup
	down.Go(func() {
		defer report.Recover(b.abort)
		b.carry(b.near, b.secure, b.near.CloseWrite)
	})
	defer down.Wait()
	defer report.Recover(b.abort)
	b.carry(b.secure, b.near, b.secure.CloseWrite)
	// The parent may go on for as long as somebody is there to take that.
	b.near.ReadWhenReady(func(fd uintptr) bool { return sock.HungUp(int(fd)) })
	b.raw.SetReadDeadline(time.Now().Add(bridgeLinger))
}

// abort ends both connections by a reset: a part must not look like the whole.
func (b *bridge) abort() {
	for _, c := range []*bridgeEnd{b.near, b.raw} {
		c.ResetOnClose()
		c.Close()
	}
}

// carry carries one way. An end without close_notify is none.
func (b *bridge) carry(to io.Writer, from io.Reader, end func() error) {
	buf := bridgeBuffers.Get().(*[32 << 10]byte)
	defer bridgeBuffers.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				b.abort()
				return
			}
		}
		switch {
		case err == nil:
		case err == io.EOF && !(from == io.Reader(b.secure) && b.raw.ended.Load()):
			if end() != nil {
				b.abort()
			}
			return
		default:
			b.abort()
			return
		}
	}
}

var bridgeBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// idleLimit is that of a tunnel for a bridge: for how long neither way may carry anything while there is something
// to carry. Its methods may be called concurrently.
type idleLimit struct {
	after time.Duration // 0: for ever
	last  atomic.Int64  // since bridgesBegan, in ns: when something was carried
}

var bridgesBegan = time.Now()

func (l *idleLimit) moved() { l.last.Store(int64(time.Since(bridgesBegan))) }

func (l *idleLimit) over() bool {
	return l.after > 0 && time.Since(bridgesBegan)-time.Duration(l.last.Load()) >= l.after
}

// bridgeEnd is a connection whose writer looks now and then whether the other end is there: while
// this one takes nothing nobody reads that one, and a cut of it would not be seen.
type bridgeEnd struct {
	sock.Blocking
	other *bridgeEnd  // nil: before there is a bridge
	idle  *idleLimit  // of the bridge
	ended atomic.Bool // the peer has ended its half

	mu    sync.Mutex // held to try
	reset bool       // the peer has reset the connection, which the kernel says once
}

func (e *bridgeEnd) Read(b []byte) (n int, err error) {
	var failed error
	err = e.ReadWhenReady(func(fd uintptr) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if n, failed = sock.TryRead(int(fd), b); failed == nil && n == 0 && e.reset {
			failed = unix.ECONNRESET
		}
		return failed != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case failed != nil:
		return 0, failed
	case n == 0:
		e.ended.Store(true)
		return 0, io.EOF
	}
	return n, nil
}

func (e *bridgeEnd) Write(b []byte) (n int, err error) {
	if e.other == nil { // in the handshake, whose time is bounded
		return e.Blocking.Write(b)
	}
	var gone time.Time
	var failed error
	e.idle.moved()
	for last := 0; ; {
		e.SetWriteDeadline(time.Now().Add(bridgeLook))
		err = e.WriteWhenReady(func(fd uintptr) bool {
			var more int
			more, failed = e.tryWrite(int(fd), b[n:])
			n += more
			return failed != unix.EAGAIN
		})
		switch {
		case err == nil:
			return n, failed
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		}
		if n > last {
			last = n
			e.idle.moved()
		}
		if e.idle.over() {
			return n, os.ErrDeadlineExceeded
		}
		if _, all := e.other.PeerEnd(); !all {
			continue
		}
		if gone.IsZero() {
			gone = time.Now()
		}
		if e.other.WasReset() || time.Since(gone) >= bridgeGrace {
			return n, net.ErrClosed // nobody wants it to arrive any more
		}
	}
}

// tryWrite writes what is taken at once; with EAGAIN that is not all.
func (e *bridgeEnd) tryWrite(fd int, b []byte) (n int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for n < len(b) && err == nil {
		var more int
		more, err = sock.TryWrite(fd, b[n:])
		n += max(more, 0)
	}
	e.reset = e.reset || err == unix.ECONNRESET
	return n, err
}
