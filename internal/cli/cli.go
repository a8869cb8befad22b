// Package cli makes a command line strict: what it does not know is an error that
// says what was probably meant, on every level, and never the help with status 0.
package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluiceproxy/sluice/internal/spelling"
)

// Strict prepares the finished tree of commands. It gives the root the flag
// --version, which prints what the command version does. Commands whose Args are
// nil take none.
func Strict(root *cobra.Command) {
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetHelpCommand(helpCommand(root))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return flagError(root, cmd, err) })
	addVersion(root)
	addMan(root)
	strict(root)
}

func strict(cmd *cobra.Command) {
	if cmd.Args == nil || cmd.HasSubCommands() {
		cmd.Args = noArguments
	}
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s: name a command: %s", cmd.CommandPath(), strings.Join(commands(cmd), ", "))
		}
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// commands are the names of what cmd can do.
func commands(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	return names
}

// noArguments refuses arguments: where there are commands, one was meant.
func noArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case cmd.HasSubCommands():
		return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), spelling.DidYouMean("", args[0], commands(cmd)))
	}
	return fmt.Errorf("%s takes no arguments, and %q is one", cmd.CommandPath(), args[0])
}

// flagError adds to an error of a flag's what was probably meant: a flag of the
// command, or one of another command.
func flagError(root, cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	name := unknown.GetSpecifiedName()
	if len(name) < 2 {
		return err
	}
	if of := commandsWith(root, name); len(of) > 0 {
		return fmt.Errorf("%w of %s; it is one of %s", err, cmd.CommandPath(), strings.Join(of, " and "))
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
	return fmt.Errorf("%w%s", err, spelling.DidYouMean("--", "--"+name, known))
}

func commandsWith(cmd *cobra.Command, flag string) (paths []string) {
	if cmd.Flags().Lookup(flag) != nil {
		paths = append(paths, cmd.CommandPath())
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			paths = append(paths, commandsWith(sub, flag)...)
		}
	}
	return paths
}

// helpCommand is cobra's, but for what it does not know.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				if len(rest) == 0 {
					cmd, rest = root, args
				}
				return noArguments(cmd, rest)
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// addVersion makes --version do what the command version does.
func addVersion(root *cobra.Command) {
	i := slices.IndexFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == "version" })
	if i < 0 || root.RunE == nil {
		return
	}
	version, run := root.Commands()[i], root.RunE
	print := root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *print {
			return version.RunE(version, nil)
		}
		return run(cmd, args)
	}
}
