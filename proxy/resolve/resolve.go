// Package resolve looks host names up, once for everybody who asks: a caching
// stub resolver (RFC 1034 section 5.3.1) over the servers of resolv.conf.
//
// A and AAAA are asked side by side, over UDP, and over TCP when the answer was
// truncated; with EDNS and letters of random case (0x20), and without where these are
// not understood. However many ask, descriptors and names in flight are bounded. Answers are kept for their TTL within bounds, failures for that of
// the SOA record (RFC 2308); questions for one name that is being looked up are
// folded into one; a name in use is looked up again shortly before its time is over,
// so that nobody waits for it; addresses past their time are served for a while when
// no server answers (RFC 8767). The hosts file comes before DNS, and localhost (RFC
// 6761) never leaves the machine.
//
// What it returns is what a server said, no more: whether an address may be
// dialled is for the caller to decide, on the very address.
package resolve

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluiceproxy/sluice/proxy/fdbudget"
)

// Defaults of [Options].
const (
	DefaultTimeout        = 5 * time.Second
	DefaultMaxTTL         = time.Hour
	DefaultNegativeTTLMax = time.Minute
	DefaultFailureTTL     = time.Second
	DefaultStaleFor       = time.Hour
	DefaultMaxEntries     = 16384
	DefaultMaxBytes       = 16 << 20
	DefaultMaxNames       = 4096
	DefaultResolvConf     = "/etc/resolv.conf"
	DefaultHostsFile      = "/etc/hosts"
)

// Options say whom to ask and how long to believe the answers. The zero value is
// ready to use.
type Options struct {
	// Servers are asked in this order; if empty, those of ResolvConf.
	Servers []netip.AddrPort
	// ResolvConf is the path of the resolv.conf(5) file; if empty,
	// DefaultResolvConf. Its search list and options hold with Servers too, but then
	// it may be missing. It is read again when it changes.
	ResolvConf string
	// HostsFile is the path of the hosts(5) file; if empty, DefaultHostsFile. It may
	// be missing, and is read again when it changes.
	HostsFile string
	// Timeout bounds a whole look-up; if zero, DefaultTimeout.
	Timeout time.Duration
	// MinTTL and MaxTTL bound how long addresses are cached. Without MinTTL, an
	// answer with TTL 0 serves only those who asked while it was being fetched. If
	// MaxTTL is zero, DefaultMaxTTL.
	MinTTL, MaxTTL time.Duration
	// NegativeTTLMax bounds how long it is believed that a name does not exist; if
	// zero, DefaultNegativeTTLMax; negative: not at all.
	NegativeTTLMax time.Duration
	// FailureTTL is how long a name is not asked for again after every server failed
	// (RFC 9520); if zero, DefaultFailureTTL; negative: not at all.
	FailureTTL time.Duration
	// StaleFor is how long past their time addresses are served while every server
	// fails; if zero, DefaultStaleFor; negative: never.
	StaleFor time.Duration
	// MaxEntries is the number of names cached, rounded up to a power of two, at
	// least 8; if zero, DefaultMaxEntries.
	MaxEntries int
	// MaxBytes bounds the memory of what is cached, in bytes; if zero, DefaultMaxBytes.
	MaxBytes int64
	// MaxNames bounds the names that are being looked up at once: who asks for another
	// one is told so at once, by an Error of Kind Busy, unless addresses past their time
	// are known. Callers who ask for the same name count once. If zero, DefaultMaxNames:
	// with servers that are silent, 800 new names in a second for the default Timeout,
	// and about 20 MB.
	MaxNames int
	// Budget is what the resolver takes its descriptors out of, once, for its whole life:
	// at most 64, however many ask. If nil, there is no limit to heed.
	Budget *fdbudget.Budget
	// Log is told what an operator should know; if nil, nobody is.
	Log *slog.Logger
	// Now is the clock of the cache; if nil, time.Now. Time-outs always go by the
	// real clock.
	Now func() time.Time
	// Observe, if non-nil, is told of each look-up and query. It is called on the
	// callers' goroutines, concurrently, and must not block.
	Observe func(Event)
}

// Resolver looks names up. Make one with [New]; it is safe for concurrent use.
type Resolver struct {
	timeout, minTTL, maxTTL, negativeTTLMax, failureTTL, staleFor, staleWait time.Duration

	now      func() time.Time
	epoch    time.Time
	onEvent  func(Event)
	cache    *cache
	conf     watched[*upstream]
	hosts    watched[map[string][]netip.Addr]
	turn     atomic.Uint32 // of option rotate
	late     atomic.Int64  // flights that go on for the second family
	early    atomic.Int64  // flights ahead of time
	maxLate  int64
	maxNames int

	budget      *fdbudget.Budget
	descriptors int // taken out of it
	sockets     sockets
	tcp         chan struct{} // holds one for each connection

	log   *slog.Logger
	quiet atomicDuration // no second line about too many addresses before

	base    context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	flights map[string]*flight
	aloft   int // flights that have not ended, also those that are in flights no more
	closed  bool
}

// New makes a resolver. It fails when the resolv.conf or hosts file can't be
// read or understood, or when no server is named anywhere. Close ends it.
func New(o Options) (*Resolver, error) {
	r := &Resolver{
		timeout:        or(o.Timeout, DefaultTimeout),
		minTTL:         max(o.MinTTL, 0),
		maxTTL:         max(or(o.MaxTTL, DefaultMaxTTL), o.MinTTL),
		negativeTTLMax: max(or(o.NegativeTTLMax, DefaultNegativeTTLMax), 0),
		failureTTL:     max(or(o.FailureTTL, DefaultFailureTTL), 0),
		staleFor:       max(or(o.StaleFor, DefaultStaleFor), 0),
		staleWait:      staleWait,
		maxLate:        maxLate,
		now:            o.Now,
		onEvent:        o.Observe,
		cache:          newCache(or(o.MaxEntries, DefaultMaxEntries), or(o.MaxBytes, DefaultMaxBytes)),
		maxNames:       or(o.MaxNames, DefaultMaxNames),
		budget:         o.Budget,
		log:            o.Log,
		flights:        map[string]*flight{},
	}
	if r.timeout < 0 {
		return nil, fmt.Errorf("start resolver: time-out %v is negative", r.timeout)
	}
	if r.now == nil {
		r.now = time.Now
	}
	r.epoch = r.now()
	servers := append([]netip.AddrPort(nil), o.Servers...)
	r.conf.path = or(o.ResolvConf, DefaultResolvConf)
	r.conf.parse = func(text []byte) (*upstream, error) {
		c, err := ParseConf(text)
		if err != nil {
			return nil, err
		}
		return newUpstream(c, servers)
	}
	r.hosts.path = or(o.HostsFile, DefaultHostsFile)
	r.hosts.parse = func(text []byte) (map[string][]netip.Addr, error) { return ParseHosts(text), nil }
	if err := r.conf.load(0); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.conf.path, err)
	}
	if err := r.hosts.load(0); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.hosts.path, err)
	}
	var err error
	if r.descriptors, err = takeDescriptors(r.budget); err != nil {
		return nil, fmt.Errorf("start resolver: %w", err)
	}
	tcp := r.descriptors / tcpPart
	r.tcp = make(chan struct{}, tcp)
	r.sockets.r, r.sockets.life = r, r.timeout
	r.sockets.slots = make([]slot, (r.descriptors-tcp)/2)
	r.base, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// or is v, or def when v is its type's zero value.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// clock is the time since the resolver began, by the cache's clock. It follows
// the monotonic clock: setting the machine's time moves no expiry.
func (r *Resolver) clock() time.Duration { return r.now().Sub(r.epoch) }

// Lookup returns the addresses of name, IPv4 first, each family in the server's
// order; IPv4-mapped ones come as IPv4. There is at least one, or an error: an
// *Error, whose cause is the context's error when ctx ended first. The slice is
// shared: it must not be changed.
//
// name is a host name as acl.Host has it: lower case, no trailing dot, no address.
func (r *Resolver) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if addrs, known, err := r.Known(name); known {
		return addrs, err
	}
	return r.miss(ctx, name)
}

// Known is Lookup for a name about which nobody has to be asked. For others known is
// false, and nothing was done.
func (r *Resolver) Known(name string) (addrs []netip.Addr, known bool, err error) {
	if addrs := localhost(name); addrs != nil {
		r.observe(Event{Kind: Local})
		return addrs, true, nil
	}
	now := r.clock()
	if addrs := (*r.hosts.get(now))[name]; addrs != nil {
		r.observe(Event{Kind: Local})
		return addrs, true, nil
	}
	if e := r.cache.get(name); e != nil && now < e.expires {
		if e.ahead > 0 && now >= e.ahead {
			r.lookAhead(name, e)
		}
		addrs, err = r.hit(e)
		return addrs, true, err
	}
	return nil, false, nil
}

// hit serves an entry that has not expired.
func (r *Resolver) hit(e *entry) ([]netip.Addr, error) {
	kind := CacheHit
	switch {
	case e.busy:
		kind = TurnedAway
	case e.err != nil:
		kind = CacheNegative
	case e.stale:
		kind = CacheStale
	}
	r.observe(Event{Kind: kind})
	return e.addrs, e.err
}

// miss waits for the servers.
func (r *Resolver) miss(ctx context.Context, name string) ([]netip.Addr, error) {
	if err := neverAsked(name); err != nil {
		r.observe(Event{Kind: Local})
		return nil, err
	}
	begin := time.Now()
	f, first, e := r.join(name)
	if e != nil {
		return r.hit(e)
	}
	kind := Folded
	if first {
		kind = CacheMiss
	}
	select {
	case <-f.done:
		if f.e.stale {
			kind = CacheStale
		}
		r.observe(Event{Kind: kind, Duration: time.Since(begin)})
		return f.e.addrs, f.e.err
	case <-ctx.Done():
		r.leave(f)
		r.observe(Event{Kind: Abandoned, Duration: time.Since(begin)})
		e := &Error{Name: name, Err: ctx.Err()}
		if ctx.Err() == context.DeadlineExceeded {
			e.Kind = Timeout
		}
		return nil, e
	}
}

// TTL is for how long what is known about name will be served from the cache: the
// time to wait before a Lookup can bring anything new. It is 0 when nothing is
// known, or what was known has expired. Names of the hosts file and localhost have
// none, since they are looked up at each Lookup: TTL is 0 for them. It asks nobody.
func (r *Resolver) TTL(name string) time.Duration {
	if localhost(name) != nil {
		return 0
	}
	now := r.clock()
	if (*r.hosts.get(now))[name] != nil {
		return 0
	}
	if e := r.cache.get(name); e != nil {
		return max(e.expires-now, 0)
	}
	return 0
}

// Close ends every look-up under way and waits until none of the resolver's
// goroutines is left. Afterwards names that are not in the cache fail with
// [ErrClosed]. A second call does nothing. The error is always nil.
func (r *Resolver) Close() error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.running.Wait()
	if first {
		r.budget.Give(int64(r.descriptors))
	}
	return nil
}
