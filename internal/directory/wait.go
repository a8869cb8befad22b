package directory

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Bounds of waiting for addresses.
const (
	maxWaits = 4096             // addresses that are waited for, or were in vain
	vainTime = 10 * time.Second // how long an address that was waited for in vain is not again
)

// Wait is Lookup for a request that may come before the news of its pod: it waits until
// the address is known, at most for Options.Wait or until ctx is done. An address for which
// that was in vain is not waited for again for a while: a client that is no pod is not held
// up by each request.
func (c *Client) Wait(ctx context.Context, addr netip.Addr) (Pod, bool) {
	addr = addr.Unmap().WithZone("")
	if p, ok := c.Lookup(addr); ok {
		return p, true
	}
	w := c.waits.begin(addr)
	if w == nil {
		return c.Lookup(addr)
	}
	limit := time.NewTimer(c.o.Wait)
	defer limit.Stop()
	for {
		if p, ok := c.Lookup(addr); ok { // the news may have come before the wait began
			c.waits.end(addr, w, false)
			return p, true
		}
		select {
		case <-w.news:
			if p, ok := c.Lookup(addr); ok {
				return p, true
			}
			if w = c.waits.begin(addr); w == nil {
				return Pod{}, false
			}
		case <-limit.C:
			c.waits.end(addr, w, true)
			return c.Lookup(addr)
		case <-ctx.Done():
			c.waits.end(addr, w, false)
			return c.Lookup(addr)
		}
	}
}

// waits are the addresses for which somebody waits. The zero value has none.
type waits struct {
	mu  sync.Mutex
	all map[netip.Addr]*wait
}

// wait is of all who wait for one address.
type wait struct {
	news  chan struct{} // closed when something was said of the address
	count int           // who waits
	vain  time.Time     // when somebody had waited in vain; zero: nobody has
}

// begin is the wait of an address, or nil when it is not to be waited for.
func (ws *waits) begin(addr netip.Addr) *wait {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.all[addr]
	if w != nil && !w.vain.IsZero() {
		if time.Since(w.vain) < vainTime {
			return nil
		}
		w.vain = time.Time{}
	}
	if w == nil {
		if len(ws.all) >= maxWaits && !ws.sweep() {
			return nil
		}
		if ws.all == nil {
			ws.all = make(map[netip.Addr]*wait)
		}
		w = &wait{news: make(chan struct{})}
		ws.all[addr] = w
	}
	w.count++
	return w
}

// end is of one who waits no more, and has not heard of news.
func (ws *waits) end(addr netip.Addr, w *wait, vain bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.count--
	if vain && w.vain.IsZero() {
		w.vain = time.Now()
	}
	if w.count == 0 && w.vain.IsZero() && ws.all[addr] == w {
		delete(ws.all, addr)
	}
}

// sweep forgets what was long ago in vain, and reports whether that made room.
func (ws *waits) sweep() bool {
	for addr, w := range ws.all {
		if w.count == 0 && time.Since(w.vain) >= vainTime {
			delete(ws.all, addr)
		}
	}
	return len(ws.all) < maxWaits
}

// wake tells those who wait for an address.
func (ws *waits) wake(addr netip.Addr) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.all[addr]; w != nil {
		delete(ws.all, addr)
		close(w.news)
	}
}

// wakeAll tells everybody.
func (ws *waits) wakeAll() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.all {
		close(w.news)
	}
	ws.all = nil
}
