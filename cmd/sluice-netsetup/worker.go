package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/internal/files"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/netsetup"
)

// tick is how often legacy mode looks at its files and writes the metrics.
const tick = 5 * time.Second

// worker carries a mode out.
type worker struct {
	kernel *netsetup.Kernel
	in     settings.Input
	files  *files.Follower // that in reads by
	log    *slog.Logger
	again  time.Duration // between the announcements
	tick   time.Duration
}

// work sets up and announces; in legacy mode it returns when ctx ends.
func (w *worker) work(ctx context.Context, c *configuration) error {
	if err := w.setup(ctx, c); err != nil {
		return err
	}
	if c.Mode != netsetup.Legacy {
		if c.MetricsFile != "" {
			w.log.Warn("the metrics file is written in mode legacy only", "mode", c.Mode.String())
		}
		return nil
	}
	return w.stay(ctx, c)
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
	if err := netsetup.Announce(ctx, plan.Announce, w.again); err != nil {
		w.log.Warn(err.Error())
	}
	return nil
}

// stay keeps the metrics up to date, and puts changed settings in force: at SIGHUP,
// or when a file that they came from changes. Wrong ones are logged, and what is in
// force stays.
func (w *worker) stay(ctx context.Context, c *configuration) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ticks := time.NewTicker(w.tick)
	defer ticks.Stop()
	look := time.NewTimer(files.Still)
	look.Stop()
	reloaded := true
	w.files.Done(nil)
	w.metrics(c, reloaded)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			w.files.Ask()
		case <-ticks.C:
		case <-look.C:
		}
		if w.files.Look() == files.Settled {
			next, err := w.reload(ctx, c)
			switch {
			case w.files.Pending(): // what came new is looked at once more
			case err != nil:
				w.log.Error("reload", "error", err.Error())
				reloaded = false
			default:
				w.log.Info("reloaded")
				c, reloaded = next, true
			}
			w.files.Done(nil)
		}
		if w.files.Pending() {
			look.Reset(files.Still)
		}
		w.metrics(c, reloaded)
	}
}

func (w *worker) reload(ctx context.Context, old *configuration) (*configuration, error) {
	c, err := load(w.in)
	if w.files.Grew() || err != nil {
		return nil, err
	}
	if c.Mode != netsetup.Legacy {
		return nil, fmt.Errorf("EGRESS_ROUTER_MODE: the mode %s needs a restart, it cannot follow %s", c.Mode, old.Mode)
	}
	return c, w.setup(ctx, c)
}

// metrics writes the metrics file, if there is to be one.
func (w *worker) metrics(c *configuration, reloaded bool) {
	if c.MetricsFile == "" {
		return
	}
	counters, err := w.kernel.Counters()
	if err == nil {
		err = netsetup.WriteMetricsFile(c.MetricsFile, counters, reloaded)
	}
	if err != nil {
		w.log.Error("metrics", "error", err.Error())
	}
}
