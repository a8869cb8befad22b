// Command sluice is the network-facing program of the Sluice egress gateway. It
// needs no privilege.
package main

import (
	"context"
	"io"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/built"
	"github.com/sluiceproxy/sluice/internal/cli"
)

var version = built.Version()

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), ofProcess()))
}

// ofProcess are the streams of this process. It is to be called before anything is opened.
func ofProcess() streams {
	return streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, exec: syscall.Exec,
		sockets: activation.Files(true),
		notify:  func(state string) error { _, err := systemd.SdNotify(false, state); return err },
	}
}

// streams are the standard streams, the way to become another program, and what whoever
// has started this one offers; tests bring their own.
type streams struct {
	in   io.Reader
	out  io.Writer
	err  io.Writer
	exec func(path string, argv, environ []string) error // returns only when it fails

	sockets []*os.File               // listening sockets that were opened for this process (sd_listen_fds(3))
	notify  func(state string) error // tells how the process is (sd_notify(3)); nil: nobody asks
}

// run is the program less the process: it returns the exit status.
func run(ctx context.Context, args, environ []string, s streams) int {
	return cli.Run(ctx, newRoot(environ, s), args, s.err, "commands")
}

func newRoot(environ []string, s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Egress gateway: a forward proxy with an ordered ACL, bound to its egress source",
		Long: `Sluice lets pods, build jobs and sandboxes reach the outside through one door,
from one known source address, and only where a written policy lets them.

Without a command the environment picks: EGRESS_HTTP_PROXY_DESTINATION makes it
"sluice proxy", EGRESS_DNS_PROXY_DESTINATION or SERVICE_DEST "sluice tcp",
EGRESS_ROUTER_MODE or EGRESS_DESTINATION the program sluice-netsetup beside it.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			mode, err := modeOf(environ)
			if err != nil {
				return cli.Wrong(err)
			}
			return runMode(cmd.Context(), mode, environ, s)
		},
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(newModeCommand(proxyCommand, environ, s), newModeCommand(tcpCommand, environ, s), newACLCommand(environ, s))
	printed := &cli.Output{To: s.out}
	s.out = printed
	for _, cmd := range []*cobra.Command{newMigrateCommand(s), newConvertCommand(s), newInspectCommand(environ, s), newProbe(s), cli.Version("sluice", s.out)} {
		printed.Whole(cmd)
		root.AddCommand(cmd)
	}
	cli.Strict(root)
	return root
}
