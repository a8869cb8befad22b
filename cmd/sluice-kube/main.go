// Command sluice-kube is the part of Sluice that knows the API server: it says who has
// which address, and whom a token was given to, on a Unix socket for the network-facing
// program, which has no access to the API. It needs no privilege. See docs/directory.md.
package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/built"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/settings"
)

var version = built.Version()

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), streams{os.Stdout, os.Stderr}))
}

// streams are the standard streams; tests bring their own.
type streams struct {
	out io.Writer
	err io.Writer
}

// run is the program less the process: it returns the exit status.
func run(ctx context.Context, args, environ []string, s streams) int {
	return cli.Run(ctx, newRoot(environ, s), args, s.err, "commands")
}

func newRoot(environ []string, s streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "sluice-kube",
		Short:         "What Sluice asks of the Kubernetes API server",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	directory := &cobra.Command{
		Use:   "directory",
		Short: "Serve who has which address, and whom a token was given to, on a Unix socket",
		Long: `Watches the pods of the cluster, or of some namespaces, and serves their addresses on
a Unix socket to sluice, which has no access to the API server itself. Tokens of service
accounts are judged there as well.

A flag wins over the environment, the environment over the file.`,
	}
	settings.AddFlags(directory.Flags(), new(configuration).settings())
	directory.Flags().SortFlags = false
	directoryCheck := addCheck(directory)
	directory.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := load(settings.Input{Flags: cmd.Flags(), Environ: environ}, *directoryCheck)
		switch {
		case err != nil:
			return cli.Wrong(err)
		case *directoryCheck:
			return nil
		}
		return serve(cmd.Context(), c, s)
	}
	holding := &cobra.Command{
		Use:   "hold",
		Short: "Hold the source addresses by a Lease, so that one replica has them at a time",
		Long: `Takes and renews a Lease for each group of source addresses, and has
sluice-netsetup hold in the same pod let the addresses out while it is this replica's turn.
Proxies of the pod (--holder) are told what is held. See docs/failover.md.`,
	}
	settings.AddFlags(holding.Flags(), new(holdConfiguration).settings())
	holding.Flags().SortFlags = false
	holdingCheck := addCheck(holding)
	holding.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadHold(settings.Input{Flags: cmd.Flags(), Environ: environ}, *holdingCheck)
		switch {
		case err != nil:
			return cli.Wrong(err)
		case *holdingCheck:
			return nil
		}
		return serveHold(cmd.Context(), c, s)
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(directory, holding, cli.Version("sluice-kube", s.out))
	cli.Strict(root)
	return root
}

// failed is err with the status of a failure, unless it has another.
func failed(err error) error {
	if _, has := errors.AsType[*cli.Exit](err); has || err == nil {
		return err
	}
	return &cli.Exit{Status: cli.StatusFailed, Cause: err}
}

// addCheck gives a command the flag by which it checks its settings and does no more.
func addCheck(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("check", false, "check the settings only: status 0 and silence, or 2 and every problem")
}
