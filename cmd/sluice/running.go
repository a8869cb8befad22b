package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sluiceproxy/sluice/metrics"
)

// running is a command that keeps running, and what it needs from its first moment on.
type running struct {
	registry *prometheus.Registry
	metrics  *metrics.Metrics
	said     *messages
	log      *slog.Logger

	hangUp chan struct{}   // SIGHUP
	end    chan os.Signal  // the first that ends the command
	now    context.Context // ends with the second
}

// lastMoment is what a command has to end by itself after the second signal.
const lastMoment = 500 * time.Millisecond

// keepRunning calls f, and returns when it has. Two signals end that in any case,
// whatever f, a log or a disk waits for; main ends the process then. Nor is a pipe that
// nobody reads any more, standard output or error, an end.
func keepRunning(level slog.Level, s streams, f func(*running) error) error {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	now, atOnce := context.WithCancel(context.Background())
	defer atOnce()
	r := &running{registry: prometheus.NewRegistry(), hangUp: make(chan struct{}, 1), end: make(chan os.Signal, 1), now: now}
	r.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.metrics = metrics.New(r.registry, version)
	r.said = openMessages(level, r.metrics, s)
	r.log = r.said.logger
	done := make(chan error, 1)
	go func() { done <- r.said.last(f(r)) }()
	ending := false
	var late <-chan time.Time
	for {
		select {
		case err := <-done:
			return err
		case <-late:
			return nil
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				poke(r.hangUp)
			case !ending:
				ending = true
				r.end <- sig
			case late == nil:
				atOnce()
				late = time.After(lastMoment)
			}
		}
	}
}

// attend waits until ctx ends, a part has failed or a signal ends the command, which it
// returns. A SIGHUP calls hangUp.
func (r *running) attend(ctx context.Context, failed <-chan error, hangUp func()) (os.Signal, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case err := <-failed:
			return nil, err
		case sig := <-r.end:
			return sig, nil
		case <-r.hangUp:
			hangUp()
		}
	}
}

// linger goes on as before for the delay: whoever sends connections here has to learn
// first that there are to be no more.
func (r *running) linger(ctx context.Context, delay time.Duration, failed <-chan error, hangUp func()) error {
	if delay == 0 {
		return nil
	}
	r.log.Info("not ready from now on, and still open to new connections", "for", delay.String())
	ctx, cancel := context.WithTimeout(ctx, delay)
	defer cancel()
	defer context.AfterFunc(r.now, cancel)()
	_, err := r.attend(ctx, failed, hangUp)
	return err
}

// drain is for how long what is open may go on.
func (r *running) drain(sig os.Signal, limit time.Duration) (context.Context, context.CancelFunc) {
	if sig != nil {
		r.log.Info("draining", "signal", sig.String(), "limit", limit.String())
	}
	return context.WithTimeout(r.now, limit)
}

// poke puts a word into c, unless there is one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// settled waits for a part to end, for a moment: it may be reading what does not answer.
func settled(part <-chan struct{}) {
	select {
	case <-part:
	case <-time.After(time.Second):
	}
}
