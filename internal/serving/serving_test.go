package serving

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/internal/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a server, whose events come out of the channel.
func start(t *testing.T) (s *Server, path string, events chan string) {
	t.Helper()
	events = make(chan string, 100)
	s = &Server{Version: "v1", Log: slog.New(slog.DiscardHandler),
		Changed: func(serving bool) { events <- map[bool]string{true: "serving", false: "gone"}[serving] },
		Leaving: func() { events <- "leaving" },
		Drained: func() { events <- "drained" },
	}
	path = filepath.Join(t.TempDir(), "s")
	l, err := peer.Listen(path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ctx, l)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s, path, events
}

func dial(t *testing.T, path string) *Proxy {
	t.Helper()
	p, err := Dial(t.Context(), path, "v1")
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func receive(t *testing.T, p *Proxy) Told {
	t.Helper()
	told, err := p.Receive()
	require.NoError(t, err)
	return told
}

// Whoever reaches the socket has no more than some places there, and the proxies that are there
// stay.
func TestServerIsFull(t *testing.T) {
	_, path, events := start(t)
	p := dial(t, path)
	assert.Equal(t, "serving", next(t, events))
	receive(t, p)
	for range maxProxies - 1 {
		dial(t, path)
	}
	_, err := Dial(t.Context(), path, "v1")
	require.Error(t, err)
	require.NoError(t, p.Say(Said{Leaving: true}))
	assert.Equal(t, "leaving", next(t, events))
}

func next(t *testing.T, events chan string) string {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("nothing happens")
		return ""
	}
}

// A proxy is told what is held when it comes, and when that changes; all of them have drained
// when the last has, or is gone.
func TestServing(t *testing.T) {
	s, path, events := start(t)
	held := Held{Group: "g", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	a := dial(t, path)
	assert.Equal(t, Told{Held: &Held{}}, receive(t, a), "nothing is held")
	assert.Equal(t, "serving", next(t, events))
	s.Tell(Told{Held: &held})
	assert.Equal(t, Told{Held: &held}, receive(t, a))
	b := dial(t, path)
	assert.Equal(t, Told{Held: &held}, receive(t, b), "who comes later")

	s.Tell(Told{Cut: true, Held: &Held{}})
	assert.Equal(t, Told{Cut: true, Held: &Held{}}, receive(t, b))
	receive(t, a)
	require.NoError(t, a.Say(Said{Leaving: true}))
	assert.Equal(t, "leaving", next(t, events))
	require.NoError(t, a.Say(Said{Drained: true})) // nobody has asked for that
	s.Tell(Told{Drain: 1500})
	assert.EqualValues(t, 1500, receive(t, a).Drain)
	require.NoError(t, a.Say(Said{Drained: true}))
	b.Close()
	assert.Equal(t, "drained", next(t, events))
	s.Gone(t.Context(), 50*time.Millisecond) // a is there still
	a.Close()
	assert.Equal(t, "gone", next(t, events))
	s.Gone(t.Context(), 20*time.Second)
	s.Tell(Told{Drain: 1})
	assert.Equal(t, "drained", next(t, events), "when there is nobody")
	assert.Empty(t, events)
}

// A proxy that takes nothing (it is stopped, and its socket is full) holds up nobody: not who
// decides, nor another proxy, nor one that comes later. When it goes on it is told how things
// are by then.
func TestStoppedProxyHoldsUpNobody(t *testing.T) {
	s, path, events := start(t)
	stopped := dial(t, path)
	assert.Equal(t, "serving", next(t, events))
	held := Held{Group: "g"}
	for i := range 200 { // some kilobytes each: more than a socket holds
		held.Addrs = append(held.Addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	begun := time.Now()
	for range 2000 {
		s.Tell(Told{Cut: true, Held: &Held{}})
		s.Tell(Told{Held: &held})
	}
	assert.Less(t, time.Since(begun), 5*time.Second)
	last := Held{Group: "last", Addrs: held.Addrs[:1]}
	s.Tell(Told{Held: &last})
	other := dial(t, path)
	assert.Equal(t, Told{Held: &last}, receive(t, other))
	cut := false
	for {
		told := receive(t, stopped)
		cut = cut || told.Cut
		require.NotNil(t, told.Held)
		if told.Held.Group == "last" {
			break
		}
	}
	assert.True(t, cut, "what was open before is cut, whoever holds by now")
}

// What has not left joins what comes: the newest state, and all that is to be done.
func TestJoined(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	c := &client{more: make(chan struct{}, 1)}
	for _, told := range []Told{{Held: &Held{Group: "a", Addrs: addrs}}, {Held: &Held{}, Cut: true}, {Drain: 5}, {Held: &Held{Group: "b", Addrs: addrs}}} {
		c.add(told)
	}
	assert.Equal(t, Told{Held: &Held{Group: "b", Addrs: addrs}, Cut: true, Drain: 5}, c.next)
	assert.Len(t, c.more, 1)
}
