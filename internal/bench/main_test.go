//go:build linux

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// The test binary is its own helpers, as the program is.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // helpers end when they are told to
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// testBench does little work, pins nothing and counts by /proc.
func testBench(t testing.TB) *bench {
	t.Helper()
	return &bench{out: io.Discard, reps: 2, scale: 0.005, accounts: &proc.Accounts{}, dir: t.TempDir(), cpuOfProxy: -1, cpuOfHelpers: -1, idle: 50}
}

func testStage(t testing.TB) (*bench, *stage) {
	t.Helper()
	b := testBench(t)
	s, err := b.startStage()
	require.NoError(t, err)
	t.Cleanup(s.stop)
	return b, s
}

// Without a proxy every work must go well: then what fails is a proxy's fault.
func TestWorksWithoutProxy(t *testing.T) {
	b := testBench(t)
	for _, w := range works {
		w.job.Bytes = min(w.job.Bytes, 3<<20)
		tables, err := b.runWorks([]work{w}, []variant{{name: direct, scale: 1}})
		require.NoError(t, err)
		c := tables[0].Cell(direct)
		require.Empty(t, c.Failed, w.name)
		assert.Len(t, c.Values[1], 2, w.name)
		assert.Positive(t, c.Median(1), w.name)
	}
}

// do is a job's result on a stage.
func do(t testing.TB, s *stage, j load.Job) load.Result {
	t.Helper()
	j.Limit = 10 * time.Second
	require.NoError(t, s.load.begin(j))
	require.NoError(t, s.load.proceed())
	r, err := s.load.result()
	require.NoError(t, err)
	return r
}

func TestLoadNotices(t *testing.T) {
	_, s := testStage(t)
	get := getRequest(false, s.origin.addr(origin.HTTP), "/1k")
	other := func(f func(*load.Request)) load.Request { r := get; f(&r); return r }
	for name, test := range map[string]struct {
		port origin.Port
		req  load.Request
		want string
	}{
		"a good answer":       {origin.HTTP, get, ""},
		"another status":      {origin.HTTP, other(func(r *load.Request) { r.Status = 204 }), "status 200, not 204"},
		"another length":      {origin.HTTP, other(func(r *load.Request) { r.Length = 1000 }), "a body of 1024 bytes, not 1000"},
		"an answer too whole": {origin.HTTP, other(func(r *load.Request) { r.Broken = true }), "should have broken off"},
		"a late answer":       {origin.Slow, get, ""},
		"a reset":             {origin.Reset, get, "reset"},
		"a broken answer":     {origin.Broken, get, "512 bytes are missing"},
		"one that must break": {origin.Broken, other(func(r *load.Request) { r.Broken = true }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := do(t, s, load.Job{Kind: load.GetNew, Addr: s.origin.addr(test.port), Requests: []load.Request{test.req}, Conns: 2, Count: 6})
			err := failure(r, 6)
			if test.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, test.want)
			}
		})
	}
}

// The generator must get along with any HTTP server, not only with its own.
func TestLoadAgainstPlainServer(t *testing.T) {
	_, s := testStage(t)
	var connections = map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections[r.RemoteAddr]++ // the job below has one connection
		if connections[r.RemoteAddr] == 5 {
			w.Header().Set("Connection", "close")
		}
		w.Write(make([]byte, 1000))
	}))
	defer server.Close()
	req := load.Request{Head: "GET / HTTP/1.1\r\nHost: test\r\n\r\n", Status: 200, Length: 1000}
	r := do(t, s, load.Job{Kind: load.Get, Addr: server.Listener.Addr().String(), Requests: []load.Request{req}, Conns: 1, Warm: 5, Count: 20})
	require.NoError(t, failure(r, 20))
	assert.Equal(t, int64(20_000), r.Bytes)
	assert.Equal(t, 4, r.Reopened)
	assert.Len(t, connections, 5)
	assert.Less(t, r.P50, r.Max)
}

func TestLoadKeepsARate(t *testing.T) {
	_, s := testStage(t)
	j := workOf("1").jobFor(&instance{}, s.origin.addr(origin.HTTP), 1)
	j.Rate, j.Count, j.Warm, j.Duration = 1000, 0, 0, 500*time.Millisecond
	r := do(t, s, j)
	require.NoError(t, failure(r, 0))
	assert.InDelta(t, 500, r.Done, 10)
}

// A job does all its work, however long that takes, and goes on for as long as it is to last.
func TestLoadLastsAsLongAsItMust(t *testing.T) {
	_, s := testStage(t)
	j := workOf("1").jobFor(&instance{}, s.origin.addr(origin.HTTP), 0.05)
	assert.Equal(t, 50*time.Millisecond, j.Duration)
	for _, test := range []struct {
		count    int
		duration time.Duration
	}{{1000, 0}, {1, 100 * time.Millisecond}, {10_000, time.Millisecond}} {
		j.Count, j.Duration = test.count, test.duration
		r := do(t, s, j)
		require.NoError(t, failure(r, test.count))
		assert.GreaterOrEqual(t, r.Elapsed, test.duration)
		if test.duration < 10*time.Millisecond {
			assert.Equal(t, test.count, r.Done, "no more than that")
		}
	}
}

func TestHeldConnectionsAreWatched(t *testing.T) {
	_, s := testStage(t)
	j := load.Job{Kind: load.Hold, Addr: s.origin.addr(origin.Raw), Conns: 50, Count: 50, Limit: 10 * time.Second}
	require.NoError(t, s.load.begin(j))
	require.NoError(t, s.load.proceed())
	_, err := s.load.held()
	require.NoError(t, err)
	c, err := s.origin.counts()
	require.NoError(t, err)
	assert.Equal(t, 50, c.Open)
	s.origin.stop()
	s.origin, err = testBench(t).startOrigin() // for the stage's end
	require.NoError(t, err)
	require.NoError(t, s.load.proceed())
	r, err := s.load.result()
	require.NoError(t, err)
	assert.ErrorContains(t, failure(r, 50), "a connection at rest was closed (50 times)")
}

func TestAProxyMustNotAnswerByItself(t *testing.T) {
	_, s := testStage(t)
	before, err := s.origin.counts()
	require.NoError(t, err)
	j := workOf("1").jobFor(&instance{}, s.origin.addr(origin.HTTP), 0.01)
	j.Duration = 0
	do(t, s, j)
	assert.NoError(t, s.seen(before, 264))
	assert.ErrorContains(t, s.seen(before, 265), "the origin saw 264 of 265 requests")
}

func TestChoose(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"sluice", "other"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o755))
	}
	b := testBench(t)
	require.NoError(t, b.choose(options{bin: bin, peers: []string{"goproxy"}, sluices: []string{filepath.Join(bin, "sluice"), "old=" + filepath.Join(bin, "other")}}))
	assert.Equal(t, "sluice", b.sluices[0].Name)
	assert.Equal(t, "old", b.sluices[1].Name)
	assert.Empty(t, b.others)
	require.Len(t, b.notes, 1, "a proxy that cannot run is told")
	assert.Contains(t, b.notes[0], "goproxy")
	assert.Error(t, b.choose(options{bin: bin, peers: []string{"goprocksi"}}))
}

func TestGoalsAreMeasured(t *testing.T) {
	// The cells that goals name must be those that rows make.
	b := &bench{sluices: []*peers.Peer{peers.Sluice("sluice", "")}, others: peers.All("bin")}
	r := report.Run{Tables: []*report.Table{}}
	for _, w := range works {
		table := w.newTable()
		for _, v := range b.variants(w) {
			if c := v.cell(table); v.peer == nil || v.peer.Does(w.kind) {
				c.Put(1, 1, 1, 1, 1, 1)
			}
		}
		r.Tables = append(r.Tables, table)
	}
	for _, o := range r.Outcomes() {
		assert.True(t, o.Measured, "row %d: %s", o.Row, o.Goal)
	}
}

// What goes through a tunnel by SOCKS is as RFC 1928 has it, and the ClientHello of row 15 is whole.
func TestSOCKSWork(t *testing.T) {
	w := workOf("4")
	in := &instance{peer: peers.Sluice("sluice", ""), setup: peers.Setup{SOCKS: true}}
	j := w.jobFor(in, "127.0.0.1:258", 1)
	assert.Equal(t, "\x05\x01\x00\x01\x7f\x00\x00\x02\x01\x02", string(j.Heads[0]))
	assert.Equal(t, "\x05\x01\x00", string(j.Greeting))
	in.setup.AtOnce = true
	j = w.jobFor(in, "127.0.0.1:258", 1)
	assert.Equal(t, "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x03\x01\x02", string(j.Heads[1]))
	assert.Empty(t, j.Greeting)
	hello, err := clientHello("name.test")
	require.NoError(t, err)
	assert.Contains(t, string(hello), "name.test")
}
