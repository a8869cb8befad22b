package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

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
		Use:   "check [FILE|-]…",
		Short: "Check rules: 0 and silence, or 2 and one line a problem",
		Long: `Check the rules in FILE, on standard input (-), or, without an argument, in
` + rulesVariable + `. Several files are one list, in the order given.
Warnings go to standard error and leave the status 0.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readPolicy(args, environ, s)
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

// readPolicy reads rules from files, "-" for standard input, as one list; from the
// environment if there are none.
func readPolicy(files []string, environ []string, s streams) (*acl.Policy, error) {
	if len(files) == 0 {
		text, ok := lookupEnv(environ, rulesVariable)
		if !ok || text == "" {
			return nil, errors.New("No " + rulesVariable + " specified: set it, or name a file of rules")
		}
		return acl.ParseNamed(rulesVariable, text)
	}
	var texts []acl.Text
	for i, file := range files {
		if slices.Contains(files[:i], file) {
			return nil, fmt.Errorf("read rules: %s is named twice; each file of rules is read once, in the order given", file)
		}
		b, err := readRules(file, s)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		texts = append(texts, acl.Text{Source: file, Text: string(b)})
	}
	return acl.ParseTexts(texts...)
}

func readRules(file string, s streams) ([]byte, error) {
	if file != "-" {
		return os.ReadFile(file)
	}
	b, err := io.ReadAll(s.in)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return b, nil
}
