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
