package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// attemptDelay is how long one address may take before the next is tried beside
// it (RFC 8305 section 5).
const attemptDelay = 250 * time.Millisecond

// attemptsBeside bounds the attempts of one connection that are under way at once.
const attemptsBeside = 8

// Dialer makes one connection from source (invalid: the kernel chooses) to dst. It
// keeps to ctx's deadline itself, see [Until].
// Tests put their own in its place; proxy/dial has the one that ships.
type Dialer func(ctx context.Context, source netip.Addr, dst netip.AddrPort) (*sock.Conn, error)

// Begin is a Dialer that does not wait: see proxy/dial.
type Begin func(c *sock.Conn, source netip.Addr, dst netip.AddrPort) (connecting bool, err error)

// Connect dials the addresses of r until one answers, families in turn, the next
// beside the last when it is slow (RFC 8305). The caller closes what it returns.
// ctx bounds the whole. The error is an *Error.
// Where r goes by parents they are asked instead, one after the other.
func (g BlockingGate) Connect(ctx context.Context, r *Route) (*Conn, error) {
	if r.way != nil {
		return g.connectVia(ctx, r)
	}
	return g.connectDirect(ctx, r)
}

// connectDirect is Connect without parents.
func (g BlockingGate) connectDirect(ctx context.Context, r *Route) (*Conn, error) {
	if len(r.addrs) == 1 {
		c, err := g.dialAddr(ctx, r, r.addrs[0])
		if err != nil {
			return nil, dialError(err)
		}
		return c, nil
	}
	return g.race(ctx, r)
}

// BeginConnect is Connect without waiting, if there is one address, and one source to do so
// from; otherwise able is false, and nothing was done. connecting says that the handshake is
// under way: see Connected.
func (g *Gate) BeginConnect(r *Route) (c *Conn, connecting, able bool, err error) {
	if g.Begin == nil || len(r.addrs) != 1 || r.way != nil {
		return nil, false, false, nil
	}
	a := r.addrs[0]
	sources := r.sources.For(a)
	if len(sources) != 1 {
		return nil, false, false, nil
	}
	c = conns.Get().(*Conn)
	c.tenant, c.credential = r.tenant, r.credential
	c.Dst, c.Source = netip.AddrPortFrom(a, r.port), sources[0]
	if connecting, err = g.Begin(c.TCP, c.Source, c.Dst); err != nil {
		err = failed(c.Dst, err)
		c.Release()
		return nil, false, true, err
	}
	return c, connecting, true, nil
}

// Connected reports whether the handshake that BeginConnect began is over, or has
// failed: an *Error then.
func (c *Conn) Connected() (over bool, err error) {
	if over, err = c.TCP.Connected(); err != nil {
		err = failed(c.Dst, err)
	}
	return over, err
}

// TooSlow is the error of a handshake that took too long.
func (c *Conn) TooSlow() error { return failed(c.Dst, os.ErrDeadlineExceeded) }

func failed(dst netip.AddrPort, err error) error { return dialError(connectError(dst, err)) }

func connectError(dst netip.AddrPort, err error) error {
	return fmt.Errorf("connect to %s: %w", dst, cause(err))
}

// Until is a context with a deadline that ends it only for who asks for the deadline,
// as Connect does: most connections are there before a timer is worth its making.
type Until struct {
	context.Context
	At time.Time
}

// Deadline is At.
func (u *Until) Deadline() (time.Time, bool) { return u.At, true }

// dialAddr tries the sources of the address's family: the next one when the one
// before has no port left.
func (g *Gate) dialAddr(ctx context.Context, r *Route, a netip.Addr) (*Conn, error) {
	sources := r.sources.For(a)
	if len(sources) == 0 {
		return nil, unroutable(r.sources, a)
	}
	dst := netip.AddrPortFrom(a, r.port)
	var err error
	for _, s := range sources {
		var tcp *sock.Conn
		if tcp, err = g.dialer(ctx, s, dst); err == nil {
			return &Conn{TCP: tcp, connLife: connLife{tenant: r.tenant, credential: r.credential, Dst: dst, Source: s}}, nil
		}
		if !errors.Is(err, syscall.EADDRNOTAVAIL) {
			break
		}
	}
	return nil, connectError(dst, err)
}

// cause strips what is said around the kernel's error: what was tried is told already.
func cause(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

type attempt struct {
	conn  *Conn
	err   error
	panic any // what the attempt has panicked with; it goes on where the connection is served
}

// race is happy eyeballs: one attempt after the other, the next at once when one
// fails and after attemptDelay when none has answered. The first connection wins.
func (g *Gate) race(ctx context.Context, r *Route) (*Conn, error) {
	if len(r.addrs) == 0 {
		return nil, errDenied // a Route that leads nowhere
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	addrs := r.Addrs() // r may be used again while attempts end
	route := &Route{tenant: r.tenant, credential: r.credential, port: r.port, sources: r.sources}
	results := make(chan attempt, len(addrs))
	timer := time.NewTimer(attemptDelay)
	defer timer.Stop()
	var errs []error
	started := 0
	start := func() {
		// Whoever is served has a descriptor for the first; others beside it take theirs.
		beside := started > len(errs)
		if beside && (started-len(errs) >= attemptsBeside || !g.Pool.takeOne()) {
			timer.Reset(attemptDelay) // later, or when one has failed
			return
		}
		a := addrs[started]
		started++
		timer.Reset(attemptDelay)
		go g.attempt(ctx, route, a, beside, results)
	}
	start()
	for {
		select {
		case res := <-results:
			if res.panic != nil {
				go closeLosers(results, started-len(errs)-1)
				panic(res.panic)
			}
			if res.err == nil {
				go closeLosers(results, started-len(errs)-1)
				return res.conn, nil
			}
			errs = append(errs, res.err)
			if started < len(addrs) {
				start()
			} else if len(errs) == started {
				return nil, worst(errs)
			}
		case <-timer.C:
			if started < len(addrs) {
				start()
			}
		}
	}
}

// attempt dials one of several addresses, whatever comes of the others.
func (g *Gate) attempt(ctx context.Context, r *Route, a netip.Addr, beside bool, results chan<- attempt) {
	var res attempt
	defer func() {
		res.panic = recover()
		results <- res
		if beside {
			g.Pool.giveOne()
		}
	}()
	res.conn, res.err = g.dialAddr(ctx, r, a)
}

// closeLosers closes the connections that came too late.
func closeLosers(results <-chan attempt, n int) {
	for range n {
		if res := <-results; res.conn != nil {
			res.conn.Close()
		}
	}
}
