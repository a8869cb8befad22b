package outbound

import (
	"crypto/tls"
	"net/netip"
	"slices"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Session is a connection to a server that carries several exchanges at once (RFC 9113), each of
// which looks like a connection of its own. proxy/streams has the one that ships. Its methods may
// be called concurrently.
type Session interface {
	// Open begins an exchange; ok is false when none can begin now. The caller closes near.
	Open() (near *sock.Conn, ok bool)
	// Alive reports whether another may ever begin.
	Alive() bool
	// Idle reports whether none is under way.
	Idle() bool
	// Failed is what has come of reading from the server, when that has failed; else nil.
	Failed() error
	// Retire has none begin any more, and closes the connection behind the last.
	Retire()
}

// shared is a session among those of a pool. What may use it is what may use a connection of the
// same key that lies idle: the same tenant, source, address, verified name, credential and parent.
type shared struct {
	Session
	conn *Conn // that it is on, as it was made
	only bool  // the server speaks no HTTP/1.1
}

// Stream begins an exchange on a session to an address of r, whose server was verified to be
// that; nil: there is none that can take one. only asks for servers that speak nothing else.
func (p *Pool) Stream(r *Route, server string, only bool) *Conn {
	if r.way == nil {
		return p.streamDirect(r, server, only)
	}
	for _, parent := range r.way.Via {
		if parent.Direct {
			return p.streamDirect(r, server, only)
		}
		for _, a := range r.dsts() {
			for _, s := range r.allSources() {
				key := poolKey{r.tenant, s, netip.AddrPortFrom(a, r.port), server, r.credential, r.via(parent)}
				if c := p.streamOf(key, only); c != nil {
					return c
				}
			}
		}
		if parent.Health.Up() {
			return nil // and is asked first
		}
	}
	return nil
}

func (p *Pool) streamDirect(r *Route, server string, only bool) *Conn {
	for _, a := range r.addrs {
		for _, s := range r.sources.For(a) {
			if c := p.streamOf(poolKey{r.tenant, s, netip.AddrPortFrom(a, r.port), server, r.credential, ""}, only); c != nil {
				return c
			}
		}
	}
	return nil
}

// streamOf begins an exchange on a session of that key.
func (p *Pool) streamOf(key poolKey, only bool) *Conn {
	for _, s := range p.sharedBy(key) {
		if only && !s.only {
			continue
		}
		if c := s.open(); c != nil {
			return c
		}
	}
	return nil
}

// sharedBy are the sessions of that key, without those that are over.
func (p *Pool) sharedBy(key poolKey) []*shared {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.shared[key]) == 0 {
		return nil
	}
	return slices.Clone(p.shared[key])
}

// open begins an exchange.
func (s *shared) open() *Conn {
	near, ok := s.Open()
	if !ok {
		return nil
	}
	c := s.conn
	return &Conn{TCP: near, connLife: connLife{session: s.Session, local: c.local, Dst: c.Dst, Source: c.Source,
		tenant: c.tenant, server: c.server, credential: c.credential, via: c.via, parent: c.parent}}
}

// Share makes a session of c, on which HTTP/2 was agreed, by begin, and begins the first exchange
// on it. only says that the server speaks nothing else. c is the session's from then on, also when
// that fails: with an *Error. begin is given what to call when the connection is closed.
func (p *Pool) Share(c *Conn, only bool, begin func(conn *tls.Conn, ended func()) (Session, error)) (*Conn, error) {
	if !p.takeOne() { // whoever is served has one for the exchange
		c.Close()
		return nil, &Error{Kind: NoDescriptors, Err: errNoDescriptor}
	}
	c.local = c.Local()
	s := &shared{conn: c, only: only}
	var err error
	s.Session, err = begin(c.TLS, func() {
		p.giveOne()
		p.unshare(s)
	})
	if err != nil {
		return nil, failed(c.Dst, err)
	}
	stream := s.open()
	if stream == nil {
		s.Retire()
		if err := WantsCertificate(s.Failed()); err != nil {
			return nil, err
		}
		return nil, &Error{Kind: NoDescriptors, Err: errNoDescriptor}
	}
	p.mu.Lock()
	closed := p.closed
	if key := c.key(); !closed {
		p.shared[key] = append(p.shared[key], s)
	}
	p.mu.Unlock()
	if closed || !s.Alive() { // it may have ended before it was known
		p.unshare(s)
		s.Retire()
	}
	return stream, nil
}

// unshare forgets a session.
func (p *Pool) unshare(s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := s.conn.key()
	list := slices.DeleteFunc(p.shared[key], func(o *shared) bool { return o == s })
	if p.shared[key] = list; len(list) == 0 {
		delete(p.shared, key)
	}
}

// retire has no exchange begin any more on the sessions of that key.
func (p *Pool) retire(key poolKey) {
	for _, s := range p.sharedBy(key) {
		p.unshare(s)
		s.Retire()
	}
}

// retireIdle closes up to n sessions without an exchange, and returns how many.
func (p *Pool) retireIdle(n int) (closed int) {
	for _, key := range p.keys() {
		for _, s := range p.sharedBy(key) {
			if closed == n {
				return closed
			}
			if s.Idle() {
				p.unshare(s)
				s.Retire()
				closed++
			}
		}
	}
	return closed
}
