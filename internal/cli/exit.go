package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/built"
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

// Version is the command that prints what a program was built from.
func Version(program string, out io.Writer) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what the program was built from",
		RunE: func(*cobra.Command, []string) error {
			i := built.Read()
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(i)
			}
			fmt.Fprintf(out, "%s %s %s %s\nbuilt from %s\n", program, i.Version, i.Go, i.Platform, origin(i))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON, with the modules that are in the program")
	return cmd
}

// origin is where a program's source is.
func origin(i built.Info) string {
	if i.Commit == "" {
		return "a commit that is not known"
	}
	s := "commit " + i.Commit + " of " + i.Date
	if i.Modified {
		s += ", and changes to it"
	}
	return s
}
