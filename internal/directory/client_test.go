package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/internal/peer"
)

// log is a logger's text.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// serve serves s at path until stop, or the end of the test.
func serve(t *testing.T, path string, s *Server) (stop func()) {
	t.Helper()
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

func run(t *testing.T, o Options) *Client {
	t.Helper()
	c := NewClient(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func socket(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }

func TestSnapshotAndChanges(t *testing.T) {
	x, path := NewIndex(), socket(t)
	p := pod("shop", "a", "1")
	p.Labels = LabelsOf(map[string]string{"app": "a<b"})
	x.Put(p, addrs("10.0.0.1", "fd00::1"))
	serve(t, path, &Server{Index: x})
	c := run(t, Options{Socket: path})
	nettest.Eventually(t, "the snapshot", func() bool { return at(c.Lookup, "10.0.0.1") != "" })
	got, _ := c.Lookup(ip("fd00::1"))
	assert.Equal(t, p, got)
	assert.Equal(t, 2, c.Table().Len())
	x.Put(pod("ci", "b", "2"), addrs("10.0.0.2", "10.0.0.1"))
	nettest.Eventually(t, "the changes", func() bool {
		return at(c.Lookup, "10.0.0.2") == "ci/b" && at(c.Lookup, "10.0.0.1") == ""
	})
	x.Remove("1")
	nettest.Eventually(t, "the other has it alone", func() bool {
		return at(c.Lookup, "10.0.0.1") == "ci/b" && at(c.Lookup, "fd00::1") == ""
	})
	age, ok := c.Age()
	assert.True(t, ok)
	assert.Less(t, age, time.Minute)
}

func TestServerRestarts(t *testing.T) {
	path := socket(t)
	before := NewIndex()
	before.Put(pod("shop", "a", "1"), addrs("10.0.0.1"))
	before.Put(pod("shop", "b", "2"), addrs("10.0.0.2"))
	stop := serve(t, path, &Server{Index: before})
	c := run(t, Options{Socket: path})
	nettest.Eventually(t, "the snapshot", func() bool { return at(c.Lookup, "10.0.0.2") != "" })
	stop()
	nettest.Eventually(t, "the client sees it", func() bool { return !c.Status().Connected })
	assert.Equal(t, "shop/a", at(c.Lookup, "10.0.0.1"), "the last known state stays")
	first, _ := c.Age()
	nettest.Eventually(t, "the age grows", func() bool { age, _ := c.Age(); return age > first })

	// The new one knows nothing at first.
	after := NewIndex()
	after.Put(pod("ci", "c", "3"), addrs("10.0.0.1"))
	var synced atomic.Bool
	serve(t, path, &Server{Index: after, Age: func() (time.Duration, bool) { return 0, synced.Load() }})
	nettest.Eventually(t, "connected again", func() bool { return c.Status().Connected })
	assert.Equal(t, "shop/a", at(c.Lookup, "10.0.0.1"), "until the new one knows all")
	synced.Store(true)
	nettest.Eventually(t, "the new snapshot", func() bool { return at(c.Lookup, "10.0.0.1") == "ci/c" })
	assert.Empty(t, at(c.Lookup, "10.0.0.2"), "what was missed is gone")
}

// Everybody is unknown once nothing was heard for too long, which is said once; and known
// again with the first news.
func TestMaxAge(t *testing.T) {
	x, path, said := NewIndex(), socket(t), &log{}
	x.Put(pod("shop", "a", "1"), addrs("10.0.0.1"))
	var age atomic.Int64
	stop := serve(t, path, &Server{Index: x, Age: func() (time.Duration, bool) { return time.Duration(age.Load()), true }})
	c := run(t, Options{Socket: path, MaxAge: 300 * time.Millisecond, Log: said.logger()})
	nettest.Eventually(t, "the snapshot", func() bool { return at(c.Lookup, "10.0.0.1") != "" })
	stop()
	nettest.Eventually(t, "unknown", func() bool { return at(c.Lookup, "10.0.0.1") == "" })
	s := c.Status()
	assert.True(t, s.Stale)
	assert.Equal(t, 1, s.Addresses)
	assert.Nil(t, c.Table())

	age.Store(int64(time.Hour)) // the server is there, and knows nothing new
	stop = serve(t, path, &Server{Index: x, Age: func() (time.Duration, bool) { return time.Duration(age.Load()), true }})
	nettest.Eventually(t, "connected", func() bool { a, _ := c.Age(); return a > time.Minute })
	assert.Empty(t, at(c.Lookup, "10.0.0.1"), "what is an hour old")
	stop()
	age.Store(0)
	serve(t, path, &Server{Index: x, Age: func() (time.Duration, bool) { return time.Duration(age.Load()), true }})
	nettest.Eventually(t, "known again", func() bool { return at(c.Lookup, "10.0.0.1") == "shop/a" })
	assert.Equal(t, 1, strings.Count(said.String()[:strings.Index(said.String(), "is back: pods")], "all are unknown"), said.String())
}

// waiting is the number of addresses that are waited for.
func waiting(c *Client) int {
	c.waits.mu.Lock()
	defer c.waits.mu.Unlock()
	return len(c.waits.all)
}

func TestWait(t *testing.T) {
	x, path := NewIndex(), socket(t)
	serve(t, path, &Server{Index: x})
	c := run(t, Options{Socket: path, Wait: 20 * time.Second})
	got := make(chan Pod)
	for range 3 {
		go func() { p, _ := c.Wait(context.Background(), ip("10.0.0.1")); got <- p }()
	}
	nettest.Eventually(t, "they wait", func() bool {
		c.waits.mu.Lock()
		defer c.waits.mu.Unlock()
		w := c.waits.all[ip("10.0.0.1")]
		return w != nil && w.count == 3 && c.Status().Connected
	})
	x.Put(pod("shop", "a", "1"), addrs("10.0.0.1"))
	for range 3 {
		assert.Equal(t, "a", (<-got).Name)
	}
	assert.Zero(t, waiting(c))

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, ok := c.Wait(ctx, ip("10.0.0.2"))
	assert.False(t, ok)
	assert.Zero(t, waiting(c))
}

func TestWaitInVain(t *testing.T) {
	c := NewClient(Options{Socket: socket(t), Wait: 50 * time.Millisecond})
	begun := time.Now()
	_, ok := c.Wait(context.Background(), ip("192.0.2.1"))
	assert.False(t, ok)
	assert.GreaterOrEqual(t, time.Since(begun), 50*time.Millisecond)
	c.o.Wait = time.Hour
	_, ok = c.Wait(context.Background(), ip("192.0.2.1"))
	assert.False(t, ok, "it is not waited for again")
	for i := range maxWaits - 1 {
		c.waits.begin(nth(i))
	}
	_, ok = c.Wait(context.Background(), ip("192.0.2.2"))
	assert.False(t, ok, "there are places for so many")
}

func TestVersions(t *testing.T) {
	path, said := socket(t), &log{}
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, `{"hello":{"protocol":9,"version":"v9.9"}}`)
			json.NewDecoder(c).Decode(&message{})
			c.Close()
		}
	}()
	c := run(t, Options{Socket: path, Log: said.logger()})
	const want = "sluice-kube v9.9 speaks version 9 of the directory's protocol, and this program version 1: run both from one image"
	nettest.Eventually(t, "the mismatch is told", func() bool { return strings.Contains(said.String(), want) })
	assert.Equal(t, want, c.Status().Problem)

	// And the other way round.
	path, said = socket(t), &log{}
	serve(t, path, &Server{Index: NewIndex(), Log: said.logger()})
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintln(conn, `{"hello":{"protocol":0}}`)
	nettest.Eventually(t, "the mismatch is told", func() bool { return strings.Contains(said.String(), "speaks version 0") })
}

// A connection on which nonsense comes is given up, and what was known stays.
func TestNonsense(t *testing.T) {
	for name, line := range map[string]string{
		"no JSON":    "token-abc\n",
		"wrong type": `{"set":{"addr":7}}` + "\n",
		"no address": `{"set":{"addr":""}}` + "\n",
		"too long":   strings.Repeat("x", maxAnswer+1) + "\n",
		"an end":     `{"end":{}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			go func() { far.Write([]byte(line)); far.Close() }()
			w, s := peer.New(near, maxAnswer), state{c: NewClient(Options{})}
			var m message
			err := w.Receive(&m)
			if err == nil {
				err = s.take(m)
			}
			require.Error(t, err)
			assert.NotContains(t, err.Error(), "abc", "a line may have a token in it")
			assert.Nil(t, s.c.Table())
		})
	}
}

func TestReview(t *testing.T) {
	path := socket(t)
	want := Identity{Namespace: "shop", ServiceAccount: "builder", Pod: "b-1", PodUID: "7", Expires: time.Unix(2_000_000_000, 0)}
	stuck := make(chan struct{})
	stop := serve(t, path, &Server{Index: NewIndex(), Review: func(ctx context.Context, token string) (Identity, error) {
		switch {
		case token == "stuck":
			close(stuck)
			<-ctx.Done()
			return Identity{}, ctx.Err()
		case token == "broken":
			return Identity{}, errors.New("connection refused")
		case strings.HasPrefix(token, "good"):
			id := want
			id.Pod = token
			return id, nil
		}
		return Identity{}, ErrRefused
	}})
	c := run(t, Options{Socket: path})
	nettest.Eventually(t, "connected", func() bool { return c.Status().Connected })
	ctx := context.Background()
	var all sync.WaitGroup
	for i := range maxAsked / 2 {
		all.Go(func() {
			token := fmt.Sprintf("good%d", i)
			id, err := c.Review(ctx, token)
			want := want
			want.Pod = token
			assert.NoError(t, err)
			assert.Equal(t, want, id)
		})
	}
	all.Wait()
	long := "good" + strings.Repeat("x", MaxToken-4)
	id, err := c.Review(ctx, long)
	assert.NoError(t, err)
	assert.Equal(t, long, id.Pod)
	for token, want := range map[string]error{"bad": ErrRefused, "broken": ErrUnavailable, "": ErrRefused, "\x01": ErrRefused, `"`: ErrRefused, long + "x": ErrRefused} {
		_, err := c.Review(ctx, token)
		assert.ErrorIs(t, err, want, "%.10q", token)
	}
	all.Go(func() {
		_, err := c.Review(ctx, "stuck")
		assert.ErrorIs(t, err, ErrUnavailable, "the connection broke")
	})
	<-stuck
	stop()
	all.Wait()
	nettest.Eventually(t, "disconnected", func() bool { return !c.Status().Connected })
	_, err = c.Review(ctx, "good")
	assert.ErrorIs(t, err, ErrUnavailable)
	c.mu.Lock()
	defer c.mu.Unlock()
	assert.Empty(t, c.asked)
}

// Many pods come in one snapshot, and again in the next.
func TestManyPods(t *testing.T) {
	const n = 20_000
	x, path := NewIndex(), socket(t)
	for i := range n {
		x.Put(pod("ns", fmt.Sprint("pod", i), fmt.Sprint(i)), addrs(nth(i).String()))
	}
	s := &Server{Index: x}
	stop := serve(t, path, s)
	c := run(t, Options{Socket: path})
	nettest.Eventually(t, "all", func() bool { return c.Table().Len() == n })
	before := c.Table().find(nth(1))
	stop()
	x.Remove("0")
	serve(t, path, s)
	nettest.Eventually(t, "all but one", func() bool { return c.Table().Len() == n-1 })
	assert.Same(t, before, c.Table().find(nth(1)), "what says the same is kept once")
}

// A reader that takes nothing is cut off, and costs the index no more than so many changes.
func TestReaderThatIsBehind(t *testing.T) {
	x := NewIndex()
	_, s := x.subscribe()
	for i := range maxBehind + 1 {
		s.add(change{addr: nth(i)})
	}
	cs, all := s.take()
	assert.Len(t, cs, maxBehind)
	assert.False(t, all)
}
