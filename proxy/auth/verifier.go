package auth

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/proxy/contain"
)

const (
	keepGood    = time.Minute
	keepRefused = 5 * time.Second
)

// ErrRefused is what a [Reviewer] returns for a token that is not good, wrapped or as it is.
var ErrRefused = errors.New("the token was refused")

// A Reviewer judges tokens.
type Reviewer interface {
	// Review says whose token it is and until when that holds (zero: as long as verdicts are
	// kept). The error is ErrRefused when the token is not good, and any other when nobody
	// could be asked: that is no verdict, and not kept. It may be called concurrently, and
	// returns when ctx is done. It must not log the token.
	Review(ctx context.Context, token string) (id *Identity, expires time.Time, err error)
}

// Options of a [Verifier]. Zero numbers are defaults.
type Options struct {
	Reviewer Reviewer         // nil: every token is refused
	Now      func() time.Time // nil: time.Now
	Panics   contain.Reporter // is told of panics; nil: nobody

	Checks        int           // how many passwords are checked at a time; GOMAXPROCS-1, at least 1
	Rest          int           // a check is followed by as many times its length without one; 0: not, but 4 with one processor
	Queue         int           // passwords under way, those that wait for a check among them; 128
	Share         int           // of those, for one client address; 4
	Reviews       int           // tokens under way; 256. A client's share is the wrong ones it may still show, 10 at most; more wait
	Asked         int           // of those, how many the Reviewer is asked about at a time; 64
	ReviewTimeout time.Duration // for one token, and for a client's share; 5 s
	Remembered    int           // good verdicts, and as many refusals; 65,536
}

// A Claim is what a client says of itself with one request.
type Claim struct {
	Client     netip.Addr // to whom wrong ones are counted
	Users      *Users     // of the generation that the request is judged by; nil: nobody has a password
	Credential Credential
}

// A Verifier judges credentials and remembers verdicts. All methods may be called
// concurrently.
type Verifier struct {
	opt     Options
	digests *digests
	good    *memory
	refused *memory // apart: a flood of wrong ones must not drive out good ones
	clients clients
	checks  chan struct{}
	asks    chan struct{}
	ctx     context.Context
	close   context.CancelFunc

	mu        sync.Mutex
	closed    bool
	flights   map[digest]*flight
	passwords int
	tokens    int
	away      away
	done      sync.WaitGroup
}

// A flight is a question under way; who has the same one waits for its answer.
type flight struct {
	claim   Claim // with a Credential of its own
	digest  digest
	account *account
	one     bool // it is to find out whether the Reviewer is back
	failed  bool // the Reviewer could not be asked
	landed  chan struct{}
	verdict Verdict // to be read when landed is closed
}

// New makes a Verifier, to be closed by the caller.
func New(opt Options) *Verifier {
	def := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	if runtime.GOMAXPROCS(0) == 1 { // which serves everybody else, too
		def(&opt.Rest, 4)
	}
	def(&opt.Checks, max(1, runtime.GOMAXPROCS(0)-1))
	def(&opt.Queue, 128)
	def(&opt.Share, 4)
	def(&opt.Reviews, 256)
	def(&opt.Asked, 64)
	def(&opt.Remembered, 1<<16)
	if opt.ReviewTimeout <= 0 {
		opt.ReviewTimeout = 5 * time.Second
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Verifier{opt: opt, digests: newDigests(), good: newMemory(opt.Remembered), refused: newMemory(opt.Remembered),
		clients: clients{m: map[netip.Addr]*account{}}, checks: make(chan struct{}, opt.Checks), asks: make(chan struct{}, opt.Asked),
		ctx: ctx, close: cancel, flights: map[digest]*flight{}}
}

// Close ends reviews, and returns when nothing is under way any more: a check of a password
// that has begun takes its time. After it, Verify finds everything unverifiable.
func (v *Verifier) Close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.close()
	v.done.Wait()
}

// VerifyNow returns a verdict that is known without waiting, and whether there is one. It is for event
// loops: a keyed hash, and short locks; no allocation for a verdict that is remembered.
func (v *Verifier) VerifyNow(c Claim) (verdict Verdict, known bool) {
	verdict, known, _, _ = v.now(c)
	return verdict, known
}

func (v *Verifier) now(c Claim) (verdict Verdict, known bool, d digest, trusted bool) {
	switch kind := c.Credential.kind; {
	case kind == None:
		return Verdict{}, true, d, false
	case kind == Password && passwordLen(c.Credential) > MaxPassword:
		return Verdict{Outcome: TooLong}, true, d, false
	case kind == Password && c.Users.Len() == 0, kind != Password && v.opt.Reviewer == nil:
		return Verdict{Outcome: Wrong}, true, d, false
	}
	now := v.opt.Now()
	d = v.digests.of(c.Users, c.Credential)
	verdict, known, trusted = v.good.get(d, now)
	if known {
		return verdict, true, d, false
	}
	if verdict, known, _ = v.refused.get(d, now); known {
		return verdict, true, d, false
	}
	if !trusted && v.clients.flood(site(c.Client), now) {
		return Verdict{Outcome: Flood}, true, d, false
	}
	if c.Credential.kind != Password && v.leftAlone(d, now) {
		return Verdict{Outcome: Unverifiable}, true, d, false
	}
	return Verdict{}, false, d, trusted
}

// leftAlone reports whether the Reviewer is not to be asked now, and has not been asked the
// same already.
func (v *Verifier) leftAlone(d digest, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.flights[d] == nil && !v.away.admits(now)
}

func passwordLen(c Credential) int {
	text := c.text()
	n := len(text) / 4 * 3
	for i := len(text) - 1; i >= 0 && text[i] == '='; i-- {
		n--
	}
	return n - c.pass
}

// Verify judges c, and may wait: for a processor and bcrypt, or for the Reviewer. It returns
// Unverifiable when ctx is done before. It reads the Credential's bytes only until it
// returns. What it has begun goes on without the caller and is remembered.
func (v *Verifier) Verify(ctx context.Context, c Claim) Verdict {
	verdict, known, d, trusted := v.now(c)
	if known {
		return verdict
	}
	c.Client = site(c.Client)
	f, verdict, turn := v.board(c, d, trusted)
	if turn != nil {
		f, verdict = v.boardInTurn(ctx, c, d, trusted, turn)
	}
	if f == nil {
		return verdict
	}
	select {
	case <-f.landed:
		return f.verdict
	case <-ctx.Done():
		return Verdict{Outcome: Unverifiable}
	}
}

// boardInTurn is board, again and again until there is no turn to wait for, or for so long as
// one question may take.
func (v *Verifier) boardInTurn(ctx context.Context, c Claim, d digest, trusted bool, t *turn) (f *flight, verdict Verdict) {
	ctx, cancel := context.WithTimeout(ctx, v.opt.ReviewTimeout)
	defer cancel()
	for t != nil {
		select {
		case <-t.next:
			t.end()
		case <-ctx.Done():
			t.end()
			return nil, Verdict{Outcome: Busy}
		}
		f, verdict, t = v.board(c, d, trusted)
	}
	return f, verdict
}

// board returns the flight that answers c: one under way, or a new one. Without one, the
// verdict is why; with a turn, it is to be tried again when that comes.
func (v *Verifier) board(c Claim, d digest, trusted bool) (*flight, Verdict, *turn) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.flights[d]; f != nil {
		return f, Verdict{}, nil
	}
	now := v.opt.Now()
	for _, m := range []*memory{v.good, v.refused} { // one may have landed meanwhile
		if verdict, fresh, _ := m.get(d, now); fresh {
			return nil, verdict, nil
		}
	}
	if v.closed {
		return nil, Verdict{Outcome: Unverifiable}, nil
	}
	count, limit, share := &v.tokens, v.opt.Reviews, refusedBurst
	token := c.Credential.kind != Password
	if !token {
		count, limit, share = &v.passwords, v.opt.Queue, v.opt.Share
	}
	if token && !v.away.admits(now) {
		return nil, Verdict{Outcome: Unverifiable}, nil
	}
	if *count >= limit {
		return nil, Verdict{Outcome: Busy}, nil
	}
	account, outcome, turn := v.clients.enter(c.Client, now, share, trusted, token)
	if outcome != Good {
		return nil, Verdict{Outcome: outcome}, turn
	}
	*count++
	c.Credential = c.Credential.Clone()
	f := &flight{claim: c, digest: d, account: account, landed: make(chan struct{})}
	if token {
		f.one = v.away.board()
	}
	v.flights[d] = f
	v.done.Go(func() { v.fly(f, count) })
	return f, Verdict{}, nil
}

func (v *Verifier) fly(f *flight, count *int) {
	f.verdict = Verdict{Outcome: Unverifiable}
	defer v.land(f, count)
	defer v.opt.Panics.Recover(func() { f.verdict = Verdict{Outcome: Unverifiable} })
	var expires time.Time
	if f.claim.Credential.kind == Password {
		f.verdict = v.check(f.claim)
	} else {
		f.verdict, expires = v.review(f)
	}
	now := v.opt.Now()
	switch f.verdict.Outcome {
	case Good:
		until := now.Add(keepGood)
		if !expires.IsZero() && expires.Before(until) {
			until = expires
		}
		v.good.put(f.digest, f.verdict, until)
	case Wrong:
		v.good.drop(f.digest)
		v.refused.put(f.digest, f.verdict, now.Add(keepRefused))
	}
}

func (v *Verifier) land(f *flight, count *int) {
	now := v.opt.Now()
	v.clients.leave(f.account, now, f.verdict.Outcome == Wrong)
	v.mu.Lock()
	defer v.mu.Unlock()
	if f.claim.Credential.kind != Password {
		v.away.land(now, f.one, f.verdict.Outcome != Unverifiable, f.failed)
	}
	delete(v.flights, f.digest)
	*count--
	close(f.landed)
}

// check waits for its turn, and runs bcrypt.
func (v *Verifier) check(c Claim) Verdict {
	select {
	case v.checks <- struct{}{}:
	case <-v.ctx.Done():
		return Verdict{Outcome: Unverifiable}
	}
	began := time.Now()
	defer func() { v.rest(time.Since(began)) }()
	if v.ctx.Err() != nil {
		return Verdict{Outcome: Unverifiable}
	}
	name, password := c.Credential.userPassword()
	defer clear(password)
	return c.Users.check(name, password, v.digests.name(name))
}

// rest gives back the place of a check that has taken so long.
func (v *Verifier) rest(took time.Duration) {
	if v.opt.Rest == 0 {
		<-v.checks
		return
	}
	time.AfterFunc(time.Duration(v.opt.Rest)*took, func() { <-v.checks })
}

// review waits for its turn, and asks the Reviewer.
func (v *Verifier) review(f *flight) (Verdict, time.Time) {
	ctx, cancel := context.WithTimeout(v.ctx, v.opt.ReviewTimeout)
	defer cancel()
	select {
	case v.asks <- struct{}{}:
	case <-ctx.Done():
		return Verdict{Outcome: Unverifiable}, time.Time{}
	}
	defer func() { <-v.asks }()
	id, expires, err := v.opt.Reviewer.Review(ctx, f.claim.Credential.token())
	switch {
	case errors.Is(err, ErrRefused), err == nil && id == nil, err == nil && !expires.IsZero() && !v.opt.Now().Before(expires):
		return Verdict{Outcome: Wrong}, time.Time{}
	case err != nil:
		f.failed = true
		return Verdict{Outcome: Unverifiable}, time.Time{}
	}
	return Verdict{Outcome: Good, Identity: id, Until: expires}, expires
}
