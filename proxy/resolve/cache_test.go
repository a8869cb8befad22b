package resolve

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestTTL(t *testing.T) {
	t.Parallel()
	one := nettest.Addrs("192.0.2.1", "2001:db8::1")
	bounds := func(o *Options) { o.MinTTL, o.MaxTTL = 10*time.Second, time.Minute }
	for name, c := range map[string]struct {
		a, aaaa []nettest.Answer
		change  func(*Options)
		lasts   time.Duration
	}{
		"as the records say":             {a: answers(one.TTL(30)), lasts: 30 * time.Second},
		"the least of both families":     {a: answers(one.TTL(30)), aaaa: answers(one.TTL(20)), lasts: 20 * time.Second},
		"no more than MaxTTL":            {a: answers(one.TTL(300)), change: bounds, lasts: time.Minute},
		"no less than MinTTL":            {a: answers(one.TTL(0)), change: bounds, lasts: 10 * time.Second},
		"highest bit set: zero":          {a: answers(one.TTL(1 << 31)), change: bounds, lasts: 10 * time.Second},
		"default maximum":                {a: answers(one.TTL(1<<31 - 1)), lasts: DefaultMaxTTL},
		"NODATA of the other family":     {a: answers(one.TTL(300)), aaaa: answers(nettest.NoData().TTL(40)), lasts: 40 * time.Second},
		"NODATA that may not be cached":  {a: answers(one.TTL(300)), aaaa: answers(nettest.NoData().NoSOA()), lasts: partialTTL},
		"failure of the other family":    {a: answers(one.TTL(300)), aaaa: answers(nettest.ServFail()), lasts: partialTTL},
		"NXDOMAIN":                       {a: answers(nettest.NXDomain().TTL(7)), lasts: 7 * time.Second},
		"NODATA":                         {a: answers(nettest.NoData().TTL(7)), lasts: 7 * time.Second},
		"NXDOMAIN, the SOA says a day":   {a: answers(nettest.NXDomain().TTL(86400)), lasts: DefaultNegativeTTLMax},
		"every server failed":            {a: answers(nettest.ServFail()), lasts: DefaultFailureTTL},
		"failures are not kept if so":    {a: answers(nettest.ServFail()), change: func(o *Options) { o.FailureTTL = -1 }},
		"NXDOMAIN is not kept if so":     {a: answers(nettest.NXDomain()), change: func(o *Options) { o.NegativeTTLMax = -1 }},
		"TTL 0 is not kept":              {a: answers(one.TTL(0))},
		"NXDOMAIN without SOA, not kept": {a: answers(nettest.NXDomain().NoSOA())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := nettest.NewDNS(t)
			s.Set("host.test", c.a...)
			if c.aaaa != nil {
				s.SetType("host.test", dns.TypeAAAA, c.aaaa...)
			}
			r := start(t, s)
			if c.change != nil {
				r = start(t, s, c.change)
			}
			require.Zero(t, r.TTL("host.test"), "nothing is known yet")
			first := r.look("host.test")
			require.Equal(t, c.lasts, r.TTL("host.test"))
			if c.lasts > 0 {
				s.Forget()
				last := c.lasts*aheadMost/aheadParts + 1 // from then on a hit may have it looked up again
				r.advance(c.lasts - last)
				require.Equal(t, first, r.look("host.test"))
				require.Empty(t, s.Queries())
				r.advance(last)
			}
			s.Forget()
			r.look("host.test")
			require.NotEmpty(t, s.Queries())
		})
	}
}

// Each family is asked for when its own time is over: one without addresses by its
// SOA record, and not as often as the other's addresses change.
func TestFamiliesHaveTheirOwnTimes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a, aaaa   nettest.Answer
		after     time.Duration
		asked     string
		addresses string // that are there then
	}{
		"no AAAA, as the SOA says":    {nettest.Addrs("192.0.2.1").TTL(5), nettest.NoData().TTL(40), 5 * time.Second, "A", "192.0.2.1"},
		"no A, as the SOA says":       {nettest.NoData().TTL(40), nettest.Addrs("2001:db8::1").TTL(5), 5 * time.Second, "AAAA", "2001:db8::1"},
		"NODATA is over, too":         {nettest.Addrs("192.0.2.1").TTL(5), nettest.NoData().TTL(40), 40 * time.Second, "A AAAA", "192.0.2.1"},
		"NODATA is over before":       {nettest.Addrs("192.0.2.1").TTL(300), nettest.NoData().TTL(40), 40 * time.Second, "AAAA", "192.0.2.1"},
		"both have addresses":         {nettest.Addrs("192.0.2.1").TTL(5), nettest.Addrs("2001:db8::1").TTL(40), 5 * time.Second, "A", "192.0.2.1 2001:db8::1"},
		"a day of NODATA is a minute": {nettest.Addrs("192.0.2.1").TTL(5), nettest.NoData().TTL(86400), DefaultNegativeTTLMax, "A AAAA", "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := nettest.NewDNS(t)
			s.SetType("host.test", dns.TypeA, c.a)
			s.SetType("host.test", dns.TypeAAAA, c.aaaa)
			r := start(t, s)
			require.Equal(t, c.addresses, r.look("host.test"))
			s.Forget()
			r.advance(c.after)
			require.Equal(t, c.addresses, r.look("host.test"))
			var asked []string
			for _, q := range s.Queries() {
				asked = append(asked, q.Type)
			}
			slices.Sort(asked)
			require.Equal(t, c.asked, strings.Join(asked, " "))
		})
	}
}

// A name that is asked for when little of its time is left is looked up again while
// what is known still serves; one that nobody asks for is left alone.
func TestLookAhead(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1").TTL(100), nettest.Addrs("192.0.2.2").TTL(100))
	r := start(t, s)
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	s.Forget()
	r.advance(85*time.Second - 1)
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	require.Empty(t, s.Queries(), "it is early yet")
	r.advance(10*time.Second + 1)
	require.Empty(t, s.Queries(), "nobody has asked")
	for range 10 {
		r.look("host.test")
	}
	nettest.Eventually(t, "it is looked up again", func() bool { return r.TTL("host.test") == 100*time.Second })
	require.Equal(t, "192.0.2.2", r.look("host.test"))
	require.Equal(t, 2, s.Asked("host.test"), "once for each family")
	r.await(CacheMiss)
	require.NotContains(t, r.kinds(), CacheMiss.String(), "nobody waited")
}

// Names that came together are not looked up again together.
func TestLookAheadIsSpread(t *testing.T) {
	t.Parallel()
	r := start(t, nettest.NewDNS(t))
	left := map[time.Duration]bool{}
	for range 100 {
		e := r.entryOf("host.test", result{addrs: loopback, ttl: 100 * time.Second})
		left[e.expires-e.ahead] = true
		require.GreaterOrEqual(t, e.expires-e.ahead, 5*time.Second)
		require.LessOrEqual(t, e.expires-e.ahead, 15*time.Second)
	}
	require.Greater(t, len(left), 90)
	e := r.entryOf("host.test", result{addrs: loopback, ttl: 1})
	require.Equal(t, e.expires, e.ahead, "too short a time to be ahead of")
}

// When the servers fail ahead of time, what is known goes on.
func TestLookAheadFails(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1").TTL(100), nettest.ServFail())
	r := start(t, s)
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	r.advance(95 * time.Second)
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	nettest.Eventually(t, "what is known goes on", func() bool { return r.TTL("host.test") == staleTTL })
	require.Equal(t, "192.0.2.1", r.look("host.test"))
}

// Ahead of time no more names are looked up at once than the bound says: they are
// later, when their time is over at the latest.
func TestLookAheadIsBounded(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1").TTL(100), nettest.Addrs("192.0.2.2").TTL(100),
		nettest.Addrs("192.0.2.3").TTL(100))
	r := start(t, s)
	r.look("host.test")
	r.early.Store(maxEarly)
	r.advance(95 * time.Second)
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	require.EqualValues(t, maxEarly, r.early.Load())
	r.advance(5 * time.Second)
	require.Equal(t, "192.0.2.2", r.look("host.test"))

	r.advance(95 * time.Second)
	require.Equal(t, "192.0.2.2", r.look("host.test"))
	r.early.Store(0)
	require.Equal(t, "192.0.2.2", r.look("host.test"))
	nettest.Eventually(t, "it is looked up again", func() bool { return r.TTL("host.test") == 100*time.Second })
	require.Equal(t, "192.0.2.3", r.look("host.test"))
}

func TestRebindingIsSeen(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1").TTL(0), nettest.Addrs("10.0.0.1").TTL(0))
	r := start(t, s)
	require.Equal(t, "192.0.2.1", r.look("host.test"))
	require.Equal(t, "10.0.0.1", r.look("host.test"))
	require.Equal(t, 4, s.Asked("host.test"))
}

func TestSOAOfAnotherZoneIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Func(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		soa, err := dns.NewRR("other.test. 60 IN SOA ns.test. hostmaster.test. 1 2 3 4 60")
		require.NoError(t, err)
		m.Ns = []dns.RR{soa}
		return m
	}))
	r := start(t, s)
	r.look("host.test")
	r.look("host.test")
	require.Equal(t, 4, s.Asked("host.test"))
}

func TestServeStale(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1").TTL(60), nettest.ServFail())
	r := start(t, s, func(o *Options) { o.StaleFor = 10 * time.Minute })
	r.look("host.test")
	r.advance(time.Minute)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	r.await(CacheStale)

	// The servers are left alone for a while, then tried again.
	s.Forget()
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	r.await(CacheStale)
	require.Empty(t, s.Queries())
	r.advance(staleTTL)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	require.NotEmpty(t, s.Queries())

	// What the servers say counts at once, good or bad.
	s.Set("host.test", nettest.NXDomain().TTL(0), nettest.ServFail())
	r.advance(staleTTL)
	require.Equal(t, "not_found: look up host.test: no such name (NXDOMAIN)", r.look("host.test"))
}

func TestStaleEnds(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1").TTL(60), nettest.ServFail())
	r := start(t, s, func(o *Options) { o.StaleFor = 10 * time.Second })
	r.look("host.test")
	r.advance(70*time.Second - 1)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	r.advance(1)
	require.Equal(t, "server_failure: look up host.test at 127.0.0.1:PORT: SERVFAIL", r.look("host.test"))
}

func TestStaleDoesNotWaitForSilentServers(t *testing.T) {
	t.Parallel()
	s := nettest.NewDNS(t)
	gate := make(chan struct{})
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1"),
		nettest.Addrs("192.0.2.2", "2001:db8::2").Gate(gate))
	r := start(t, s)
	r.staleWait = time.Millisecond
	r.look("host.test")
	r.advance(time.Minute)
	require.Equal(t, "192.0.2.1 2001:db8::1", r.look("host.test"))
	// The look-up under way renews the cache all the same.
	close(gate)
	nettest.Eventually(t, "the cache is renewed", func() bool { return r.look("host.test") == "192.0.2.2 2001:db8::2" })
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newCache(20, 1<<20)
	require.Len(t, c.slots, 32)
	for i := range 1000 {
		c.put(&entry{name: fmt.Sprintf("host%d.test", i), expires: time.Hour}, 0)
	}
	require.LessOrEqual(t, c.len(), 32)
	require.NotNil(t, c.get("host999.test"))
}

func TestEviction(t *testing.T) {
	t.Parallel()
	c := newCache(ways, 1<<20)
	put := func(name string, expires, now time.Duration) { c.put(&entry{name: name, expires: expires}, now) }
	for i := range ways {
		put(fmt.Sprint(i), time.Hour, 0)
	}
	put("3", time.Minute, 0) // in its own place
	require.Equal(t, ways, c.len())
	for i := range ways {
		if i != 5 {
			require.NotNil(t, c.get(fmt.Sprint(i)))
		}
	}
	put("new", time.Hour, 0) // 5 alone was not used
	require.Nil(t, c.get("5"))
	put("newer", time.Hour, time.Minute) // 3 has expired
	require.Nil(t, c.get("3"))
	require.NotNil(t, c.get("newer"))
	for i := range ways {
		put(fmt.Sprint("more", i), time.Hour, 0) // all used: room is made all the same
		require.NotNil(t, c.get(fmt.Sprint("more", i)))
	}
}

func TestCachedLookupAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := nettest.NewDNS(t)
	s.Set("host.test", nettest.Addrs("192.0.2.1", "2001:db8::1"))
	s.Set("none.test", nettest.NXDomain())
	hosts := write(t, "hosts", "192.0.2.7 here.test\n")
	counts := [256]int{}
	r, err := New(Options{
		Servers: []netip.AddrPort{s.Addr()}, ResolvConf: "/dev/null", HostsFile: hosts,
		Observe: func(e Event) { counts[e.Kind]++ },
	})
	require.NoError(t, err)
	defer r.Close()
	ctx := context.Background()
	for _, name := range []string{"host.test", "none.test", "here.test", "localhost"} {
		_, _ = r.Lookup(ctx, name)
		allocs := testing.AllocsPerRun(1000, func() { _, _ = r.Lookup(ctx, name) })
		require.Zero(t, allocs, name)
	}
	require.NotZero(t, counts[CacheHit])
	require.NotZero(t, counts[CacheNegative])
	require.NotZero(t, counts[Local])
}

// 16,384 names of 64 addresses each take what the cache may, not what they are.
func TestCacheIsBoundedInBytes(t *testing.T) {
	// Alone in the process: it looks at the heap.
	addrs := make([]netip.Addr, 64)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
	}
	r := start(t, nettest.NewDNS(t))
	before := inUse()
	for i := range DefaultMaxEntries {
		name := fmt.Sprintf("host%d.test", i)
		four, six := half{0, Answer{Addrs: slices.Clone(addrs), TTL: time.Hour}, nil}, half{1, Answer{TTL: time.Hour}, nil}
		r.cache.put(r.entryOf(name, r.merge(name, [2]*half{&four, &six})), 0)
	}
	require.LessOrEqual(t, r.cache.size, int64(DefaultMaxBytes))
	require.Greater(t, r.cache.size, int64(DefaultMaxBytes)*9/10)
	require.Less(t, inUse()-before, int64(DefaultMaxBytes)*5/4, "what is counted is about what is used")
	require.NotNil(t, r.cache.get(fmt.Sprintf("host%d.test", DefaultMaxEntries-1)))

	// Ordinary names all have room.
	r = start(t, nettest.NewDNS(t))
	for i := range DefaultMaxEntries {
		name := fmt.Sprintf("a-host-with-a-long-name-%d.example.test", i)
		four, six := half{0, Answer{Addrs: slices.Clone(addrs[:4]), TTL: time.Hour}, nil}, half{1, Answer{TTL: time.Hour}, nil}
		r.cache.put(r.entryOf(name, r.merge(name, [2]*half{&four, &six})), 0)
	}
	require.Less(t, r.cache.size, int64(DefaultMaxBytes))
}

// What is in use stays, and a bound below one entry still leaves the latest.
func TestEvictionByBytes(t *testing.T) {
	t.Parallel()
	one := (&entry{name: "0"}).size()
	c := newCache(64, 4*one)
	put := func(name string) { c.put(&entry{name: name, expires: time.Hour}, 0) }
	put("a")
	for i := range 100 {
		require.NotNil(t, c.get("a"), i)
		put(fmt.Sprint(i % 10))
		require.LessOrEqual(t, c.size, 4*one)
	}
	c = newCache(64, one/2)
	put("a")
	put("b")
	require.NotNil(t, c.get("b"))
	require.Nil(t, c.get("a"))
	require.Equal(t, one, c.size)
}
