package outbound

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Pool keeps idle connections for the next request to the same server. It holds
// no verdict: every request is decided afresh, and takes a connection only to an
// address that it was allowed. Methods may be called concurrently.
type Pool struct {
	budget *fdbudget.Budget
	maxAge time.Duration // idle, after which a connection is closed

	choosers choosers

	mu     sync.Mutex
	idle   map[poolKey][]*Conn // the longest idle first
	shared map[poolKey][]*shared
	closed bool
}

// poolKey is what must be the same for a connection to serve another request. The
// source belongs to it, since reloads change sources.
type poolKey struct {
	tenant     string
	source     netip.Addr
	dst        netip.AddrPort
	server     string
	credential string // that was put into its requests
	via        string // the parent that it goes by; "": none
}

// NewPool returns a pool that closes connections that lay idle for maxAge, when
// Sweep is called. Idle connections count against budget.
func NewPool(budget *fdbudget.Budget, maxAge time.Duration) *Pool {
	return &Pool{budget: budget, maxAge: maxAge, idle: make(map[poolKey][]*Conn), shared: make(map[poolKey][]*shared)}
}

// Get returns an idle connection to an address of r, or nil. server is the name
// that TLS must have verified, "" for a plain connection. The server may have
// closed it meanwhile, or sent something unasked, which is no answer to anything:
// the caller finds out, see Conn.Quiet.
func (p *Pool) Get(r *Route, server string) *Conn {
	if r.way != nil {
		return p.getVia(r, server)
	}
	return p.getDirect(r, server)
}

func (p *Pool) getDirect(r *Route, server string) *Conn {
	for _, a := range r.addrs {
		for _, s := range r.sources.For(a) {
			key := poolKey{r.tenant, s, netip.AddrPortFrom(a, r.port), server, r.credential, ""}
			if c := p.pop(key); c != nil {
				return c
			}
		}
	}
	return nil
}

func (p *Pool) pop(key poolKey) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[key]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	// The empty list stays: it saves making one for the next Put. Sweep drops it.
	p.idle[key] = list[:len(list)-1]
	p.budget.Give(1)
	return c
}

// Put keeps c for another request, or closes it when there is no room, or when it is bound
// to a client. Nothing of
// the last answer may be left unread. now is the time, possibly a coarse one.
func (p *Pool) Put(c *Conn, now time.Time) {
	if c.Bound || c.session != nil || !p.budget.Take(1) {
		c.Close()
		return
	}
	c.idleSince, c.pool = now, p
	if c.loop != nil {
		c.Register(nil, c)
	}
	if !p.add(c) {
		p.drop(c)
	}
}

func (c *Conn) key() poolKey {
	return poolKey{c.tenant, c.Source, c.Dst, c.server, c.credential, c.via}
}

// add fails when the pool is closed.
func (p *Pool) add(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key := c.key(); !p.closed {
		p.idle[key] = append(p.idle[key], c)
	}
	return !p.closed
}

// spoken closes an idle connection that its server has closed, or on which it has
// spoken unasked.
func (p *Pool) spoken(c *Conn, fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := c.key()
	i := slices.Index(p.idle[key], c)
	if i < 0 {
		return // somebody has it, and will see
	}
	if sock.Quiet(fd) {
		return // the event was that of an answer which was read by then
	}
	p.idle[key] = slices.Delete(p.idle[key], i, i+1)
	p.drop(c)
}

func (p *Pool) drop(c *Conn) {
	c.Close()
	p.budget.Give(1)
}

// Sweep closes the connections that have been idle for too long.
func (p *Pool) Sweep(now time.Time) {
	p.closeWhile(func(c *Conn) bool { return now.Sub(c.idleSince) >= p.maxAge })
}

// Evict closes up to n idle connections, to make room in the budget, and returns
// how many it closed.
func (p *Pool) Evict(n int) int {
	closed := 0
	p.closeWhile(func(*Conn) bool {
		if closed == n {
			return false
		}
		closed++
		return true
	})
	if closed < n {
		closed += p.retireIdle(n - closed)
	}
	return closed
}

// closeWhile goes through each list from the longest idle on and closes while old
// says so.
func (p *Pool) closeWhile(old func(*Conn) bool) {
	for _, c := range p.takeWhile(old) { // not under the lock: a close takes its time
		p.drop(c)
	}
}

// CloseUnreachable closes the idle connections that no request is let take any more, whatever
// name it asks for.
func (p *Pool) CloseUnreachable(gen *policy.Generation) {
	type where struct {
		tenant string
		port   uint16
	}
	reach := map[where]acl.Reach{}
	for _, key := range p.keys() {
		at := where{key.tenant, key.dst.Port()}
		r, known := reach[at]
		if !known {
			r = gen.Named(at.tenant).Rules.Reach(at.port)
			reach[at] = r
		}
		if !r.Allows(key.dst.Addr()) {
			p.closeAll(key)
			p.retire(key)
		}
	}
}

// keys are what there are connections to.
func (p *Pool) keys() (all []poolKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.idle {
		all = append(all, key)
	}
	for key := range p.shared {
		all = append(all, key)
	}
	return all
}

func (p *Pool) closeAll(key poolKey) {
	p.mu.Lock()
	list := p.idle[key]
	delete(p.idle, key)
	p.mu.Unlock()
	for _, c := range list {
		p.drop(c)
	}
}

func (p *Pool) takeWhile(old func(*Conn) bool) (taken []*Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, list := range p.idle {
		n := 0
		for n < len(list) && old(list[n]) {
			n++
		}
		taken = append(taken, list[:n]...)
		if n == len(list) {
			delete(p.idle, key)
			continue
		}
		if n > 0 {
			p.idle[key] = append([]*Conn(nil), list[n:]...)
		}
	}
	return taken
}

// takeOne takes a descriptor out of the budget, of an idle connection if there is no other.
func (p *Pool) takeOne() bool {
	return p == nil || p.budget.Take(1) || p.Evict(1) == 1 && p.budget.Take(1)
}

func (p *Pool) giveOne() {
	if p != nil {
		p.budget.Give(1)
	}
}

// Len returns how many connections lie idle.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, list := range p.idle {
		n += len(list)
	}
	return n
}

// Close closes the idle connections; those put back later are closed at once.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, key := range p.keys() {
		p.retire(key)
	}
	p.closeWhile(func(*Conn) bool { return true })
}
