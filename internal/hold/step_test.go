package hold

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	self  = Identity{Pod: "uid-a", Process: 0xa}
	other = Identity{Pod: "uid-b", Process: 0xb}
)

// script drives one State by hand, at times in ms.
type script struct {
	t    *testing.T
	s    State
	at   time.Duration
	last []Action
}

// newScript is a standby that has let go, whose proxy serves, and that may take the Lease.
func newScript(t *testing.T, set Settings) *script {
	s, actions := New(self, set)
	x := &script{t: t, s: s, last: actions}
	x.begin()
	return x
}

// begin answers what a new process asks, but for what the Lease says.
func (x *script) begin() {
	g := find[LetGo](x)
	x.feed(0, LetGone{g.Nonce, true})
	x.feed(0, Proxy{Serving: true})
	x.feed(0, Permit{OK: true})
	x.s.reading = Nonce{}
}

func (x *script) feed(ms int, what Happening) {
	x.at = time.Duration(ms) * time.Millisecond
	x.s, x.last = Step(x.s, Event{x.at, what})
}

// find is the action of its type in the last step.
func find[T Action](x *script) T {
	x.t.Helper()
	for _, a := range x.last {
		if a, ok := a.(T); ok {
			return a
		}
	}
	var none T
	require.Failf(x.t, "no such action", "%T in %+v", none, x.last)
	return none
}

func (x *script) kinds() (all []NoteKind) {
	for _, a := range x.last {
		if n, ok := a.(Note); ok {
			all = append(all, n.Kind)
		}
	}
	return all
}

// attempt goes through an attempt that nothing stands in the way of, up to the answer of the
// write.
func (x *script) attempt(ms int) WriteLease {
	x.t.Helper()
	if x.s.try.phase == idle {
		x.feed(ms, Tick{})
	}
	x.feed(ms, Checked{Nonce: find[Check](x).Nonce, Up: true, Gateway: true, Alone: true})
	x.feed(ms, Prepared{find[Prepare](x).Nonce, true})
	return find[WriteLease](x)
}

// hold has the script hold from ms on.
func (x *script) hold(ms int) {
	x.t.Helper()
	x.feed(ms-3250, Seen{Lease: Lease{UID: "u", Version: "1", Holder: other.String(), Nonce: Nonce{0xb, 7}, Bound: 2750 * time.Millisecond}})
	w := x.attempt(ms)
	x.feed(ms, Written{w.Nonce, Acknowledged, "u", "2"})
	x.feed(ms, Committed{find[Commit](x).Nonce, true})
	require.True(x.t, x.s.Status().Holding)
}

func TestTakesInOrder(t *testing.T) {
	x := newScript(t, Defaults)
	x.feed(1000, Seen{Lease: Lease{UID: "u", Version: "1", Holder: other.String(), Bound: 2750 * time.Millisecond}})
	x.feed(4249, Tick{})
	assert.Empty(t, x.last, "a full L after the first sight")
	x.feed(4250, Tick{})
	c := find[Check](x)
	assert.Equal(t, []Action{Check{Nonce: c.Nonce, Duplicate: true}}, x.last)
	x.feed(4400, Checked{Nonce: c.Nonce, Up: true, Gateway: true, Alone: true})
	assert.Equal(t, []Action{Prepare{c.Nonce, 750 * time.Millisecond}}, x.last, "prepared before the write")
	x.feed(4410, Prepared{c.Nonce, true})
	w := find[WriteLease](x)
	assert.Equal(t, "1", w.Base.Version)
	assert.Equal(t, Lease{UID: "u", Version: "1", Holder: "uid-a_000000000000000a", Nonce: c.Nonce, Bound: 2750 * time.Millisecond}, w.Lease)
	x.feed(4420, Written{c.Nonce, Acknowledged, "u", "2"})
	assert.Equal(t, []Action{CutSockets{}, AddAddresses{}, Commit{Nonce: c.Nonce, For: 2 * time.Second}}, x.last)
	x.feed(4430, Committed{c.Nonce, true})
	assert.Equal(t, []Action{Announce{}, Probe{find[Probe](x).Nonce}, Publish{On: true}, Note{Kind: Took}}, x.last)
}

// Waits before the Lease is taken, after one sight of it at 1 s.
func TestWait(t *testing.T) {
	nonce := Nonce{0xb, 7}
	long := Defaults
	long.Lease = 5 * time.Second
	tests := []struct {
		want  time.Duration
		set   Settings
		lease Lease
		why   string
	}{
		{3250 * time.Millisecond, Defaults, Lease{Holder: "x"}, "own L"},
		{5 * time.Second, long, Lease{Holder: "x", Bound: time.Second}, "own L, the longer"},
		{4600 * time.Millisecond, Defaults, Lease{Holder: "x", Bound: 4 * time.Second}, "1.15 times what the holder announces"},
		{0, Defaults, Lease{UID: "u", Nonce: nonce, Mark: "u/" + nonce.String()}, "released"},
		{3250 * time.Millisecond, Defaults, Lease{UID: "u", Nonce: nonce}, "empty, no mark"},
		{3250 * time.Millisecond, Defaults, Lease{UID: "u", Nonce: nonce, Mark: "u/" + Nonce{0xb, 6}.String()}, "the mark of another write"},
		{3250 * time.Millisecond, Defaults, Lease{UID: "v", Nonce: nonce, Mark: "u/" + nonce.String()}, "the mark of another Lease"},
		{3250 * time.Millisecond, Defaults, Lease{UID: "u", Nonce: nonce, Mark: "u/" + nonce.String(), Holder: "x"}, "a mark beside a holder"},
		{3250 * time.Millisecond, Defaults, Lease{UID: "u", Holder: self.String(), Nonce: Nonce{0xc, 1}}, "our name, another process"},
	}
	for _, tt := range tests {
		x := newScript(t, tt.set)
		tt.lease.Version = "1"
		x.feed(1000, Seen{Lease: tt.lease})
		got := time.Duration(0)
		for ms := 1000; len(x.last) == 0 && ms < 10_000; ms++ {
			x.feed(ms, Tick{})
			got = x.at - time.Second
		}
		assert.Equal(t, tt.want, got, tt.why)
	}
}

// What is announced by the write before the last counts too, and no longer than that.
func TestWaitRemembers(t *testing.T) {
	x := newScript(t, Defaults)
	see := func(version string, bound time.Duration) time.Duration {
		x.feed(0, Seen{Lease: Lease{Version: version, Holder: "x", Bound: bound}})
		return x.s.wait()
	}
	assert.Equal(t, 11500*time.Millisecond, see("1", 10*time.Second))
	assert.Equal(t, 11500*time.Millisecond, see("2", time.Second), "who has taken over may have been quick")
	assert.Equal(t, 3250*time.Millisecond, see("3", time.Second))
	see("4", 10*time.Second)
	assert.Equal(t, 11500*time.Millisecond, see("5", 0), "a stranger announces nothing")
	assert.Equal(t, 11500*time.Millisecond, see("6", 0))
	x.feed(0, Seen{Lease: Lease{Missing: true}})
	w := find[WriteLease](x)
	assert.Equal(t, Lease{Nonce: w.Nonce, Bound: 10 * time.Second}, w.Lease, "nobody's, and it says what may still be let out")
}

// Who has let go, and then could not read the Lease, waits for as long as that was and L; not
// also for as long as it had held before, in which it saw nobody else's writes.
func TestWaitAfterHoldingForLong(t *testing.T) {
	x := newScript(t, Defaults)
	x.hold(5000)
	x.feed(60_000, Heard{})
	x.feed(60_000, LetGone{find[LetGo](x).Nonce, true})
	x.feed(60_000, Written{find[WriteLease](x).Nonce, Unknown, "", ""})
	x.feed(60_500, Tick{})
	x.feed(61_000, Unread{find[ReadLease](x).Nonce})
	x.feed(63_250, Tick{}) // given up to give it up
	require.Equal(t, "standby", x.s.Status().Mode)
	x.feed(64_000, Seen{Lease: Lease{UID: "u", Version: "2", Holder: self.String(), Nonce: x.s.lease.Nonce, Bound: 2750 * time.Millisecond}})
	x.feed(64_000+3249, Tick{})
	assert.Empty(t, x.last)
	x.feed(64_000+3250, Tick{})
	assert.True(t, find[Check](x).Duplicate)
}

// So does what an owner has seen of somebody else, before it has asked and found the Lease to
// be a stranger's.
func TestOwnerRemembers(t *testing.T) {
	x := newScript(t, Defaults)
	x.hold(4000)
	x.feed(4100, Seen{Lease: Lease{UID: "u", Version: "3", Holder: other.String(), Bound: 10 * time.Second}})
	x.feed(4200, Seen{find[ReadLease](x).Nonce, Lease{UID: "u", Version: "4", Holder: "stranger"}})
	assert.Contains(t, x.last, Note{Lost, "stranger"})
	assert.Equal(t, 11500*time.Millisecond, x.s.wait())
}

func TestRefusedCommit(t *testing.T) {
	x := newScript(t, Defaults)
	x.hold(4000)
	w := x.attempt(4500)
	x.feed(4600, Written{w.Nonce, Acknowledged, "u", "3"})
	c := find[Commit](x)
	assert.True(t, c.Renewing)
	x.feed(4700, Committed{Nonce: c.Nonce})
	assert.Equal(t, []NoteKind{Refused, Fenced}, x.kinds())
	assert.Len(t, x.last, 2, "nothing is tried with less")
	w = x.attempt(5000)
	assert.NotEqual(t, c.Nonce, w.Nonce)
	x.feed(5100, Written{w.Nonce, Acknowledged, "u", "4"})
	assert.Equal(t, []Action{AddAddresses{}, Commit{Nonce: w.Nonce, For: 2 * time.Second}}, x.last, "no socket is cut")
	x.feed(5200, Committed{w.Nonce, true})
	assert.Equal(t, []NoteKind{Lifted}, x.kinds())
}

func TestShortLossOfTheAPI(t *testing.T) {
	x := newScript(t, Defaults)
	x.hold(4000)
	w := x.attempt(4500)
	x.feed(5000, Written{Nonce: w.Nonce})
	assert.Equal(t, []NoteKind{Late}, x.kinds())
	r := find[ReadLease](x)
	x.feed(5500, Unread{r.Nonce})
	x.feed(6000, Tick{})
	assert.Equal(t, []NoteKind{Fenced}, x.kinds(), "V after the commit")
	l := w.Lease
	l.Version = "3"
	t.Run("the write had been done", func(t *testing.T) {
		y := *x
		y.t = t
		y.feed(8000, Seen{find[ReadLease](&y).Nonce, l})
		w := y.attempt(8000)
		assert.Equal(t, "3", w.Base.Version)
		y.feed(8100, Written{w.Nonce, Acknowledged, "u", "4"})
		assert.NotContains(t, y.last, CutSockets{})
	})
	t.Run("somebody has taken it", func(t *testing.T) {
		y := *x
		y.t = t
		y.feed(8000, Seen{find[ReadLease](&y).Nonce, Lease{UID: "u", Version: "9", Holder: other.String()}})
		assert.Equal(t, []Action{Note{Lost, other.String()}, Publish{}, CutSockets{}, LetGo{find[LetGo](&y).Nonce}, RemoveAddresses{}}, y.last)
		y.feed(8100, LetGone{find[LetGo](&y).Nonce, true})
		assert.Empty(t, y.last, "what is not ours is not given up")
	})
}

func TestKeep(t *testing.T) {
	set := Defaults
	set.Keep, set.Grace = true, 10*time.Second
	x := newScript(t, set)
	x.hold(4000)
	w := x.attempt(4500)
	x.feed(5000, Written{Nonce: w.Nonce})
	assert.Equal(t, []NoteKind{Late, Keeping}, x.kinds())
	assert.True(t, find[Commit](x).Renewing)
	x.feed(5000, Committed{w.Nonce, true})
	for ms := 5500; ms < 13_500; ms += 1000 {
		r := find[ReadLease](x)
		x.feed(ms, Unread{r.Nonce})
		x.feed(ms, Checked{Nonce: find[Check](x).Nonce, Up: true, Gateway: true})
		x.feed(ms, Prepared{find[Prepare](x).Nonce, true})
		assert.Equal(t, []NoteKind{Keeping}, x.kinds())
		assert.True(t, find[Commit](x).Renewing)
		x.feed(ms, Committed{find[Commit](x).Nonce, true})
		x.feed(ms+500, Tick{})
	}
	require.True(t, x.s.Status().Holding)
	r := find[ReadLease](x)
	x.feed(14_000, Unread{r.Nonce})
	assert.Empty(t, x.last, "the grace is over")
}

// A holder that misses the gateway looks again at once, and does not write before it has seen it:
// who may see it waits from the last write on. It renews when the gateway is there again, or when
// nothing is left to look in; not when it was missed three times in a row.
func TestGatewayMissed(t *testing.T) {
	missed := func(x *script, ms int) {
		x.feed(ms, Checked{Nonce: find[Check](x).Nonce, Up: true})
	}
	x := newScript(t, Defaults)
	x.hold(4000)
	x.feed(4500, Tick{})
	first := find[Check](x).Nonce
	missed(x, 4900)
	assert.Equal(t, []Action{Note{Kind: NoGateway}, Check{Nonce: find[Check](x).Nonce}}, x.last)
	assert.NotEqual(t, first, find[Check](x).Nonce)
	again := x.last
	x.feed(4950, Checked{Nonce: first, Up: true, Gateway: true})
	assert.Empty(t, x.last, "the first question was answered")
	x.last = again
	missed(x, 5300)
	missed(x, 5700)
	assert.Equal(t, []Action{Note{Kind: NoGateway}, Check{Nonce: find[Check](x).Nonce}}, x.last, "the third in a row: the next attempt")
	missed(x, 5900)
	assert.Equal(t, []Action{Note{Kind: NoGateway}}, x.last, "which ends with one")
	x.feed(6000, Tick{})
	assert.Equal(t, []NoteKind{Fenced}, x.kinds())
	x.feed(6400, Tick{})
	x.feed(6500, Checked{Nonce: find[Check](x).Nonce, Up: true, Gateway: true})
	find[Prepare](x) // the Lease is our own yet

	x = newScript(t, Defaults)
	x.hold(4000)
	x.feed(4500, Tick{})
	missed(x, 4900)
	x.feed(5000, Checked{Nonce: find[Check](x).Nonce, Up: true, Gateway: true})
	find[Prepare](x)
	assert.Zero(t, x.s.misses)

	x = newScript(t, Defaults)
	x.hold(4000)
	x.feed(5400, Tick{})
	missed(x, 5800)
	find[Prepare](x)
}

func TestKeepNeedsTheGateway(t *testing.T) {
	set := Defaults
	set.Keep, set.Grace = true, time.Hour
	x := newScript(t, set)
	x.hold(4000)
	w := x.attempt(4500)
	x.feed(5000, Written{Nonce: w.Nonce})
	x.feed(5000, Committed{w.Nonce, true})
	x.feed(5500, Unread{find[ReadLease](x).Nonce})
	x.feed(5500, Checked{Nonce: find[Check](x).Nonce, Up: true})
	assert.Equal(t, []Action{Note{Kind: NoGateway}}, x.last)
}

func TestReasonsToLetGo(t *testing.T) {
	tests := []struct {
		name string
		does func(*script)
		note Note
	}{
		{"another MAC", func(x *script) { x.feed(4100, Heard{By: "02:00:00:00:00:01"}) }, Note{Foreign, "02:00:00:00:00:01"}},
		{"no reply", func(x *script) { x.feed(4100, Probed{Nonce: x.s.probe}) }, Note{Kind: NoReply}},
		{"no proxy for 5 s", func(x *script) {
			x.s.set.ProxyGone = time.Second
			x.feed(4100, Proxy{})
			x.feed(5099, Tick{})
			assert.NotContains(x.t, x.kinds(), NoProxy)
			x.feed(5100, Tick{})
		}, Note{Kind: NoProxy}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newScript(t, Defaults)
			x.hold(4000)
			tt.does(x)
			assert.Contains(t, x.last, tt.note)
			g := find[LetGo](x)
			assert.Equal(t, []Action{Publish{}, CutSockets{}, g, RemoveAddresses{}}, x.last[len(x.last)-4:])
			x.feed(5200, LetGone{Nonce: g.Nonce})
			assert.Empty(t, x.last, "nothing is given up while the address may be let out")
			x.feed(5700, Tick{})
			again := find[LetGo](x)
			x.feed(5710, LetGone{g.Nonce, true})
			assert.Empty(t, x.last, "the answer to another question")
			x.feed(5720, LetGone{again.Nonce, true})
			if len(x.last) > 0 && x.s.reading != (Nonce{}) { // a write was on its way
				l := x.s.lease
				x.feed(5730, Seen{x.s.reading, l})
			}
			w := find[WriteLease](x)
			assert.Equal(t, "", w.Lease.Holder)
			l := w.Lease
			assert.True(t, l.Released())
			x.feed(5740, Written{w.Nonce, Acknowledged, "u", "9"})
			assert.Equal(t, []NoteKind{Released}, x.kinds())
		})
	}
}

func TestDuplicateIsNotTaken(t *testing.T) {
	x := newScript(t, Defaults)
	x.feed(0, Seen{Lease: Lease{UID: "u", Version: "1", Holder: "x"}})
	x.feed(3250, Tick{})
	x.feed(3650, Checked{Nonce: find[Check](x).Nonce, Up: true, Gateway: true, By: "02:00:00:00:00:02"})
	assert.Equal(t, []Action{Note{Duplicate, "02:00:00:00:00:02"}}, x.last)
	x.feed(4649, Tick{})
	assert.Empty(t, x.last)
	x.feed(4650, Tick{})
	find[Check](x)
}

// A planned change, both sides of it: the standby's own words are what the holder waits for.
func TestHandOver(t *testing.T) {
	x := newScript(t, Defaults)
	x.hold(4000)
	x.feed(4100, Leave{})
	assert.Equal(t, Note{Kind: Leaving}, x.last[0])
	w := x.s
	x.feed(4100, Checked{Nonce: w.try.nonce, Up: true, Gateway: true})
	x.feed(4100, Prepared{w.try.nonce, true})
	renewal := find[WriteLease](x)
	assert.True(t, renewal.Lease.Leaving)
	x.feed(4110, Written{renewal.Nonce, Acknowledged, "u", "3"})
	x.feed(4120, Committed{renewal.Nonce, true})
	assert.Empty(t, x.last, "it serves on")

	s, actions := New(other, Defaults)
	y := &script{t: t, s: s, last: actions}
	y.begin()
	seen := renewal.Lease
	seen.Version = "3"
	y.feed(10, Seen{Lease: seen})
	c := find[Check](y)
	assert.False(t, c.Duplicate, "the holder still answers")
	y.feed(20, Checked{Nonce: c.Nonce, Up: true, Gateway: true})
	offer := find[WriteLease](y)
	assert.Equal(t, other.String(), offer.Lease.Successor)
	assert.Equal(t, renewal.Lease.Nonce, offer.Lease.Nonce, "all else stays the holder's")

	seen = offer.Lease
	seen.Version = "4"
	x.feed(4200, Seen{Lease: seen})
	assert.Equal(t, []Action{Note{Relieved, other.String()}, Publish{}, Drain{time.Second}}, x.last)
	x.feed(4300, Drained{})
	x.feed(4310, LetGone{find[LetGo](x).Nonce, true})
	release := find[WriteLease](x)
	assert.Equal(t, "4", release.Base.Version)
	x.feed(4320, Written{release.Nonce, Acknowledged, "u", "5"})
	assert.Equal(t, []Action{Note{Kind: Released}, Done{}}, x.last)

	y.feed(30, Written{offer.Nonce, Acknowledged, "u", "4"})
	y.feed(520, Tick{})
	assert.Empty(t, y.last)
	seen = release.Lease
	seen.Version = "5"
	y.feed(530, Seen{Lease: seen})
	assert.True(t, find[Check](y).Duplicate, "it takes at once")
}

func TestNobodyComes(t *testing.T) {
	x := newScript(t, Defaults)
	x.hold(4000)
	x.feed(4100, Leave{})
	x.s.heldTill = time.Hour // the renewals in between are not what this is about
	x.feed(19_099, Tick{})
	assert.Empty(t, x.last)
	x.feed(19_100, Tick{})
	assert.Equal(t, []Action{Note{Kind: Alone}, Publish{}, Drain{time.Second}}, x.last)
	x.feed(20_100, Tick{})
	find[LetGo](x)
}

// Less P + V, while the address is held under more: what is announced does not become less
// before it was let go.
func TestSettingsThatShrink(t *testing.T) {
	x := newScript(t, Defaults)
	x.hold(4000)
	less := Defaults
	less.Held = time.Second
	x.feed(4100, Set{less})
	w := x.attempt(4500)
	assert.Equal(t, 2750*time.Millisecond, w.Lease.Bound)
	x.feed(4500, Written{w.Nonce, Acknowledged, "u", "3"})
	assert.Equal(t, time.Second, find[Commit](x).For)
}
