package tunnel

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// line is a Judge that wants a line of its own first: it refuses one with a "!", and says no.
type line struct {
	most int // how many bytes it has been shown at once
	last Last
}

func (j *line) Judge(first []byte, last Last) Judgement {
	j.most, j.last = max(j.most, len(first)), last
	end := bytes.IndexByte(first, '\n')
	switch {
	case bytes.IndexByte(first, '!') >= 0:
		return Judgement{Over: true, Refuse: true, Say: []byte("no")}
	case end >= 0 || last != MayCome:
		return Judgement{Over: true}
	}
	return Judgement{Least: len(first) + 1}
}

// judged is a tunnel with a Judge, and what has been read from its client already.
func judged(t testing.TB, p *Pump, first string) (*relayed, *line) {
	r, j := &relayed{result: make(chan Result, 1), pump: p}, new(line)
	var inner, innerUp *sock.Conn
	r.client, inner = near(t)
	r.server, innerUp = near(t)
	p.StartJudged(&r.Tunnel, Side{Conn: inner}, Side{Conn: innerUp}, r, j, []byte(first))
	return r, j
}

// However what comes first is cut, and whatever was read before, all of it goes on, once and in
// its order, and so does what comes behind it; the server's bytes go at once.
func TestOpeningGoesOn(t *testing.T) {
	p := newPump(t, nil)
	t.Cleanup(p.Close)
	rapid.Check(t, func(rt *rapid.T) {
		all := append(bytes.Repeat([]byte("x"), rapid.IntRange(0, 200_000).Draw(rt, "length")), '\n')
		all = append(all, bytes.Repeat([]byte("y"), rapid.IntRange(0, 300_000).Draw(rt, "behind"))...)
		n := rapid.IntRange(0, min(len(all), 70_000)).Draw(rt, "first")
		r, _ := judged(t, p, string(all[:n]))
		_, err := io.WriteString(r.server, "at once")
		require.NoError(rt, err)
		b := make([]byte, 7)
		_, err = io.ReadFull(r.client, b)
		require.NoError(rt, err)
		cuts := rapid.SliceOfN(rapid.IntRange(1, 1+len(all)/2), 0, 10).Draw(rt, "cuts")
		go func() {
			for rest := all[n:]; ; {
				k := len(rest)
				if len(cuts) > 0 {
					k, cuts = min(k, cuts[0]), cuts[1:]
				}
				r.client.Write(rest[:k])
				if rest = rest[k:]; len(rest) == 0 {
					r.client.CloseWrite()
					return
				}
			}
		}()
		got, err := io.ReadAll(r.server)
		require.NoError(rt, err)
		require.Equal(rt, len(all), len(got))
		require.True(rt, bytes.Equal(all, got))
		r.server.Close()
		res := <-r.result
		require.NoError(rt, res.Err)
		require.Equal(rt, int64(len(all)), res.Up)
		require.Zero(rt, p.openings.Load())
	})
}

// What is refused ends the tunnel, and the server has had nothing; the client is told, unless the
// server has told it something before.
func TestOpeningRefused(t *testing.T) {
	p := newPump(t, nil)
	t.Cleanup(p.Close)
	for name, tt := range map[string]struct{ first, then, server, hears string }{
		"what was read before": {"a!", "", "", "no"},
		"at once":              {"", "a!\n", "", "no"},
		"in pieces":            {"aaa", "a!\n", "", "no"},
		"the server spoke":     {"", "a!\n", "hello", "hello"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := judged(t, p, tt.first)
			if tt.server != "" {
				_, err := io.WriteString(r.server, tt.server)
				require.NoError(t, err)
				_, err = io.ReadFull(r.client, make([]byte, len(tt.server)))
				require.NoError(t, err)
			}
			_, err := io.WriteString(r.client, tt.then)
			require.NoError(t, err)
			got, err := io.ReadAll(r.server)
			require.NoError(t, err)
			assert.Empty(t, got)
			got, err = io.ReadAll(r.client)
			require.NoError(t, err)
			assert.Equal(t, tt.hears[len(tt.server):], string(got))
			res := <-r.result
			assert.Equal(t, ErrRefused, res.Err)
			assert.Zero(t, p.openings.Load())
		})
	}
}

// The end of the client's half, the owner's time and a lack of room each have it judged.
func TestOpeningComesToNoEnd(t *testing.T) {
	p := newPump(t, nil)
	t.Cleanup(p.Close)
	for last, end := range map[Last]func(*relayed){
		Ended: func(r *relayed) { r.client.CloseWrite() },
		Late:  func(r *relayed) { r.Late(); r.client.CloseWrite() },
		Full: func(r *relayed) {
			p.openings.Add(openingsMost)
			io.WriteString(r.client, "b")
			r.client.CloseWrite()
		},
	} {
		r, j := judged(t, p, "")
		_, err := io.WriteString(r.client, "aa")
		require.NoError(t, err)
		nettest.Eventually(t, "it has come", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return j.most == 2
		})
		end(r)
		got, err := io.ReadAll(r.server)
		require.NoError(t, err)
		r.server.Close()
		require.NoError(t, (<-r.result).Err)
		assert.Equal(t, "aa", string(got[:2]))
		assert.Equal(t, last, j.last)
		if last == Full {
			p.openings.Add(-openingsMost)
		}
		assert.Zero(t, p.openings.Load())
		r.Late() // which is over
	}
}

// A server that has gone is found, and told to the client, also when what was held is sent by no
// loop; and one that takes nothing for now gets all of it later.
func TestOpeningToWhoIsGone(t *testing.T) {
	p := newPump(t, nil)
	t.Cleanup(p.Close)
	r, _ := judged(t, p, "aa")
	require.NoError(t, r.server.SetLinger(0))
	r.server.Close()
	_, err := io.ReadAll(r.client)
	assert.Error(t, err, "a reset travels")
	r.Late()
	assert.Error(t, (<-r.result).Err)

	big := append(bytes.Repeat([]byte("x"), 8<<20), '\n')
	r, _ = judged(t, p, string(big))
	r.client.CloseWrite()
	got, err := io.ReadAll(r.server)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(big, got))
}
