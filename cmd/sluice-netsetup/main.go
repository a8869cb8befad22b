// Command sluice-netsetup sets up an egress pod's network: it is the part of Sluice
// that needs privilege (CAP_NET_ADMIN and CAP_NET_RAW), runs first, and listens on
// nothing but, to hold addresses, a Unix socket of the pod. See docs/netsetup.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/built"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/reload"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/netsetup"
)

var version = built.Version()

func main() {
	if err := raiseCapabilities(); err != nil {
		fmt.Fprintln(os.Stderr, "sluice-netsetup:", err)
		os.Exit(cli.StatusFailed)
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), streams{os.Stdout, os.Stderr}))
}

// streams are the standard streams; tests bring their own.
type streams struct {
	out io.Writer
	err io.Writer
}

// run is the program less the process: it returns the exit status. It works in the
// network namespace of the calling thread, and starts nothing on another.
func run(ctx context.Context, args, environ []string, s streams) int {
	return cli.Run(ctx, newRoot(environ, s), args, s.err, "flags")
}

func newRoot(environ []string, s streams) *cobra.Command {
	var check, dryRun bool
	root := &cobra.Command{
		Use:   "sluice-netsetup",
		Short: "Set up an egress pod's network: addresses, routes, neighbours, redirect rules",
		Long: `sluice-netsetup gives a pod its egress source address: it finds or makes the
interface, brings the addresses, sends everything but the cluster's own traffic by
their gateways, and tells the neighbours. In the modes init and legacy it loads the
redirect rules of EGRESS_DESTINATION as well. Running it again changes nothing.

A flag wins over the environment, the environment over the file.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	flags := root.Flags()
	settings.AddFlags(flags, new(configuration).settings())
	flags.BoolVar(&check, "check", false, "check the settings only: status 0 and silence, or 2 and every problem")
	flags.BoolVar(&dryRun, "dry-run", false, "print what would be changed, in the words of ip and nft, and change nothing")
	flags.SortFlags = false
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		r := reload.New[*configuration]()
		in := settings.Input{Flags: cmd.Flags(), Environ: environ, ReadFile: r.ReadFile}
		c, err := load(in)
		switch {
		case err != nil:
			return cli.Wrong(err)
		case check:
			return nil
		case c.Mode == netsetup.UnitTest:
			_, err := io.WriteString(s.out, netsetup.UnitTestRules(c.Config))
			return failed(err)
		case dryRun:
			return failed(printPlan(c.Config, s.out))
		}
		return failed(serve(cmd.Context(), in, r, c, s))
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(newHoldCommand(environ, s), newCountersCommand(s), cli.Version("sluice-netsetup", s.out))
	cli.Strict(root)
	return root
}

// failed is err with the status of a failure; nil stays nil.
func failed(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; the container needs the capabilities NET_ADMIN and NET_RAW", err)
	}
	return &cli.Exit{Status: cli.StatusFailed, Cause: fmt.Errorf("sluice-netsetup: %w", err)}
}

// serve sets up, and in legacy mode stays. A standard error that nobody reads any more,
// or that stalls, stops neither.
func serve(ctx context.Context, in settings.Input, r *reload.Reloader[*configuration], c *configuration, s streams) error {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // a second signal ends the process, whatever this waits for
	k, err := netsetup.OpenKernel()
	if err != nil {
		return err
	}
	defer k.Close()
	said := linelog.New(s.err, linelog.Options{Room: 1 << 20, Prompt: true})
	defer said.Close(time.Second)
	w := newWorker(k, in, r, slog.New(slog.NewJSONHandler(said, nil)))
	k.Trace = trace(c, w.log)
	return w.work(ctx, c)
}

// trace logs each change, when c says so; else it is nil.
func trace(c *configuration, log *slog.Logger) func(netsetup.Change) {
	if !c.Debug {
		return nil
	}
	return func(c netsetup.Change) { log.Info("change", "run", c.String()) }
}

func printPlan(c netsetup.Config, out io.Writer) error {
	k, err := netsetup.OpenKernel()
	if err != nil {
		return err
	}
	defer k.Close()
	state, err := k.Inspect(c.Mode.Redirects())
	if err != nil {
		return err
	}
	plan, err := netsetup.NewPlan(c, state)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, plan.String())
	return err
}

func newCountersCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "counters",
		Short: "Print what each redirect rule has counted",
		Long: `Prints the counters of the rules in the pod's nat tables. The chains prerouting and
postrouting count connections, the chain forward every packet.`,
		RunE: func(*cobra.Command, []string) error {
			k, err := netsetup.OpenKernel()
			if err != nil {
				return failed(err)
			}
			defer k.Close()
			counters, err := k.Counters()
			if err != nil {
				return failed(err)
			}
			if len(counters) == 0 {
				return failed(errors.New("no redirect rules are loaded here; the modes init and legacy load them"))
			}
			return failed(netsetup.WriteCounters(s.out, counters))
		},
	}
}
