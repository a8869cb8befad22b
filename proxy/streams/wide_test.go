package streams

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"crypto/tls"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// windowOf is what a server is told of the window that each stream has.
func windowOf(t testing.TB, tr *Transport) (s *Session, window uint32) {
	t.Helper()
	told := make(chan uint32, 1)
	s, _ = sessionOf(t, tr, func(c *tls.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		f.WriteSettings()
		for {
			switch fr, err := f.ReadFrame(); fr := fr.(type) {
			case *http2.SettingsFrame:
				if n, ok := fr.Value(http2.SettingInitialWindowSize); ok {
					told <- n
				}
			case nil:
				if err != nil {
					return
				}
			}
		}
	})
	return s, <-told
}

// No more exchanges than that have a wide window; those behind them go on, with a narrow one, over
// another connection. A place that is given up is there for the next.
func TestMostWide(t *testing.T) {
	tr := New(Options{MaxHead: 64 << 10})
	var wide []*Session
	var open []*sock.Conn
	for len(open) < mostWide {
		s, told := windowOf(t, tr)
		require.EqualValues(t, window, told)
		wide = append(wide, s)
		for range min(most, mostWide-len(open)) {
			near, ok := s.Open()
			require.True(t, ok)
			open = append(open, near)
		}
	}
	last := wide[len(wide)-1]
	_, ok := last.Open()
	assert.False(t, ok, "a wide one too many")
	lean, told := windowOf(t, tr)
	assert.EqualValues(t, narrow, told)
	for range 2 {
		near, ok := lean.Open()
		require.True(t, ok)
		open = append(open, near)
	}
	assert.EqualValues(t, mostWide, tr.wides.Load())

	open[len(open)-1].Close() // a narrow one, which is no place for a wide one
	nettest.Eventually(t, "it is over", func() bool { lean.mu.Lock(); defer lean.mu.Unlock(); return lean.open == 1 })
	_, ok = last.Open()
	assert.False(t, ok, "still")
	open[0].Close()
	nettest.Eventually(t, "there is a place", func() bool { return tr.wides.Load() == mostWide-1 })
	near, ok := last.Open()
	assert.True(t, ok)
	open = append(open, near)
	open[1].Close()
	nettest.Eventually(t, "there is another", func() bool { return tr.wides.Load() == mostWide-1 })
	again, told := windowOf(t, tr)
	assert.EqualValues(t, window, told)
	again.Retire()
	assert.EqualValues(t, mostWide-1, tr.wides.Load(), "what was kept for its first exchange is given back")
	for _, near := range open {
		near.Close()
	}
	nettest.Eventually(t, "none has one", func() bool { return tr.wides.Load() == 0 })
}

// wideStep is something that happens to a session, or to one of its exchanges.
type wideStep int

const (
	asks      wideStep = iota // an exchange begins, of which the server does what its path says
	opens                     // one begins, and nothing is asked
	gives                     // one is given up
	resets                    // by a reset
	ends                      // the server closes the connection
	retires                   // nobody is to begin another
	begins                    // there is another session
	wideSteps                 // how many there are
)

// However exchanges and connections end, each place is given back once: none is left, and none is
// given back that nobody had.
func TestWideIsGivenBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		budget := fdbudget.New(rapid.SampledFrom([]int64{3, 1000}).Draw(rt, "descriptors"))
		tr := New(Options{MaxHead: 64 << 10, Budget: budget})
		defer tr.Close()
		type life struct {
			*Session
			server *tls.Conn
		}
		var sessions []life
		var open []*sock.Conn
		begin := func() {
			conns := make(chan *tls.Conn, 1)
			s, _ := sessionOf(t, tr, func(c *tls.Conn) { conns <- c; playing(t, nil, endsAsAsked)(c) })
			sessions = append(sessions, life{s, <-conns})
		}
		begin()
		for n := range rapid.IntRange(1, 15).Draw(rt, "steps") {
			s := sessions[rapid.IntRange(0, len(sessions)-1).Draw(rt, "session")]
			switch step := wideStep(rapid.IntRange(0, int(wideSteps)-1).Draw(rt, "step")); step {
			case asks, opens:
				near, ok := s.Open()
				if !ok {
					break
				}
				if open = append(open, near); step == asks {
					how := rapid.SampledFrom([]string{"answer", "cut", "refuse", "goaway", "hang", "close", "nonsense"}).Draw(rt, "how")
					fmt.Fprintf(near.Blocking(), "GET /%s HTTP/1.1\r\nHost: api.test\r\nX-N: %d\r\n\r\n", how, n)
				}
			case gives, resets:
				if len(open) > 0 {
					near := open[len(open)-1]
					if open = open[:len(open)-1]; step == resets {
						near.ResetOnClose()
					}
					near.Close()
				}
			case ends:
				s.server.Close()
			case retires:
				s.Retire()
			case begins:
				if len(sessions) < 4 {
					begin()
				}
			}
			assert.GreaterOrEqual(rt, tr.wides.Load(), int32(0))
		}
		for _, near := range open {
			near.Close()
		}
		for _, s := range sessions {
			nettest.Eventually(t, "no exchange is under way", s.Idle)
			s.Retire() // as the pool does with those that it forgets
		}
		assert.Zero(rt, tr.wides.Load())
	})
}

// endsAsAsked does what the path of a request says.
func endsAsAsked(s *script, id uint32) {
	switch s.path {
	case "/answer":
		s.head(id, true, ":status", "204")
	case "/cut":
		s.head(id, false, ":status", "200", "content-length", "9")
		s.WriteRSTStream(id, http2.ErrCodeInternal)
	case "/refuse":
		s.WriteRSTStream(id, http2.ErrCodeRefusedStream)
	case "/goaway":
		s.WriteGoAway(id-1, http2.ErrCodeNo, nil)
	case "/close":
		s.conn.Close()
	case "/nonsense":
		s.WriteRawFrame(http2.FrameData, 0, id+100, []byte("x"))
	}
}
