package tcp

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/resolve"
)

// destination is a host and port that connections go to, with the addresses that
// it has now.
type destination struct {
	port    *port
	srv     *Server
	target  acl.Target
	tenant  string // whose it is; "": the default one's
	check   Check
	label   string // HOST:PORT
	metrics *metrics.TCPDestination
	stop    context.CancelFunc
	ctx     context.Context
	first   chan struct{} // closed when it has been resolved, or failed to, for the first time
	again   chan struct{} // asks to judge now
	list    atomic.Pointer[[]*address]

	mu       sync.Mutex
	known    map[netip.Addr]*address // in force, and draining ones
	refs     int                     // 1 while in force, and the open connections
	problem  string                  // why the last look-up gave nothing
	good     time.Time               // of the last look-up that gave something
	reported [3]int
}

// newDestination follows t until stop is called.
func newDestination(p *port, t acl.Target, l Listener) *destination {
	d := &destination{port: p, srv: p.srv, target: t, tenant: l.Tenant, check: l.Check, refs: 1,
		first: make(chan struct{}), again: make(chan struct{}, 1), known: make(map[netip.Addr]*address)}
	host := t.Host.String()
	if t.Host.Addr().Is6() {
		host = "[" + host + "]"
	}
	d.label = host + ":" + strconv.Itoa(int(t.Port))
	d.metrics = p.srv.Metrics.Destination(p.label, d.label)
	d.list.Store(&[]*address{})
	var once sync.Once
	ctx, cancel := context.WithCancel(p.srv.ctx)
	d.ctx = ctx
	d.stop = func() {
		once.Do(func() {
			cancel()
			d.update(nil, "")
			d.mu.Lock()
			defer d.mu.Unlock()
			d.unref()
		})
	}
	p.srv.wg.Go(d.follow)
	return d
}

// ref is called before a connection is made; the connection's end calls ended. It
// fails when the destination has left the configuration.
func (d *destination) ref(a *address) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refs == 0 {
		return false
	}
	d.refs++
	a.open.Add(1)
	return true
}

// unref is called under mu. The last one gives the metrics back.
func (d *destination) unref() {
	if d.refs--; d.refs == 0 {
		d.metrics.Release()
	}
}

// follow keeps the addresses as DNS and the policy have them.
func (d *destination) follow() {
	var once sync.Once
	for {
		wait := d.refresh()
		once.Do(func() { close(d.first) })
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-d.ctx.Done():
			return
		case <-d.again:
		case <-timer:
		}
	}
}

func (d *destination) judgeAgain() {
	select {
	case d.again <- struct{}{}:
	default:
	}
}

// refresh judges the destination anew, and returns when to do so again; 0: not
// before it is asked to.
func (d *destination) refresh() (wait time.Duration) {
	live := d.srv.live.Load()
	ctx, cancel := context.WithTimeout(d.ctx, live.dnsTimeout)
	defer cancel()
	var t outbound.Ticket
	err := d.srv.Gate.Blocking().Admit(ctx, live.generation, &outbound.Request{Tenant: d.tenant, Target: d.target}, &t)
	if d.ctx.Err() != nil {
		return 0
	}
	var failed *outbound.Error
	errors.As(err, &failed)
	now := time.Now()
	d.metrics.SetResolved(err == nil || failed != nil && failed.Kind.ByAdmission())
	switch {
	case err == nil:
		d.good = now
		d.update(t.Route.Addrs(), "")
	case failed != nil && failed.Kind.ByAdmission():
		d.update(nil, "denied: "+t.Decision.Reason())
	case isNotFound(err) && now.Sub(d.good) >= d.srv.pace.hold:
		d.update(nil, err.Error())
	default: // what was known is the best there is
		d.say(err.Error())
	}
	if !d.target.Host.IsName() {
		return 0
	}
	return max(d.srv.TTL(d.target.Host.Name()), d.srv.pace.look)
}

func isNotFound(err error) bool {
	re, ok := errors.AsType[*resolve.Error](err)
	return ok && re.Kind == resolve.NotFound
}

// update makes addrs the addresses in force, and tells of what is new.
func (d *destination) update(addrs []netip.Addr, problem string) {
	if came, went := d.replace(addrs); len(came)+len(went) > 0 {
		d.srv.Log.Info("addresses changed", "listener", d.port.label, "destination", d.label, "new", came, "gone", went, "in_use", len(*d.list.Load()))
	}
	d.say(problem)
	d.report()
}

// replace makes addrs the addresses in force. New ones join; those that vanished
// get no more connections, and are forgotten when their last one ends.
func (d *destination) replace(addrs []netip.Addr) (came, went []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		addrs = nil
	}
	list := make([]*address, 0, len(addrs))
	here := make(map[netip.Addr]bool, len(addrs))
	for _, ip := range addrs {
		a := d.known[ip]
		if a == nil {
			a = &address{d: d, addr: ip, kick: make(chan struct{}, 1)}
			d.known[ip] = a
		}
		if a.cancel == nil {
			a.start()
			came = append(came, ip.String())
		}
		here[ip] = true
		list = append(list, a)
	}
	for ip, a := range d.known {
		if here[ip] || a.cancel == nil {
			continue
		}
		a.cancel()
		a.cancel = nil
		went = append(went, ip.String())
		if a.open.Load() == 0 {
			delete(d.known, ip)
		}
	}
	d.list.Store(&list)
	return came, went
}

// say logs a problem when it is news.
func (d *destination) say(problem string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if problem != d.problem && problem != "" {
		d.srv.Log.Warn("destination has a problem", "listener", d.port.label, "destination", d.label, "problem", problem, "addresses_kept", len(*d.list.Load()))
	}
	d.problem = problem
}

// report tells metrics and port how many addresses there are.
func (d *destination) report() {
	if d.count() {
		d.port.refresh()
	}
}

// count tells the metrics, and reports whether that is news.
func (d *destination) count() (news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var n [3]int // up, down, draining
	for _, a := range d.known {
		switch {
		case a.cancel == nil:
			n[2]++
		case a.down.Load():
			n[1]++
		default:
			n[0]++
		}
	}
	news = n != d.reported
	d.reported = n
	if news && d.refs > 0 {
		d.metrics.SetAddresses(n[0], n[1], n[2])
	}
	return news
}

// up reports whether an address is in use.
func (d *destination) up() bool {
	for _, a := range *d.list.Load() {
		if !a.down.Load() {
			return true
		}
	}
	return false
}

// ended is called when a connection to a has ended.
func (d *destination) ended(a *address) {
	d.forget(a)
	d.report()
}

// forget forgets a if that was its last connection, and nobody wants more of them.
func (d *destination) forget(a *address) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if a.open.Add(-1) == 0 && a.cancel == nil && d.known[a.addr] == a {
		delete(d.known, a.addr)
	}
	d.unref()
}
