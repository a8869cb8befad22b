package outbound

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/poll"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Conn is a connection to an upstream server. It is used by one goroutine at a
// time; its Blocking has what waits for the server.
type Conn struct {
	TCP *sock.Conn
	connLife
	socket sock.Conn // what TCP points to, unless a Dialer has brought that
}

// connLife is what a Conn is between two connections' lives.
type connLife struct {
	TLS    *tls.Conn // nil for a plain connection
	Dst    netip.AddrPort
	Source netip.Addr // as bound to; invalid when the kernel chose

	tenant     string // whose it is
	server     string // name that TLS verified, "" for a plain connection
	credential string // that is put into its requests
	via        string // by which parent it goes, with what it shows that one; "": by none
	parent     *policy.Parent
	local      netip.Addr // that the parent sees, or the server of a stream; of others TCP knows it
	absolute   bool       // the parent is asked for each request: there is no tunnel
	idleSince  time.Time
	pool       *Pool        // that it lies in, or has lain in
	loop       *poll.Loop   // with which it is registered, or nil
	told       poll.Handler // by it
	records    *records     // beneath TLS
	session    Session      // that it is one exchange of; nil: it is a connection. See Pool.Stream

	// Bound says that the server has authenticated the connection: it belongs to one client
	// connection from then on, and is never pooled.
	Bound bool
}

// conns are used again: see Release.
var conns = sync.Pool{New: func() any {
	c := new(Conn)
	c.TCP = &c.socket
	return c
}}

// Release lets another connection have the place of c, which was never pooled and whose
// TCP is closed or detached. Nobody may use c any more, but TCP.KeepAlive may still come.
func (c *Conn) Release() {
	if c.TCP != &c.socket || c.TLS != nil || c.pool != nil {
		return
	}
	c.connLife = connLife{}
	conns.Put(c)
}

// Tenant is whose it is.
func (c *Conn) Tenant() string { return c.tenant }

// Parent is the proxy that it goes by; nil: none.
func (c *Conn) Parent() *policy.Parent { return c.parent }

// Absolute reports whether requests over it name their server (RFC 9112 section 3.2.2), and are
// for the parent to send on.
func (c *Conn) Absolute() bool { return c.absolute }

// Local returns the address that the server sees, or the parent.
func (c *Conn) Local() netip.Addr {
	if c.session != nil || c.parent != nil {
		return c.local
	}
	return c.TCP.Local().Addr()
}

// Stream reports whether c is one exchange among those of a session: it goes to no pool, and
// belongs to nobody.
func (c *Conn) Stream() bool { return c.session != nil }

// Failed is why the session of a stream has ended, if it has and an error says so; else nil.
func (c *Conn) Failed() error {
	if c.session == nil {
		return nil
	}
	return c.session.Failed()
}

// Multiplexed reports whether HTTP/2 was agreed with the server.
func (c *Conn) Multiplexed() bool {
	return c.TLS != nil && c.TLS.ConnectionState().NegotiatedProtocol == "h2"
}

// Close closes the connection without a word; a TLS server is not told, since
// nothing more is read or written.
func (c *Conn) Close() error {
	if c.loop != nil {
		if fd, ok := c.TCP.Bare(); ok {
			c.loop.DropHandler(fd, c.told)
		}
		c.loop, c.told = nil, nil
	}
	return c.TCP.Close()
}

// Register has h told when there is something to read, or an end: by the loop with which the
// connection is registered already, or else by l. From then on it may be read and written only
// without waiting. It is for a plain connection.
func (c *Conn) Register(l *poll.Loop, h poll.Handler) error {
	return c.register(l, h, poll.Readable)
}

// RegisterConnecting is Register for one that is connecting: the end of the handshake is told
// too.
func (c *Conn) RegisterConnecting(l *poll.Loop, h poll.Handler) error {
	return c.register(l, h, poll.Readable|poll.Writable)
}

// Loop is the one with which the connection is registered, or nil.
func (c *Conn) Loop() *poll.Loop { return c.loop }

func (c *Conn) register(l *poll.Loop, h poll.Handler, in poll.Interest) error {
	if err := c.TCP.Reclaim(); err != nil {
		return err
	}
	fd, ok := c.TCP.Bare()
	switch {
	case !ok:
		return net.ErrClosed
	case c.loop != nil:
		c.loop.SetHandler(fd, h)
		c.told = h
		return nil
	}
	if err := l.Register(fd, h, in); err != nil {
		return err
	}
	c.loop, c.told = l, h
	return nil
}

// Deregister ends Register: the connection may be waited for again.
func (c *Conn) Deregister() {
	if c.loop == nil {
		return
	}
	if fd, ok := c.TCP.Bare(); ok {
		c.loop.Deregister(fd, c.told)
	}
	c.loop, c.told = nil, nil
}

// Ready is for the loop: an idle connection on which something happens is of no use.
func (c *Conn) Ready(_ *poll.Loop, fd int, _ uint32) { c.pool.spoken(c, fd) }
