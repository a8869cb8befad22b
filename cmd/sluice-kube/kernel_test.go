package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/internal/peer"
)

// output is what a command has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// emptyHolder is a sluice-netsetup hold that has no group.
type emptyHolder struct{ holding.Holder }

func (emptyHolder) Status() (holding.Status, error) { return holding.Status{}, nil }

// Without sluice-netsetup hold nothing can be held, which is no silence: the admin port and a
// metric that is always there say so.
func TestNetsetupIsAway(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var errs output
	status := make(chan int, 1)
	socket := filepath.Join(dir, "hold.sock")
	go func() {
		status <- run(ctx, []string{"hold", "--netsetup", socket, "--socket", filepath.Join(dir, "s"), "--kubeconfig", kubeconfig(t), "--admin", "127.0.0.1:0"}, inPod, streams{io.Discard, &errs})
	}()
	var admin string
	nettest.Eventually(t, "the admin port", func() bool {
		if m := regexp.MustCompile(`admin on (http://[0-9.:]+/)`).FindStringSubmatch(errs.String()); m != nil {
			admin = m[1]
		}
		return admin != ""
	})
	get := func(path string) string {
		t.Helper()
		res, err := http.Get(admin + path)
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return string(text)
	}
	nettest.Eventually(t, "why it is not reached", func() bool {
		return get("readyz?verbose") == "ready\nsluice-netsetup hold at "+socket+": not reached, so nothing can be held: dial unix "+socket+": connect: no such file or directory\n"
	})
	assert.Contains(t, get("metrics"), "\nsluice_hold_netsetup_reached 0\n")

	l, err := peer.Listen(socket)
	require.NoError(t, err)
	go (&holding.Server{Holder: emptyHolder{}, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l)
	assert.Equal(t, cli.StatusFailed, <-status)
	assert.Contains(t, errs.String(), "sluice-netsetup hold has no addresses to hold")
}

// It is said again now and then, and not each time that it is tried.
func TestNetsetupIsAwayFor(t *testing.T) {
	const again = 500 * time.Millisecond
	for _, serve := range []bool{false, true} {
		ctx, stop := context.WithCancel(t.Context())
		var log output
		k := &kernel{socket: filepath.Join(t.TempDir(), "s"), log: slog.New(slog.NewJSONHandler(&log, nil)), again: again, reached: func(bool) {}}
		if serve { // somebody who says nothing of what it has
			l, err := peer.Listen(k.socket)
			require.NoError(t, err)
			go (&holding.Server{Holder: brokenHolder{}, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l)
		}
		var over sync.WaitGroup
		over.Go(func() { k.keep(ctx) })
		over.Go(func() { k.status(ctx) })
		begun := time.Now()
		count := func() int { return strings.Count(log.String(), "cannot be reached: nothing can be held") }
		nettest.Eventually(t, "it is said again", func() bool { return count() >= 3 })
		assert.GreaterOrEqual(t, time.Since(begun), 2*again)
		assert.Len(t, k.details(), 1)
		assert.Contains(t, k.details()[0], "not reached, so nothing can be held: ")
		stop()
		over.Wait()
	}
}

// brokenHolder cannot say what it has.
type brokenHolder struct{ holding.Holder }

func (brokenHolder) Status() (holding.Status, error) { return holding.Status{}, os.ErrPermission }
