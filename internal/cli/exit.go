package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

// Exit statuses, as acl.md and modes.md have them.
const (
	StatusFailed = 1 // the program failed; acl test: a target is not allowed
	StatusWrong  = 2 // wrong settings, rules or targets, or a wrong command line
)

// Exit is an error that ends the program with a status. With no Cause nothing more is said.
type Exit struct {
	Status int
	Cause  error
}

func (e *Exit) Error() string { return fmt.Sprint(e.Cause) }

// Wrong is an error of whoever called the program.
func Wrong(err error) error { return &Exit{StatusWrong, err} }

// Status is the status that err has, or that of a failure.
func Status(err error) int {
	if e, ok := errors.AsType[*Exit](err); ok {
		return e.Status
	}
	return StatusFailed
}

// Run executes the finished tree of commands, says on stderr what is wrong, and returns the
// exit status. help is what --help lists.
func Run(ctx context.Context, root *cobra.Command, args []string, stderr io.Writer, help string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*Exit](err); ok {
		if exit.Cause != nil {
			fmt.Fprintln(stderr, exit.Cause)
		}
		return exit.Status
	}
	// What cobra itself finds: unknown commands and flags.
	fmt.Fprintf(stderr, "%s: %v\n%[1]s --help lists the %[3]s.\n", root.Name(), err, help)
	return StatusWrong
}

// Version is the command that prints a program's version.
func Version(program, version string, out io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Run: func(*cobra.Command, []string) {
			fmt.Fprintf(out, "%s %s %s %s/%s\n", program, version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
