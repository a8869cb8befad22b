package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
)

func newACLCommand(environ []string, s streams) *cobra.Command {
	cmd := &cobra.Command{Use: "acl", Short: "Check rules, and ask what they decide"}
	cmd.AddCommand(newACLCheck(environ, s), newACLTest(environ, s))
	return cmd
}

const rulesVariable = "EGRESS_HTTP_PROXY_DESTINATION"

func newACLCheck(environ []string, s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE|-]",
		Short: "Check rules: 0 and silence, or 2 and one line a problem",
		Long: `Check the rules in FILE, on standard input (-), or, without an argument, in
` + rulesVariable + `. Warnings go to standard error and leave the status 0.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := ""
			if len(args) > 0 {
				file = args[0]
			}
			p, err := readPolicy(file, environ, s)
			if err != nil {
				return wrong(err)
			}
			for _, w := range p.Warnings() {
				fmt.Fprintf(s.err, "%s (warning)\n", w.Error())
			}
			return nil
		},
	}
}

// readPolicy reads rules from a file, "-" for standard input, "" for the
// environment.
func readPolicy(file string, environ []string, s streams) (*acl.Policy, error) {
	switch file {
	case "":
		text, ok := lookupEnv(environ, rulesVariable)
		if !ok || text == "" {
			return nil, errors.New("No " + rulesVariable + " specified: set it, or name a file of rules")
		}
		return acl.ParseNamed(rulesVariable, text)
	case "-":
		b, err := io.ReadAll(s.in)
		if err != nil {
			return nil, fmt.Errorf("read rules from standard input: %w", err)
		}
		return acl.ParseNamed("-", string(b))
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return acl.ParseNamed(file, string(b))
}
