// Command sluice is the network-facing program of the Sluice egress gateway. It
// needs no privilege.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), streams{os.Stdin, os.Stdout, os.Stderr}))
}

// streams are the standard streams; tests bring their own.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// exitError ends the program with a status. With no cause nothing more is said.
type exitError struct {
	status int
	cause  error
}

func (e *exitError) Error() string { return e.cause.Error() }

// Exit statuses, as acl.md and modes.md have them.
const (
	statusNotAllowed = 1 // acl test: a target is not allowed; otherwise: the program failed
	statusWrong      = 2 // wrong settings, rules or targets
)

// wrong is an error of whoever called the program.
func wrong(err error) error { return &exitError{statusWrong, err} }

// run is the program less the process: it returns the exit status.
func run(ctx context.Context, args, environ []string, s streams) int {
	root := newRoot(environ, s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.cause != nil {
			fmt.Fprintln(s.err, exit.cause)
		}
		return exit.status
	}
	// What cobra itself finds: unknown commands and flags.
	fmt.Fprintf(s.err, "sluice: %v\nsluice --help lists the commands.\n", err)
	return statusWrong
}

func newRoot(environ []string, s streams) *cobra.Command {
	proxy := newProxyCommand(environ, s)
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Egress gateway: a forward proxy with an ordered ACL, bound to its egress source",
		Long: `Sluice lets pods, build jobs and sandboxes reach the outside through one door,
from one known source address, and only where a written policy lets them.

Without a command the environment picks: EGRESS_HTTP_PROXY_DESTINATION makes it
"sluice proxy", EGRESS_DNS_PROXY_DESTINATION or SERVICE_DEST "sluice tcp".`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			mode, err := modeOf(environ)
			if err != nil {
				return wrong(err)
			}
			return runMode(cmd.Context(), mode, environ, s)
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(proxy, newTCPCommand(environ, s), newACLCommand(environ, s), newVersionCommand(s))
	return root
}

// modeVariables say which command a variable stands for (modes.md, "Which mode").
var modeVariables = []struct{ variable, command string }{
	{"EGRESS_HTTP_PROXY_DESTINATION", "proxy"},
	{"EGRESS_DNS_PROXY_DESTINATION", "tcp"},
	{"SERVICE_DEST", "tcp"},
}

// modeOf is the command that the environment asks for.
func modeOf(environ []string) (string, error) {
	var found []string
	command := ""
	for _, m := range modeVariables {
		if v, ok := lookupEnv(environ, m.variable); ok && v != "" {
			found = append(found, m.variable)
			command = m.command
		}
	}
	switch len(found) {
	case 1:
		return command, nil
	case 0:
		var all []string
		for _, m := range modeVariables {
			all = append(all, fmt.Sprintf("  %s  for sluice %s", m.variable, m.command))
		}
		return "", fmt.Errorf("sluice: no command given, and no variable that names one is set:\n%s\nSet one, or name a command: sluice --help lists them.", strings.Join(all, "\n"))
	}
	return "", fmt.Errorf("sluice: no command given, and several variables that name one are set: %s\nKeep one, or name the command.", strings.Join(found, ", "))
}

func runMode(ctx context.Context, command string, environ []string, s streams) error {
	root := newRoot(environ, s)
	root.SetArgs([]string{command})
	return root.ExecuteContext(ctx)
}

// lookupEnv is os.LookupEnv for an environment that was handed in. As for a
// process, the last setting of a variable counts.
func lookupEnv(environ []string, name string) (value string, ok bool) {
	for _, kv := range environ {
		if v, found := strings.CutPrefix(kv, name+"="); found {
			value, ok = v, true
		}
	}
	return value, ok
}

func newVersionCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(*cobra.Command, []string) {
			fmt.Fprintf(s.out, "sluice %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
