package door

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guest is a member whose state the test sets.
type guest struct {
	Entry
	d      *Door
	addr   netip.Addr
	room   Room
	age    time.Duration
	panics bool
	open   Open

	drained, swept, abandoned atomic.Int32
	soon                      bool // gives way later, when the test says so
	cut                       atomic.Int32
}

func (g *guest) Client() netip.Addr { return g.addr }
func (g *guest) Sweep() {
	g.swept.Add(1)
	if g.panics {
		panic("in a look")
	}
}
func (g *guest) Drain()                      { g.drained.Add(1) }
func (g *guest) Abandon(Lease)               { g.abandoned.Add(1); g.d.Leave(g) }
func (g *guest) Room() (Room, time.Duration) { return g.room, g.age }
func (g *guest) Describe(o *Open) bool       { *o = g.open; return true }
func (g *guest) Cut(of Lease, why Why) bool {
	cut := g.End(of, why)
	if cut {
		g.cut.Store(int32(why))
		g.d.Leave(g)
	}
	return cut
}
func (g *guest) CutIf(which func(*Open) bool, why Why) bool {
	of := g.Look()
	return which(&g.open) && g.Cut(of, why)
}
func (g *guest) GiveWay(of Lease) (bool, bool) {
	if !g.End(of, Shed) {
		return false, false
	}
	if !g.soon {
		g.d.Leave(g)
	}
	return true, !g.soon
}

func newDoor(t testing.TB, o Options) *Door {
	o.Every = time.Hour // the test looks
	d := New(o)
	t.Cleanup(d.Close)
	return d
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func (d *Door) guest(t testing.TB, from string, l Limits) *guest {
	g := &guest{d: d, addr: addr(from)}
	require.Zero(t, d.Enter(g, l))
	return g
}

func TestOthers(t *testing.T) {
	d := newDoor(t, Options{})
	a, b := addr("192.0.2.1"), addr("192.0.2.2")
	is := func(ofA, ofB bool) {
		t.Helper()
		assert.Equal(t, [2]bool{ofA, ofB}, [2]bool{d.Others(a), d.Others(b)})
	}
	is(false, false)
	first, second := d.guest(t, "192.0.2.1", Limits{}), d.guest(t, "192.0.2.1", Limits{})
	is(false, true)
	third := d.guest(t, "192.0.2.2", Limits{})
	is(true, true)
	d.Leave(first)
	is(true, true)
	d.Leave(second)
	is(true, false)
	d.Leave(third)
	is(false, false)
}

func TestLimits(t *testing.T) {
	budget := fdbudget.New(6)
	count := 0
	d := newDoor(t, Options{Budget: budget, Counted: func(n int) { count += n }})
	l := Limits{ConnsPerClient: 2}
	a, b := d.guest(t, "192.0.2.1", l), d.guest(t, "192.0.2.1", l)
	assert.Equal(t, TooMany, d.Enter(&guest{d: d, addr: addr("192.0.2.1")}, l))
	assert.EqualValues(t, 2, budget.Left(), "what was refused took nothing")
	assert.Equal(t, Full, d.Enter(&guest{d: d, addr: addr("192.0.2.2")}, Limits{Conns: 2}))
	c := d.guest(t, "192.0.2.2", l)
	assert.Equal(t, NoDescriptors, d.Enter(&guest{d: d, addr: addr("192.0.2.3")}, l))
	assert.Equal(t, 3, count)
	for _, m := range []*guest{a, c, b} {
		d.Leave(m)
	}
	assert.Zero(t, d.Len())
	assert.Zero(t, count)
	assert.EqualValues(t, 6, budget.Left())
	assert.Empty(t, d.perClient)
}

// Idle connections are closed for a newcomer's descriptors.
func TestEvict(t *testing.T) {
	budget := fdbudget.New(2)
	require.True(t, budget.Take(2))
	d := newDoor(t, Options{Budget: budget, Evict: func(n int) int { budget.Give(int64(n)); return n }})
	d.Leave(d.guest(t, "192.0.2.1", Limits{}))
}

// The order in which members stand says nothing: each leaves from wherever it is.
func TestRegistry(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := New(Options{Every: time.Hour})
		defer d.Close()
		var here []*guest
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch i := rapid.IntRange(0, 2+len(here)).Draw(rt, "which"); {
			case i >= len(here):
				g := &guest{d: d, addr: addr("192.0.2.1")}
				assert.Zero(rt, d.Enter(g, Limits{}))
				here = append(here, g)
			case rapid.Bool().Draw(rt, "replaced"):
				g := &guest{d: d, addr: addr("192.0.2.1")}
				d.Replace(here[i], g)
				here[i] = g
			default:
				d.Leave(here[i])
				here = append(here[:i], here[i+1:]...)
			}
			d.Sweep(time.Now())
			assert.Equal(rt, len(here), d.Len())
			for _, g := range here {
				assert.EqualValues(rt, 1, g.swept.Swap(0), "each is looked at once")
			}
		}
	})
}

func TestLookThatPanics(t *testing.T) {
	var told int
	d := newDoor(t, Options{Report: func(any, []byte) { told++ }})
	a, b := d.guest(t, "192.0.2.1", Limits{}), d.guest(t, "192.0.2.1", Limits{})
	a.panics = true
	d.Sweep(time.Now())
	assert.Equal(t, 1, told)
	assert.EqualValues(t, 1, a.abandoned.Load())
	assert.EqualValues(t, 1, b.swept.Load(), "all others are looked at")
	assert.Equal(t, 1, d.Len())
}

func TestClock(t *testing.T) {
	var swept time.Time
	d := newDoor(t, Options{Swept: func(now time.Time) { swept = now }})
	assert.Zero(t, d.Now())
	now := d.start.Add(3 * time.Second)
	d.Sweep(now)
	assert.Equal(t, 3*time.Second, d.Now())
	assert.Equal(t, now, swept)
}

func TestDrain(t *testing.T) {
	d := newDoor(t, Options{})
	a, b := d.guest(t, "192.0.2.1", Limits{}), d.guest(t, "192.0.2.1", Limits{})
	assert.False(t, d.Draining())
	d.Drain()
	assert.True(t, d.Draining())
	assert.EqualValues(t, 1, a.drained.Load())
	d.Leave(a)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assert.False(t, d.Wait(ended))
	d.CutAll()
	assert.True(t, d.Cutting())
	assert.Equal(t, Shutdown, b.Why())
	assert.True(t, d.Wait(t.Context()), "nobody is there")
	c := d.guest(t, "192.0.2.1", Limits{})
	go d.Leave(c)
	assert.True(t, d.Wait(t.Context()))
}

func TestMakeRoom(t *testing.T) {
	var gave []Room
	d := newDoor(t, Options{Gave: func(r Room) { gave = append(gave, r) }})
	in := func(from string, r Room, age time.Duration) *guest {
		g := d.guest(t, from, Limits{})
		g.room, g.age = r, age
		return g
	}
	ended := func(g *guest) bool { return g.Why() == Shed }
	greedy := []*guest{in("192.0.2.1", Headless, 0), in("192.0.2.1", Headless, time.Minute), in("192.0.2.1", Idle, time.Hour)}
	young, old := in("192.0.2.2", Headless, grace-1), in("192.0.2.3", Headless, grace)
	busy := in("192.0.2.4", InUse, time.Hour)
	in("192.0.2.1", InUse, time.Hour)
	idle := in("192.0.2.5", Idle, time.Minute)
	for i, want := range []*guest{
		greedy[1], // of the client with most, the oldest
		greedy[0],
		old,
		greedy[2],
		idle,
	} {
		given, atOnce := d.makeRoom(addr("192.0.2.4"))
		assert.True(t, given && atOnce, "%d", i)
		assert.True(t, ended(want), "%d", i)
	}
	given, _ := d.makeRoom(addr("192.0.2.4"))
	assert.False(t, given, "who has no more than the newcomer is let alone while it is young")
	given, _ = d.makeRoom(addr("192.0.2.9"))
	assert.True(t, given, "who has more is not")
	assert.True(t, ended(young))
	given, _ = d.makeRoom(addr("192.0.2.9"))
	assert.False(t, given)
	assert.False(t, ended(busy), "what is in use never gives way")
	assert.Equal(t, []Room{Headless, Headless, Headless, Idle, Idle, Headless}, gave)
}

// Who gives way soon leaves a place for a newcomer that waits for it; one that nobody leaves
// a place for is told after a while.
func TestAwait(t *testing.T) {
	d := newDoor(t, Options{})
	l := Limits{Conns: 1}
	a := d.guest(t, "192.0.2.1", l)
	a.room, a.age, a.soon = Headless, time.Minute, true
	given, atOnce := d.makeRoom(addr("192.0.2.2"))
	assert.True(t, given)
	assert.False(t, atOnce)
	b := &guest{d: d, addr: addr("192.0.2.2")}
	in := make(chan Refusal)
	go func() { in <- d.Await(b, l) }()
	nettest.Eventually(t, "one waits", func() bool { return d.waiters.Load() == 1 })
	d.Leave(a)
	assert.Zero(t, <-in)
	assert.Equal(t, Full, d.Await(&guest{d: d, addr: addr("192.0.2.3")}, l))
	d.waiters.Store(waitersMost)
	assert.Equal(t, Full, d.Await(&guest{d: d, addr: addr("192.0.2.3")}, l))
	d.waiters.Store(0)
}

func TestListCutRevoke(t *testing.T) {
	d := newDoor(t, Options{})
	bad, good := netip.MustParseAddrPort("192.0.2.7:443"), netip.MustParseAddrPort("192.0.2.8:443")
	a, b, c, w := d.guest(t, "192.0.2.1", Limits{}), d.guest(t, "192.0.2.1", Limits{}), d.guest(t, "192.0.2.2", Limits{}), d.guest(t, "192.0.2.2", Limits{})
	a.open = Open{State: Tunnel, Addr: bad}
	b.open = Open{State: Tunnel, Addr: good}
	c.open = Open{State: Request, Addr: bad, Tenant: "shop"}
	w.open = Open{State: Request} // has no server yet
	assert.ElementsMatch(t, []Open{a.open, b.open, c.open, w.open}, d.List())
	assert.Equal(t, 1, d.CutWhere(func(o *Open) bool { return o.Tenant == "shop" }, Cut))
	assert.EqualValues(t, Cut, c.cut.Load())
	why := &policy.Revocation{Problem: "bad"}
	unless := func(stands func(*Open) bool) func(*Open) *policy.Revocation {
		return func(o *Open) *policy.Revocation {
			if stands(o) {
				return nil
			}
			return why
		}
	}
	assert.Equal(t, 1, d.Revoke(unless(func(o *Open) bool { return o.Addr != bad })))
	assert.EqualValues(t, Revoked, a.cut.Load())
	assert.Equal(t, why, a.Revocation())
	assert.Nil(t, b.Revocation())
	assert.Nil(t, c.Revocation(), "it was cut before")
	of := b.Look()
	require.True(t, b.Again())
	RevokeNow(b, of, *why)
	assert.Zero(t, b.Why(), "that was its life before")
	RevokeNow(b, b.Look(), *why)
	assert.EqualValues(t, Revoked, b.Why())
	assert.Equal(t, why, b.Revocation())
	assert.Zero(t, w.Why())
}

// However many are open, each is listed once, and who comes and goes meanwhile does no harm.
func TestListTenThousand(t *testing.T) {
	d := newDoor(t, Options{})
	const many = 10_000
	for i := range many {
		g := &guest{d: d, addr: addr("192.0.2.1")}
		g.open = Open{State: Tunnel, Received: int64(i), Addr: netip.MustParseAddrPort("192.0.2.7:443")}
		require.Zero(t, d.Enter(g, Limits{}))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				g := &guest{d: d, addr: addr("192.0.2.2"), open: Open{Received: -1}}
				d.Enter(g, Limits{})
				d.Leave(g)
			}
		}
	})
	for range 10 {
		seen := make([]int, many)
		for _, o := range d.List() {
			if o.Received >= 0 {
				seen[o.Received]++
			}
		}
		for i, n := range seen {
			require.Equal(t, 1, n, "%d", i)
		}
	}
	assert.Equal(t, many/2, d.Revoke(func(o *Open) *policy.Revocation {
		if o.Received%2 == 0 {
			return nil
		}
		return &policy.Revocation{}
	}))
	close(stop)
	wg.Wait()
	assert.Equal(t, many/2, d.Len())
}

// However many come too late, one life ends once, and the next is not theirs.
func TestLife(t *testing.T) {
	var l Life
	of := l.Look()
	assert.True(t, l.Again())
	assert.False(t, l.End(of, Late), "it is another by now")
	of = l.Look()
	assert.True(t, l.End(of, Late))
	assert.False(t, l.End(of, Gone), "once")
	assert.Equal(t, Late, l.Why())
	assert.False(t, l.Again(), "whoever ended it may be at it")
	assert.False(t, l.EndNow(Cut))
	assert.False(t, l.Revive(Gone))
	assert.True(t, l.Revive(Late))
	assert.Zero(t, l.Why())
	assert.True(t, l.EndNow(Cut))
	assert.False(t, l.Revive(0))

	for range 200 {
		var l Life
		var wg sync.WaitGroup
		var ends, again atomic.Int32
		of := l.Look()
		for range 4 {
			wg.Go(func() {
				if l.End(of, Late) {
					ends.Add(1)
				}
			})
		}
		wg.Go(func() {
			if l.Again() {
				again.Add(1)
			}
		})
		wg.Wait()
		assert.EqualValues(t, 1, ends.Load()+again.Load())
	}
}

// Nobody gives way for a newcomer that its own limit keeps out.
func TestNobodyGivesWayForNothing(t *testing.T) {
	d := newDoor(t, Options{})
	l := Limits{Conns: 2, ConnsPerClient: 1}
	d.guest(t, "192.0.2.1", l)
	idle := d.guest(t, "192.0.2.2", l)
	idle.room, idle.age = Idle, time.Second
	why, await := d.EnterOrShed(&guest{d: d, addr: addr("192.0.2.1")}, l)
	assert.Equal(t, TooMany, why)
	assert.False(t, await)
	assert.Zero(t, idle.Why())
}

// Who was chosen to give way some time ago does not, when others should before it by now.
func TestWhoGivesWayIsChosenAnew(t *testing.T) {
	d := newDoor(t, Options{})
	for range 10 {
		g := d.guest(t, "192.0.2.1", Limits{})
		g.room, g.age = Idle, time.Minute
	}
	given, _ := d.makeRoom(addr("192.0.2.9"))
	require.True(t, given)
	silent := d.guest(t, "192.0.2.66", Limits{})
	silent.room, silent.age = Headless, time.Hour
	d.queued = time.Now().Add(-queueLasts - 1)
	given, _ = d.makeRoom(addr("192.0.2.9"))
	require.True(t, given)
	assert.Equal(t, Shed, silent.Why())
}

// An end for a life that is over harms none after it.
func TestLateAbandon(t *testing.T) {
	var l Life
	of := l.Look()
	assert.True(t, l.Again())
	assert.False(t, l.Stop(of, Cut), "it is another by now")
	of = l.Look()
	assert.True(t, l.End(of, Late))
	assert.True(t, l.Stop(of, Cut), "it was ended already, and goes on to no other")
	assert.Equal(t, Late, l.Why())
	assert.False(t, l.Again())
	var m Life
	assert.True(t, m.Stop(m.Look(), Cut))
	assert.False(t, m.Again())
}

// A round ends, however many take others' places while it goes on.
func TestRoundEnds(t *testing.T) {
	d := newDoor(t, Options{})
	last := d.guest(t, "192.0.2.1", Limits{})
	visits := 0
	d.Each(func(Member) {
		visits++
		next := &guest{d: d, addr: addr("192.0.2.1")}
		d.Replace(last, next)
		last = next
	})
	assert.Equal(t, turns, visits)
	d.Replace(last, &guest{d: d, addr: addr("192.0.2.1")})
	assert.Empty(t, d.late, "nobody is kept when no round is under way")
}
