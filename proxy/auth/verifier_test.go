package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	alice = netip.MustParseAddr("192.0.2.1")
	bob   = netip.MustParseAddr("192.0.2.2")
)

// A reviewer answers what its function says, and counts.
type reviewer struct {
	asked atomic.Int64
	f     func(ctx context.Context, token string) (*Identity, time.Time, error)
}

func (r *reviewer) Review(ctx context.Context, token string) (*Identity, time.Time, error) {
	r.asked.Add(1)
	return r.f(ctx, token)
}

// byName lets tokens in that begin with "good".
func byName(_ context.Context, token string) (*Identity, time.Time, error) {
	if strings.HasPrefix(token, "good") || token == jwt {
		return NewServiceAccount("ci", "builder", ""), time.Time{}, nil
	}
	return nil, time.Time{}, fmt.Errorf("not so: %w", ErrRefused)
}

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newVerifier(t testing.TB, opt Options) (*Verifier, *clock) {
	c := &clock{time.Unix(1e9, 0)}
	if opt.Now == nil {
		opt.Now = c.Now
	}
	v := New(opt)
	t.Cleanup(v.Close)
	return v, c
}

func claim(t testing.TB, u *Users, client netip.Addr, field string) Claim {
	t.Helper()
	c, outcome := Parse([]byte(field))
	require.Equal(t, Good, outcome)
	return Claim{client, u, c}
}

func basic(t testing.TB, u *Users, client netip.Addr, text string) Claim {
	return claim(t, u, client, "Basic "+b64(text))
}

func bearer(t testing.TB, client netip.Addr, token string) Claim {
	return claim(t, nil, client, "Bearer "+token)
}

func TestVerdicts(t *testing.T) {
	long := strings.Repeat("x", MaxPassword)
	u := users(t, "deploy:"+hashOf(t, "secret", 4), "long:"+hashOf(t, long, 4))
	tests := []struct {
		want  Outcome
		who   string
		now   bool // known without waiting
		claim Claim
	}{
		{Missing, "", true, Claim{}},
		{Good, "deploy", false, basic(t, u, alice, "deploy:secret")},
		{Wrong, "", false, basic(t, u, alice, "deploy:Secret")},
		{Wrong, "", false, basic(t, u, alice, "nobody:secret")},
		{Wrong, "", true, basic(t, nil, alice, "deploy:secret")},
		{Good, "long", false, basic(t, u, alice, "long:"+long)},
		{TooLong, "", true, basic(t, u, alice, "long:"+long+"x")}, // bcrypt would take it
		{TooLong, "", true, basic(t, u, alice, "nobody:"+long+"x")},
		{Good, "ci/builder", false, bearer(t, alice, "good")},
		{Wrong, "", false, bearer(t, alice, "bad")},
		{Good, "ci/builder", false, basic(t, u, alice, "any:"+jwt)},
		{Good, "ci/builder", true, basic(t, u, alice, "deploy:"+jwt)}, // the same token; whether there is such a user is not told
		{Good, "ci/builder", true, bearer(t, bob, jwt)},
	}
	v, _ := newVerifier(t, Options{Reviewer: &reviewer{f: byName}})
	for _, tt := range tests {
		got, known := v.VerifyNow(tt.claim)
		require.Equal(t, tt.now, known, tt)
		if !known {
			require.Zero(t, got)
		}
		got = v.Verify(t.Context(), tt.claim)
		require.Equal(t, tt.want, got.Outcome, tt)
		require.Equal(t, tt.who, got.Identity.String())
		again, known := v.VerifyNow(tt.claim)
		require.True(t, known)
		require.Equal(t, got, again)
	}
	alone, _ := newVerifier(t, Options{})
	require.Equal(t, Wrong, alone.Verify(t.Context(), bearer(t, alice, "good")).Outcome)
}

func TestHowLongVerdictsAreKept(t *testing.T) {
	r := &reviewer{f: byName}
	v, c := newVerifier(t, Options{Reviewer: r})
	u := users(t, "deploy:"+hashOf(t, "secret", 4))
	kept := func(claim Claim, until time.Duration) {
		t.Helper()
		start := c.now
		v.Verify(t.Context(), claim)
		for d, want := range map[time.Duration]bool{0: true, until - 1: true, until: false} {
			c.now = start.Add(d)
			_, known := v.VerifyNow(claim)
			require.Equal(t, want, known, d)
		}
	}
	kept(basic(t, u, alice, "deploy:secret"), time.Minute)
	kept(basic(t, u, alice, "deploy:wrong"), 5*time.Second)
	kept(bearer(t, alice, "good"), time.Minute)
	kept(bearer(t, alice, "bad"), 5*time.Second)
	for ends, until := range map[time.Duration]time.Duration{time.Hour: time.Minute, 20 * time.Second: 20 * time.Second} {
		r.f = func(context.Context, string) (*Identity, time.Time, error) {
			return NewServiceAccount("ci", "builder", ""), c.now.Add(ends), nil
		}
		kept(bearer(t, alice, "token"+ends.String()), until)
	}
	r.f = func(context.Context, string) (*Identity, time.Time, error) {
		return NewServiceAccount("ci", "builder", ""), c.now, nil
	}
	require.Equal(t, Wrong, v.Verify(t.Context(), bearer(t, alice, "expired")).Outcome)
	r.f = func(context.Context, string) (*Identity, time.Time, error) { return nil, time.Time{}, nil }
	require.Equal(t, Wrong, v.Verify(t.Context(), bearer(t, alice, "nobodys")).Outcome)
}

func TestChangedUsersAreAskedAnew(t *testing.T) {
	r := &reviewer{f: byName}
	v, _ := newVerifier(t, Options{Reviewer: r})
	line := "deploy:" + hashOf(t, "secret", 4)
	before, same, changed := users(t, line), users(t, line), users(t, "deploy:"+hashOf(t, "other", 4))
	require.Equal(t, Good, v.Verify(t.Context(), basic(t, before, alice, "deploy:secret")).Outcome)
	_, known := v.VerifyNow(basic(t, same, alice, "deploy:secret"))
	require.True(t, known)
	_, known = v.VerifyNow(basic(t, changed, alice, "deploy:secret"))
	require.False(t, known)
	require.Equal(t, Wrong, v.Verify(t.Context(), basic(t, changed, alice, "deploy:secret")).Outcome)
	// A request of the generation before is judged by that.
	require.Equal(t, Good, v.Verify(t.Context(), basic(t, before, alice, "deploy:secret")).Outcome)
	// Tokens have nothing to do with users.
	require.Equal(t, Good, v.Verify(t.Context(), basic(t, before, alice, "x:"+jwt)).Outcome)
	_, known = v.VerifyNow(basic(t, changed, alice, "y:"+jwt))
	require.True(t, known)
}

func TestApiAway(t *testing.T) {
	r := &reviewer{f: func(context.Context, string) (*Identity, time.Time, error) {
		return NewUser("x"), time.Time{}, errors.New("connection refused")
	}}
	v, c := newVerifier(t, Options{Reviewer: r})
	for i := range 3 * refusedBurst { // nobody is blamed, and nothing is kept
		c.now = c.now.Add(awayMost)
		require.Equal(t, Verdict{Outcome: Unverifiable}, v.Verify(t.Context(), bearer(t, alice, "good")))
		require.EqualValues(t, i+1, r.asked.Load())
	}
	r.f = byName
	c.now = c.now.Add(awayMost)
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good")).Outcome)
	r.f = func(context.Context, string) (*Identity, time.Time, error) { panic("a fault") }
	require.Equal(t, Unverifiable, v.Verify(t.Context(), bearer(t, alice, "good2")).Outcome)
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good")).Outcome)
	r.f = byName
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good2")).Outcome)
}

// A Reviewer that cannot be asked is left alone, for longer each time, and what it is not
// asked is answered at once. Then one question finds out whether it is back.
func TestApiAwayIsLeftAlone(t *testing.T) {
	r := &reviewer{f: byName}
	v, c := newVerifier(t, Options{Reviewer: r})
	u := users(t, "deploy:"+hashOf(t, "secret", 4))
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good")).Outcome)
	r.f = func(context.Context, string) (*Identity, time.Time, error) {
		return nil, time.Time{}, errors.New("away")
	}
	for i, pause := range []time.Duration{100, 200, 400, 800, 1600, 3000, 3000} {
		pause *= time.Millisecond
		asked := r.asked.Load()
		require.Equal(t, Unverifiable, v.Verify(t.Context(), bearer(t, alice, fmt.Sprint("good", i))).Outcome)
		require.Equal(t, asked+1, r.asked.Load())
		for _, d := range []time.Duration{0, pause - 1} {
			c.now = c.now.Add(d)
			verdict, known := v.VerifyNow(bearer(t, bob, "good-too"))
			require.True(t, known, "on the loop")
			require.Equal(t, Unverifiable, verdict.Outcome)
			require.Equal(t, 503, v.Verify(t.Context(), bearer(t, bob, "good-too")).Outcome.Status())
		}
		require.Equal(t, asked+1, r.asked.Load(), pause)
		c.now = c.now.Add(1)
		_, known := v.VerifyNow(bearer(t, bob, "good-too"))
		require.False(t, known)
	}
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good")).Outcome, "what is remembered")
	require.Equal(t, Good, v.Verify(t.Context(), basic(t, u, alice, "deploy:secret")).Outcome, "passwords are judged here")
	r.f = byName // a refusal is an answer, too
	require.Equal(t, Wrong, v.Verify(t.Context(), bearer(t, alice, "bad")).Outcome)
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, bob, "good-too")).Outcome)
	r.f = func(context.Context, string) (*Identity, time.Time, error) {
		return nil, time.Time{}, errors.New("away")
	}
	require.Equal(t, Unverifiable, v.Verify(t.Context(), bearer(t, alice, "good9")).Outcome)
	c.now = c.now.Add(100 * time.Millisecond)
	_, known := v.VerifyNow(bearer(t, bob, "good9"))
	require.False(t, known, "it begins anew")
}

// Many that fail together are one failure; and one alone finds out whether it is over.
func TestApiAwayManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan error)
		r := &reviewer{f: func(ctx context.Context, token string) (*Identity, time.Time, error) {
			if err := <-answer; err != nil {
				return nil, time.Time{}, err
			}
			return byName(ctx, token)
		}}
		v, _ := newVerifier(t, Options{Reviewer: r, Now: time.Now})
		got := make(chan Outcome, 20)
		ask := func(n int) {
			for i := range n {
				go func() { got <- v.Verify(t.Context(), bearer(t, alice, fmt.Sprint("good", i))).Outcome }()
			}
			synctest.Wait()
		}
		ask(8)
		for range 8 {
			answer <- errors.New("away")
			require.Equal(t, Unverifiable, <-got)
		}
		time.Sleep(awayFirst)
		ask(5)
		for range 4 {
			require.Equal(t, Unverifiable, <-got)
		}
		require.EqualValues(t, 8+1, r.asked.Load())
		answer <- nil
		require.Equal(t, Good, <-got)
		synctest.Wait()
		ask(8)
		for range 7 { // one is remembered
			answer <- nil
		}
		for range 8 {
			require.Equal(t, Good, <-got)
		}
	})
}

// All pods behind one address come at once, each with a token of its own: they take turns.
func TestManyBehindOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under, most := atomic.Int64{}, atomic.Int64{}
		r := &reviewer{f: func(ctx context.Context, token string) (*Identity, time.Time, error) {
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			time.Sleep(10 * time.Millisecond)
			return byName(ctx, token)
		}}
		v, _ := newVerifier(t, Options{Reviewer: r, Now: time.Now})
		ask := func(n int) map[Outcome]int {
			got := make(chan Outcome, n)
			for i := range n {
				go func() { got <- v.Verify(t.Context(), bearer(t, alice, fmt.Sprint("good", n, "-", i))).Outcome }()
			}
			count := map[Outcome]int{}
			for range n {
				count[<-got]++
			}
			return count
		}
		require.Equal(t, map[Outcome]int{Good: 100}, ask(100))
		require.EqualValues(t, refusedBurst, most.Load())
		synctest.Wait()
		require.Equal(t, map[Outcome]int{Good: refusedBurst + maxTurnsEach, Busy: 1000 - refusedBurst - maxTurnsEach}, ask(1000))
		synctest.Wait()
		require.Zero(t, v.clients.turns)
		require.Zero(t, v.clients.m[alice].turns)

		// Who waits leaves when its caller does, and when it took too long.
		hang := make(chan struct{})
		r.f = func(context.Context, string) (*Identity, time.Time, error) {
			<-hang
			return nil, time.Time{}, ErrRefused
		}
		got := make(chan Outcome, 20)
		for i := range refusedBurst {
			go func() { v.Verify(t.Context(), bearer(t, alice, fmt.Sprint("hang", i))) }()
		}
		synctest.Wait()
		ctx, leave := context.WithCancel(t.Context())
		go func() { got <- v.Verify(ctx, bearer(t, alice, "left")).Outcome }()
		synctest.Wait()
		leave()
		require.Equal(t, Busy, <-got)
		start := time.Now()
		require.Equal(t, Busy, v.Verify(t.Context(), bearer(t, alice, "late")).Outcome)
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Zero(t, v.clients.turns)
		close(hang)
	})
}

// A thousand who ask the same are one question; who leaves does not end it.
func TestEqualQuestionsAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		r := &reviewer{f: func(ctx context.Context, token string) (*Identity, time.Time, error) {
			<-answer
			return byName(ctx, token)
		}}
		v, _ := newVerifier(t, Options{Reviewer: r, Now: time.Now})
		ctx, leave := context.WithCancel(t.Context())
		first := make(chan Verdict, 1)
		field := []byte("Bearer good")
		go func() {
			c, _ := Parse(field)
			first <- v.Verify(ctx, Claim{Client: alice, Credential: c})
			copy(field, "XXXXXXXXXXX") // the buffer serves the next head
		}()
		synctest.Wait()
		leave()
		require.Equal(t, Unverifiable, (<-first).Outcome)
		got := make(chan Outcome, 1000)
		for range 1000 {
			go func() { got <- v.Verify(t.Context(), bearer(t, bob, "good")).Outcome }()
		}
		synctest.Wait()
		close(answer)
		for range 1000 {
			require.Equal(t, Good, <-got)
		}
		require.EqualValues(t, 1, r.asked.Load())
	})
}

func TestReviewsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reviewer{f: func(ctx context.Context, _ string) (*Identity, time.Time, error) {
			<-ctx.Done()
			return nil, time.Time{}, ctx.Err()
		}}
		v, _ := newVerifier(t, Options{Reviewer: r, Now: time.Now, ReviewTimeout: 3 * time.Second})
		start := time.Now()
		require.Equal(t, Unverifiable, v.Verify(t.Context(), bearer(t, alice, "a")).Outcome)
		require.Equal(t, 3*time.Second, time.Since(start))
		got := make(chan Verdict, 1)
		go func() { got <- v.Verify(t.Context(), bearer(t, alice, "b")) }()
		synctest.Wait()
		v.Close()
		require.Equal(t, Unverifiable, (<-got).Outcome)
		require.Equal(t, Unverifiable, v.Verify(t.Context(), bearer(t, alice, "c")).Outcome)
	})
}

// Passwords wait for a turn, a bounded number of them, and a share of that for one client.
func TestPasswordsWaitInABoundedQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := users(t, "deploy:"+hashOf(t, "secret", 4))
		v, _ := newVerifier(t, Options{Now: time.Now, Checks: 1, Queue: 5, Share: 2})
		v.checks <- struct{}{} // a check that takes long
		got := make(chan Outcome, 9)
		ask := func(client netip.Addr, text string) {
			go func() { got <- v.Verify(t.Context(), basic(t, u, client, text)).Outcome }()
			synctest.Wait()
		}
		ask(alice, "deploy:1")
		ask(alice, "deploy:2")
		require.Empty(t, got)
		ask(alice, "deploy:3") // beyond its share
		require.Equal(t, Busy, <-got)
		ask(netip.AddrFrom16(alice.As16()), "deploy:3") // the same client, as IPv6 spells it
		require.Equal(t, Busy, <-got)
		ask(alice, "deploy:2") // as asked already
		ask(bob, "deploy:secret")
		ask(bob, "deploy:4")
		ask(netip.MustParseAddr("192.0.2.3"), "deploy:5")
		require.Empty(t, got)
		ask(netip.MustParseAddr("192.0.2.4"), "deploy:6") // beyond all
		require.Equal(t, Busy, <-got)
		<-v.checks
		count := map[Outcome]int{}
		for range 6 {
			count[<-got]++
		}
		require.Equal(t, map[Outcome]int{Wrong: 5, Good: 1}, count)
		synctest.Wait()
		require.Zero(t, v.passwords)
	})
}

// 10,000 wrong tokens a second by one client, for a minute: it is asked for ten, and then for
// one a second; others have what they had.
func TestFlood(t *testing.T) {
	r := &reviewer{f: byName}
	v, c := newVerifier(t, Options{Reviewer: r})
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good")).Outcome)
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good2")).Outcome)
	const seconds, each = 60, 10_000
	every := 1
	if raceEnabled {
		every = 10
	}
	for i := 0; i < seconds*each; i += every {
		c.now = c.now.Add(time.Duration(every) * time.Second / each)
		verdict, known := v.VerifyNow(bearer(t, alice, fmt.Sprint("bad", i)))
		if !known {
			verdict = v.Verify(t.Context(), bearer(t, alice, fmt.Sprint("bad", i)))
		}
		require.Equal(t, 407, verdict.Outcome.Status())
	}
	asked := r.asked.Load() - 2
	require.GreaterOrEqual(t, asked, int64(refusedBurst))
	require.LessOrEqual(t, asked, int64(refusedBurst+seconds+1))

	verdict, known := v.VerifyNow(bearer(t, alice, "good3"))
	require.True(t, known)
	require.Equal(t, Flood, verdict.Outcome)
	// A token that was good before is asked about again all the same; once refused, no longer.
	_, known = v.VerifyNow(bearer(t, alice, "good"))
	require.False(t, known)
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good")).Outcome)
	r.f = func(context.Context, string) (*Identity, time.Time, error) { return nil, time.Time{}, ErrRefused }
	require.Equal(t, Wrong, v.Verify(t.Context(), bearer(t, alice, "good2")).Outcome)
	c.now = c.now.Add(keepRefused)
	r.f = byName
	for i := range 20 { // use up what has come back
		v.Verify(t.Context(), bearer(t, alice, fmt.Sprint("more", i)))
	}
	require.Equal(t, Flood, v.Verify(t.Context(), bearer(t, alice, "good2")).Outcome)
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, bob, "good4")).Outcome)
	c.now = c.now.Add(time.Minute)
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, alice, "good3")).Outcome)
}

// In all haste a client is refused no more than its due.
func TestHasteIsNoWayRoundTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		r := &reviewer{f: func(ctx context.Context, token string) (*Identity, time.Time, error) {
			<-answer
			return byName(ctx, token)
		}}
		v, _ := newVerifier(t, Options{Reviewer: r, Now: time.Now})
		got := make(chan Outcome, 100)
		for i := range 100 {
			go func() { got <- v.Verify(t.Context(), bearer(t, alice, fmt.Sprint("bad", i))).Outcome }()
		}
		synctest.Wait()
		close(answer)
		count := map[Outcome]int{}
		for range 100 {
			count[<-got]++
		}
		require.Equal(t, map[Outcome]int{Wrong: refusedBurst, Flood: 100 - refusedBurst}, count)
		require.EqualValues(t, refusedBurst, r.asked.Load())
	})
}

// Memory is bounded, whoever comes.
func TestMemoryIsBounded(t *testing.T) {
	r := &reviewer{f: byName}
	v, c := newVerifier(t, Options{Reviewer: r, Remembered: 256})
	good := bearer(t, alice, "good")
	require.Equal(t, Good, v.Verify(t.Context(), good).Outcome)
	from := netip.MustParseAddr("2001:db8::")
	for i := range 3 * maxClients {
		from = from.Next()
		v.Verify(t.Context(), bearer(t, from, fmt.Sprint("bad", i)))
	}
	require.LessOrEqual(t, len(v.clients.m), maxClients)
	require.LessOrEqual(t, v.refused.len(), 256)
	require.LessOrEqual(t, r.asked.Load(), int64(1+maxClients+refusedBurst))
	verdict, known := v.VerifyNow(good) // refusals drive out no good ones
	require.True(t, known)
	require.Equal(t, Good, verdict.Outcome)
	require.Equal(t, Flood, v.Verify(t.Context(), bearer(t, from, "good9")).Outcome) // behind the last account
	c.now = c.now.Add(time.Minute)
	require.Equal(t, Good, v.Verify(t.Context(), bearer(t, from, "good9")).Outcome)
	for i := range 2000 {
		v.Verify(t.Context(), bearer(t, bob, fmt.Sprint("good", i)))
	}
	require.LessOrEqual(t, v.good.len(), 256)
}

// With one processor a check is followed by a rest, in which others are served.
func TestChecksRest(t *testing.T) {
	u := users(t, "deploy:"+hashOf(t, "secret", 4))
	v, _ := newVerifier(t, Options{Checks: 1, Rest: 30})
	first := time.Now()
	require.Equal(t, Wrong, v.Verify(t.Context(), claim(t, u, alice, "Basic "+b64("deploy:one"))).Outcome)
	took := time.Since(first)
	begun := time.Now()
	require.Equal(t, Wrong, v.Verify(t.Context(), claim(t, u, bob, "Basic "+b64("deploy:two"))).Outcome)
	require.Greater(t, time.Since(begun), 5*took, "less than the rest, and much more than a check")
}
