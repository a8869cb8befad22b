package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/fdbudget"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/resolve"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// configuration is what the configurations of all modes can say.
type configuration interface {
	Shared() *config.Common
	Fixed() settings.Fixed
	NeedRestart(start settings.Fixed) []string
	Learns() bool // what no rule decides is allowed
}

// A mode is what tells one command that keeps running from another. The daemon calls its
// methods in the order in which they stand here; those from ready on by several goroutines.
type mode[C configuration] interface {
	// open makes the server, and opens the ports that are the same while it runs.
	open(c C, p *parts) error
	// tenants fills in what else c says of those who are served: those of s are the
	// configuration's, in its order. Rules that have expired at that time are left out.
	tenants(c C, s *policy.Set, at time.Time)
	// apply puts now in force, with what is judged by, or fails and has changed nothing.
	// before is nil at the start.
	apply(before, now C, gen *policy.Generation) error
	// serve takes connections from now on. failed may be called by any goroutine.
	serve(failed func(error))
	// renew puts gen in force in the place of the one of apply.
	renew(gen *policy.Generation)
	// revoke ends what is open and what is in force now would not admit.
	revoke()
	// cut ends what has a connection to a server: its source address is not ours any more.
	cut()
	// shutdown ends what is open, when ctx does at the latest, and closes what open has
	// come to.
	shutdown(ctx context.Context)

	// ready reports whether clients can be served.
	ready() bool
	// size says how much is in force, for the log.
	size(c C) slog.Attr
	// show fills in what the status page has of the mode.
	show(c C, st *admin.Status)
	// announce tells a person what runs and how to try it.
	announce(c C) announcement
}

// parts is what the daemon makes for a mode.
type parts struct {
	log      *slog.Logger
	metrics  *metrics.Metrics
	registry *prometheus.Registry
	budget   *fdbudget.Budget
	resolve  *resolve.Resolver
	gate     *outbound.Gate
	access   *linelog.Log // nil: there is none
	changed  func()       // to be called when ready has another answer
	listen   func(addr string) (*sock.Listener, error)
}

// announcement is what is said of a command when it runs.
type announcement struct {
	what     string   // "listens on …"
	rules    string   // lines
	try      string   // a command line; "": nothing can be tried
	warnings []string // for the log, of what stands in the rules
}

// modeCommand describes a command that runs a mode.
type modeCommand[C configuration] struct {
	use, short, long string
	settings         []settings.Setting
	load             func(settings.Input) (C, error)
	negativeTTL      time.Duration // how long at most it is believed that a name does not exist; 0: as the resolver does
	unguarded        string        // the warning when the guard is off
	new              func() mode[C]
}

func newModeCommand[C configuration](m modeCommand[C], environ []string, s streams) *cobra.Command {
	var check bool
	cmd := &cobra.Command{Use: m.use, Short: m.short, Long: m.long}
	settings.AddFlags(cmd.Flags(), m.settings)
	cmd.Flags().BoolVar(&check, "check", false, "check the settings and exit: 0 and what is doubtful, if anything is, or 2 and every problem")
	cmd.SetUsageFunc(usageByGroup)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in := settings.Input{Flags: cmd.Flags(), Environ: environ}
		if check {
			c, err := m.checked(in)
			if err == nil {
				for _, w := range c.Shared().Warnings {
					fmt.Fprintf(s.err, "warning: %v\n", w)
				}
			}
			return err
		}
		return m.run(cmd.Context(), in, s)
	}
	return cmd
}

// usageByGroup prints the flags under their headings.
func usageByGroup(cmd *cobra.Command) error {
	fmt.Fprintf(cmd.OutOrStderr(), "Usage:\n  %s\n", cmd.UseLine())
	for _, g := range settings.Usages(cmd.Flags()) {
		fmt.Fprintf(cmd.OutOrStderr(), "\n%s:\n%s", g.Title, g.Flags)
	}
	return nil
}

// checked loads the configuration and checks what only this host can tell.
func (m *modeCommand[C]) checked(in settings.Input) (c C, err error) {
	if c, err = m.load(in); err == nil && c.Shared().Holder == "" {
		err = outbound.CheckSources(policy.NewSources(c.Shared().Sources))
	}
	if err != nil {
		return c, cli.Wrong(err)
	}
	return c, nil
}
