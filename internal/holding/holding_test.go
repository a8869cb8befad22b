package holding

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spoken is a holder that writes down what it is asked, and answers what it is told to.
type spoken struct {
	mu    sync.Mutex
	asked []string
	err   error
	stuck chan struct{} // Check waits for it
}

func (s *spoken) note(format string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
	return s.err
}

func (s *spoken) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

var someStatus = Status{Version: "v1", Weak: true, Groups: []Group{{Name: "a", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Held: Millis(1500 * time.Millisecond), Present: true, Up: true}}}

func (s *spoken) Status() (Status, error) { return someStatus, s.note("status") }

func (s *spoken) Check(ctx context.Context, group string, duplicate bool) (Checked, error) {
	if s.stuck != nil {
		<-s.stuck
	}
	return Checked{Up: true, By: "02:00:00:00:00:01", Why: "why"}, s.note("check %s %t", group, duplicate)
}

func (s *spoken) Prepare(group string, n Nonce, p time.Duration) error {
	return s.note("prepare %s %s %s", group, n, p)
}

func (s *spoken) Commit(group string, n Nonce, v time.Duration, renewing bool) error {
	return s.note("commit %s %s %s %t", group, n, v, renewing)
}

func (s *spoken) Probe(_ context.Context, group string) (bool, error) {
	return true, s.note("probe %s", group)
}

func (s *spoken) LetGo(group string) error { return s.note("letGo %s", group) }
func (s *spoken) Ended()                   { _ = s.note("ended") }

// serve serves h until the test ends, or stop.
func serve(t *testing.T, h Holder) (s *Server, path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	s = &Server{Holder: h, Version: "v1", Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return s, path, stop
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path, "v1")
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestRequests(t *testing.T) {
	h := &spoken{}
	_, path, _ := serve(t, h)
	c, ctx := dial(t, path), t.Context()
	status, err := c.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, someStatus, status)
	checked, err := c.Check(ctx, "a", true)
	require.NoError(t, err)
	require.Equal(t, Checked{Up: true, By: "02:00:00:00:00:01", Why: "why"}, checked)
	n := Nonce{0: 1, 15: 0xff}
	require.NoError(t, c.Prepare(ctx, "a", n, 750*time.Millisecond))
	require.NoError(t, c.Commit(ctx, "a", n, 2*time.Second, true))
	replies, err := c.Probe(ctx, "a")
	require.NoError(t, err)
	require.True(t, replies)
	require.NoError(t, c.LetGo(ctx, "a"))
	require.NoError(t, c.Ended(ctx))
	require.Equal(t, []string{
		"status", "check a true", "prepare a 010000000000000000000000000000ff 750ms", "commit a 010000000000000000000000000000ff 2s true",
		"probe a", "letGo a", "ended",
	}, h.all())

	h.err = errors.New("no such thing")
	require.EqualError(t, c.LetGo(ctx, "a"), "no such thing")
	_, err = c.Status(ctx)
	require.EqualError(t, err, "no such thing")
	_, err = c.Check(ctx, "a", true)
	require.EqualError(t, err, "no such thing")
	h.err = fmt.Errorf("%w by the kernel", ErrRefused)
	err = c.Commit(ctx, "a", n, time.Second, false)
	require.ErrorIs(t, err, ErrRefused)
	require.EqualError(t, err, "refused: refused by the kernel")

	_, err = c.ask(ctx, request{Op: "jump"})
	require.EqualError(t, err, `"jump" is nothing that can be asked for`)
	_, err = c.ask(ctx, request{Op: OpCommit, Group: "a"})
	require.EqualError(t, err, "commit without a nonce")
}

// What is slow holds up nothing else, and who does not wait for it is not answered later.
func TestSlow(t *testing.T) {
	h := &spoken{stuck: make(chan struct{})}
	_, path, _ := serve(t, h)
	c := dial(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() {
		_, err := c.Check(ctx, "a", true)
		got <- err
	}()
	require.NoError(t, c.LetGo(t.Context(), "a"))
	cancel()
	require.ErrorIs(t, <-got, context.Canceled)
	close(h.stuck)
	nettest.Eventually(t, "it was done", func() bool { return len(h.all()) == 2 })
	require.NoError(t, c.LetGo(t.Context(), "a"))
}

func TestEvents(t *testing.T) {
	h := &spoken{}
	s, path, stop := serve(t, h)
	a, b := dial(t, path), dial(t, path)
	nettest.Eventually(t, "both are there", func() bool { return s.Clients() == 2 })
	want := []Event{
		{Kind: Foreign, Group: "a", Addr: netip.MustParseAddr("192.0.2.1"), By: "02:00:00:00:00:01", Link: "net1"},
		{Kind: Expired, Group: "b"},
	}
	for _, e := range want {
		s.Tell(e)
	}
	for _, c := range []*Client{a, b} {
		for _, e := range want {
			require.Equal(t, e, <-c.Events())
		}
		require.NoError(t, c.Err())
	}
	b.Close()
	nettest.Eventually(t, "one has gone", func() bool { return s.Clients() == 1 })
	stop()
	_, open := <-a.Events()
	require.False(t, open)
	require.ErrorIs(t, a.Err(), ErrDisconnected)
	require.ErrorIs(t, a.LetGo(t.Context(), "a"), ErrDisconnected)
}

// The connection ends under a question: that it was done, or not, is not known.
func TestDisconnected(t *testing.T) {
	h := &spoken{stuck: make(chan struct{})}
	s, path, stop := serve(t, h)
	c := dial(t, path)
	got := make(chan error)
	go func() {
		_, err := c.Check(t.Context(), "a", false)
		got <- err
	}()
	nettest.Eventually(t, "it is there", func() bool { return s.Clients() == 1 })
	c.Close()
	require.ErrorIs(t, <-got, ErrDisconnected)
	close(h.stuck)
	stop()
}

// One that takes no events is not waited for.
func TestBehind(t *testing.T) {
	s, path, _ := serve(t, &spoken{})
	c := dial(t, path)
	nettest.Eventually(t, "it is cut off", func() bool {
		s.Tell(Event{Kind: Up, Group: "a"})
		return c.Err() != nil
	})
	nettest.Eventually(t, "it has gone", func() bool { return s.Clients() == 0 })
}

func TestTooMany(t *testing.T) {
	s, path, _ := serve(t, &spoken{})
	for range maxClients {
		dial(t, path)
	}
	nettest.Eventually(t, "all are there", func() bool { return s.Clients() == maxClients })
	_, err := Dial(t.Context(), path, "v1")
	require.ErrorContains(t, err, "sluice-netsetup hold said no hello: ")
}

func TestNonce(t *testing.T) {
	n := Nonce{1, 2, 3}
	var got Nonce
	require.NoError(t, got.UnmarshalText([]byte(n.String())))
	require.Equal(t, n, got)
	for _, s := range []string{"", "01", n.String() + "00", "zz" + n.String()[2:]} {
		require.Error(t, got.UnmarshalText([]byte(s)), s)
	}
}

func TestGroupName(t *testing.T) {
	a := func(all ...string) (addrs []netip.Addr) {
		for _, s := range all {
			addrs = append(addrs, netip.MustParseAddr(s))
		}
		return addrs
	}
	require.Equal(t, "192-0-2-1", GroupName(a("2001:db8::1", "192.0.2.9", "192.0.2.1")))
	require.Equal(t, "2001-0db8-0000-0000-0000-0000-0000-0001", GroupName(a("2001:db8::1")))
}
