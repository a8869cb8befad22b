package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/files"
	"github.com/sluiceproxy/sluice/internal/settings"
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
				return cli.Wrong(err)
			}
			for _, w := range p.Warnings() {
				fmt.Fprintf(s.err, "%s (warning)\n", w.Error())
			}
			return nil
		},
	}
}

// readPolicy reads rules from files at paths, "-" for standard input, as one list; from the
// environment if there are none.
func readPolicy(paths []string, environ []string, s streams) (*acl.Policy, error) {
	if len(paths) == 0 {
		text := settings.Environment(environ)[rulesVariable]
		if text == "" {
			return nil, errors.New("No " + rulesVariable + " specified: set it, or name a file of rules")
		}
		return acl.ParseNamed(rulesVariable, text)
	}
	var texts []acl.Text
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			return nil, fmt.Errorf("read rules: %s is named twice; each file of rules is read once, in the order given", path)
		}
		b, err := readRules(path, s)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		texts = append(texts, acl.Text{Source: path, Text: string(b)})
	}
	return acl.ParseTexts(texts...)
}

// readRules reads a file, or standard input. A pipe is as good here, /dev/stdin or what a
// shell makes of <(…): who waits for it can end it.
func readRules(path string, s streams) ([]byte, error) {
	if path == "-" {
		b, err := files.ReadStream(s.in, "-")
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return b, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return files.ReadStream(f, path)
}
