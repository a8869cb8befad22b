package reload

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lines is a log that tests can read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A configuration that is refused leaves the one before in force; one in whose service the
// program panics is refused as well, and the next good one comes in force.
func TestReloader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	write("one")
	log, ended := &lines{}, make(chan string, 10)
	var inForce string // published
	r := New[string]()
	r.Options = Options[string]{
		Load: func() (string, error) {
			b, err := r.ReadFile(path)
			if string(b) == "wrong" {
				err = errors.New("line one\nline two")
			}
			return string(b), err
		},
		Publish: func(before, now string) error {
			switch now {
			case "panics":
				panic("oh")
			case "fails":
				return errors.New("cannot")
			}
			assert.Equal(t, inForce, before)
			inForce = now
			return nil
		},
		Watch:    func(string) []string { return []string{path} },
		Tick:     func() { panic("again") }, // which holds nothing up
		Reloaded: func(now string) { ended <- now },
		Refused:  func() { ended <- "refused" },
		Every:    50 * time.Millisecond,
		Log:      slog.New(slog.NewTextHandler(log, nil)),
		Contain: func(step func()) {
			defer func() { _ = recover() }()
			step()
		},
	}
	c, err := r.Load()
	require.NoError(t, err)
	require.NoError(t, r.Start(c))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	for _, step := range []struct{ text, ended, inForce, problem string }{
		{"two", "two", "two", ""},
		{"wrong", "refused", "two", "line one\nline two"},
		{"three", "three", "three", ""},
		{"panics", "refused", "three", "a fault of the program, which the log has"},
		{"four", "four", "four", ""},
		{"fails", "refused", "four", "cannot"},
		{"four", "four", "four", ""},
	} {
		write(step.text)
		r.Ask()
		select {
		case got := <-ended:
			require.Equal(t, step.ended, got)
		case <-time.After(30 * time.Second):
			t.Fatal("nothing has come of " + step.text)
		}
		s := r.State()
		require.Equal(t, step.inForce, s.Config)
		if step.problem == "" {
			require.NoError(t, s.Err)
		} else {
			require.EqualError(t, s.Err, step.problem)
		}
	}
	stop()
	<-done
	require.Equal(t, "four", inForce)
	assert.Contains(t, log.String(), `msg="reload refused, the configuration before stays in force" problem="line one"`)
	assert.Contains(t, log.String(), `problem="line two"`)
}

// A start that fails puts nothing in force.
func TestStartFails(t *testing.T) {
	r := New[string]()
	r.Publish = func(before, now string) error { return errors.New(before + now) }
	require.EqualError(t, r.Start("x"), "x")
	require.Empty(t, r.State())
}
