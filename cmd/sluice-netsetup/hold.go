package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/files"
	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/peer"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/netsetup"
	"github.com/sluiceproxy/sluice/netsetup/hold"
)

func newHoldCommand(environ []string, s streams) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Set up all but the addresses, and hold these when sluice-kube hold asks for it",
		Long: `Sets up the pod's network as sluice-netsetup does, but for the source addresses, and
stays. The addresses are brought, announced and watched while they are held, which
sluice-kube hold asks for on a Unix socket; else the kernel drops whatever carries them.

SIGTERM is heeded when sluice-kube hold has said that the proxy has ended, or when nobody
has asked for anything for a while and nothing is held; SIGINT at once.`,
	}
	settings.AddFlags(cmd.Flags(), (&configuration{hold: new(holdSettings)}).settings())
	cmd.Flags().BoolVar(&check, "check", false, "check the settings only: status 0 and silence, or 2 and every problem")
	cmd.Flags().SortFlags = false
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadInto(&configuration{hold: new(holdSettings)}, settings.Input{Flags: cmd.Flags(), Environ: environ, ReadFile: files.Read})
		switch {
		case err != nil:
			return cli.Wrong(err)
		case check:
			return nil
		}
		return failed(serveHold(cmd.Context(), c, s))
	}
	return cmd
}

// serveHold holds what it is asked to, until it is told to end.
func serveHold(ctx context.Context, c *configuration, s streams) error {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	said := linelog.New(s.err, linelog.Options{Room: 1 << 20, Prompt: true})
	defer said.Close(time.Second)
	log := slog.New(slog.NewJSONHandler(said, nil))
	for _, w := range c.Warnings {
		log.Warn(w.Error())
	}
	term, interrupt := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	defer signal.Stop(term)
	signal.Notify(interrupt, syscall.SIGINT)
	defer signal.Stop(interrupt)

	l, err := peer.Listen(c.hold.Socket)
	if err != nil {
		return err
	}
	server := &holding.Server{Version: version, Log: log}
	h, err := hold.Open(ctx, hold.Options{
		Config: c.Config, Groups: c.hold.Groups, ReplyFrom: c.hold.ReplyFrom, SkipReply: c.hold.SkipReply,
		Tell: server.Tell, Trace: trace(c, log), Version: version, Log: log,
	})
	if err != nil {
		l.Close()
		return err
	}
	server.Holder = h
	d := &holdDaemon{c: c, h: h, server: server, log: log}
	log.Info("ready to hold", "socket", c.hold.Socket, "version", version)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	err = d.run(ctx, term, interrupt, served)
	cancel()
	if err == nil {
		err = <-served
	}
	return errors.Join(err, h.Close())
}

// Times of a process that holds.
const (
	look   = 100 * time.Millisecond // how often it is seen whether it may end
	alone  = 5 * time.Second        // nobody has been connected for so long: nobody will be
	parted = time.Second            // who said that the proxy has ended gets the answer
)

// holdDaemon is the running command.
type holdDaemon struct {
	c      *configuration
	h      *hold.Holder
	server *holding.Server
	log    *slog.Logger
}

// run returns when the process is to end. SIGTERM reaches all containers of a pod at once
// where there are no native sidecars, and the proxy goes on with its work for a while; so it
// is heeded only when the other side says that this is over, or is not there to say so.
func (d *holdDaemon) run(ctx context.Context, term, interrupt <-chan os.Signal, served <-chan error) error {
	tick, metrics := time.NewTicker(look), time.NewTicker(tick)
	defer tick.Stop()
	defer metrics.Stop()
	d.metrics()
	terminated, ended, seen := false, time.Time{}, time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return err
		case <-interrupt:
			return nil
		case <-term:
			terminated = true
			d.log.Info("told to end: this waits for the end of the proxy", "ended", d.h.HasEnded())
		case <-metrics.C:
			d.metrics()
		case now := <-tick.C:
			busy := d.server.Clients() > 0
			if busy || !d.h.Idle() {
				seen = now
			}
			if ended.IsZero() && d.h.HasEnded() {
				ended = now
			}
			over := !ended.IsZero() && (!busy || now.Sub(ended) > parted)
			if terminated && (over || now.Sub(seen) > alone) {
				return nil
			}
		}
	}
}

// metrics writes the metrics file, if there is to be one.
func (d *holdDaemon) metrics() {
	if d.c.MetricsFile == "" {
		return
	}
	err := netsetup.WriteFile(d.c.MetricsFile, func(w io.Writer) error { return d.h.WriteMetrics(w) })
	if err != nil {
		d.log.Error("metrics", "error", err.Error())
	}
}
