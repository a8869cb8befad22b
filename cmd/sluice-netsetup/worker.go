package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/internal/reload"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/netsetup"
)

// tick is how often legacy mode looks at its files and writes the metrics.
const tick = 5 * time.Second

// worker carries a mode out.
type worker struct {
	kernel *netsetup.Kernel
	reload *reload.Reloader[*configuration]
	log    *slog.Logger
}

// newWorker returns a worker for what in says, whose files were read by r.
func newWorker(k *netsetup.Kernel, in settings.Input, r *reload.Reloader[*configuration], log *slog.Logger) *worker {
	w := &worker{kernel: k, reload: r, log: log}
	r.Options = reload.Options[*configuration]{
		Load:     func() (*configuration, error) { return load(in) },
		Watch:    func(*configuration) []string { return nil },
		Tick:     w.metrics,
		Reloaded: func(*configuration) { w.log.Info("reloaded"); w.metrics() },
		Refused:  w.metrics,
		Every:    tick,
		Log:      log,
	}
	return w
}

// work sets up and announces; in legacy mode it returns when ctx ends.
func (w *worker) work(ctx context.Context, c *configuration) error {
	w.reload.Publish = func(before, now *configuration) error {
		if before != nil && now.Mode != before.Mode {
			return fmt.Errorf("%s: the mode %s needs a restart, it cannot follow %s", now.Written.Of("mode"), now.Mode, before.Mode)
		}
		return w.setup(ctx, now)
	}
	if err := w.reload.Start(c); err != nil {
		return err
	}
	if c.Mode != netsetup.Legacy {
		if c.MetricsFile != "" {
			w.log.Warn("the metrics file is written in mode legacy only", "mode", c.Mode.String())
		}
		return nil
	}
	w.metrics()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer close(hup)
	defer signal.Stop(hup)
	go func() {
		for range hup {
			w.reload.Ask()
		}
	}()
	w.reload.Run(ctx)
	return nil
}

// setup brings the pod to what c wants, and tells the neighbours. That they could
// not be told is no failure: the addresses are there.
func (w *worker) setup(ctx context.Context, c *configuration) error {
	for _, warning := range c.Warnings {
		w.log.Warn(warning.Error())
	}
	plan, err := w.kernel.Setup(ctx, c.Config)
	if err != nil {
		return err
	}
	for _, warning := range plan.Warnings {
		w.log.Warn(warning)
	}
	if err := netsetup.Announce(ctx, plan.Announce, netsetup.AnnounceAgain); err != nil {
		w.log.Warn(err.Error())
	}
	return nil
}

// metrics writes the metrics file, if there is to be one.
func (w *worker) metrics() {
	s := w.reload.State()
	if s.Config.MetricsFile == "" {
		return
	}
	counters, err := w.kernel.Counters()
	if err == nil {
		err = netsetup.WriteMetricsFile(s.Config.MetricsFile, counters, s.Err == nil)
	}
	if err != nil {
		w.log.Error("metrics", "error", err.Error())
	}
}
