package auth

import (
	"net/netip"
	"sync"
	"time"
)

const (
	refusedBurst = 10          // wrong credentials that a client may show at once
	refusedEvery = time.Second // and then one in this time
	maxClients   = 4096
	lookedAt     = 16  // clients that are looked at to make room for one
	maxTurns     = 256 // questions that wait for their client's share, of all clients
	maxTurnsEach = 128 // of those, for one
)

// clients is what clients have shown lately that was wrong, and how much of theirs is being
// judged. Its memory is bounded: when more clients than that have something to remember,
// those behind share one account.
type clients struct {
	mu     sync.Mutex
	m      map[netip.Addr]*account
	shared account
	turns  int
}

// site is whom wrong credentials are counted to: an IPv4 address, or the /64 of an IPv6 one, of
// which a client has as many addresses as it likes (RFC 4291 section 2.5.4).
func site(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is6() {
		p, _ := a.Prefix(64) // which such an address has
		return p.Addr()
	}
	return a
}

// An account is one client's. When the client has shown nothing wrong for a while, and
// nothing is being judged, it says nothing and may be dropped.
type account struct {
	// free is when all of the burst is there again: each refusal moves it by refusedEvery.
	free   int64
	judged int           // questions under way
	turns  int           // questions that wait for one of those to end
	next   chan struct{} // is closed when one ends; nil: nobody waits
}

// A turn is a question that waits for its client's share.
type turn struct {
	clients *clients
	account *account
	next    <-chan struct{} // is closed when it may be tried again
}

// end gives up the place among those who wait. It is called once.
func (t *turn) end() {
	t.clients.mu.Lock()
	defer t.clients.mu.Unlock()
	t.clients.turns--
	t.account.turns--
}

// left is how many refusals the client may still cause at once.
func (a *account) left(now int64) int {
	behind := max(0, a.free-now)
	return refusedBurst - int((behind+int64(refusedEvery)-1)/int64(refusedEvery))
}

// flood reports whether the client has used up its wrong credentials.
func (c *clients) flood(client netip.Addr, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.m[client]
	if a == nil {
		if len(c.m) < maxClients {
			return false
		}
		a = &c.shared
	}
	return a.left(now.UnixNano()) <= 0
}

// enter takes one of the client's share of questions, to be given back by leave. Without a
// share the outcome says why. As many may be under way as could be refused without
// exceeding the client's due, so that the number of refusals holds whatever the haste.
// Trusted is for a credential that was good before: it is not flooding. Who may wait gets a
// turn with Busy, while there are places: all pods behind one address may come at once.
func (c *clients) enter(client netip.Addr, now time.Time, share int, trusted, wait bool) (*account, Outcome, *turn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.account(client, now.UnixNano())
	left := a.left(now.UnixNano())
	switch {
	case trusted && a.judged < share:
	case left <= 0:
		return nil, Flood, nil
	case a.judged < min(share, left):
	case !wait || c.turns >= maxTurns || a.turns >= maxTurnsEach:
		return nil, Busy, nil
	default:
		return nil, Busy, c.turn(a)
	}
	a.judged++
	return a, Good, nil
}

func (c *clients) turn(a *account) *turn {
	c.turns++
	a.turns++
	if a.next == nil {
		a.next = make(chan struct{})
	}
	return &turn{c, a, a.next}
}

func (c *clients) leave(a *account, now time.Time, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.judged--
	if a.next != nil {
		close(a.next)
		a.next = nil
	}
	if refused {
		a.free = max(a.free, now.UnixNano()) + int64(refusedEvery)
	}
}

func (c *clients) account(client netip.Addr, now int64) *account {
	a := c.m[client]
	if a != nil {
		return a
	}
	if len(c.m) >= maxClients {
		n := 0
		for k, old := range c.m {
			if old.judged == 0 && old.turns == 0 && old.free <= now {
				delete(c.m, k)
			}
			if n++; n == lookedAt {
				break
			}
		}
	}
	if len(c.m) >= maxClients {
		return &c.shared
	}
	a = &account{}
	c.m[client] = a
	return a
}
