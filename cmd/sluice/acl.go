package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/files"
	"github.com/sluiceproxy/sluice/internal/settings"
)

func newACLCommand(environ []string, s streams) *cobra.Command {
	cmd := &cobra.Command{Use: "acl", Short: "Check rules, and ask what they decide"}
	printed := &cli.Output{To: s.out}
	s.out = printed
	cmd.AddCommand(newACLCheck(environ, s), newACLTest(environ, s), newACLLint(environ, s), newACLDiff(environ, s), newACLExplain(environ, s), newACLHash(environ, s), newACLSuggest(s))
	printed.Whole(cmd)
	return cmd
}

const rulesVariable = "EGRESS_HTTP_PROXY_DESTINATION"

func newACLCheck(environ []string, s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE|-]…",
		Short: "Check rules: 0 and silence, or 2 and one line a problem",
		Long: `Check the rules in FILE, on standard input (-), or, without an argument, in
` + rulesVariable + `. Several files are one list, in the order given.
Warnings go to standard error and leave the status 0; an assertion that does not hold is a problem.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			p, texts, err := readTexts(args, environ, s)
			if err != nil {
				return cli.Wrong(err)
			}
			return checked(p, texts, s)
		},
	}
}

// checked prints what is doubtful about rules, and fails when an assertion does not hold.
func checked(p *acl.Policy, texts []acl.Text, s streams) error {
	now := time.Now()
	warnings := slices.Clone(p.Warnings())
	for _, f := range slices.Concat(audit.Openings(p.At(now)), audit.ExpiredRules(p, audit.LintOptions{Now: now})) {
		warnings = append(warnings, p.Problem(f.Rule.Pos, f.Msg))
	}
	for _, t := range texts {
		if t.Source != rulesVariable {
			warnings = append(warnings, checkText(t, p)...)
		}
	}
	slices.SortStableFunc(warnings, func(a, b acl.Problem) int {
		if a.Source == b.Source {
			return cmp.Compare(a.Line, b.Line)
		}
		return 0
	})
	for _, w := range warnings {
		fmt.Fprintf(s.err, "%s (warning)\n", w.Error())
	}
	wrong, expired := audit.Verify(p, now, audit.Options{})
	var problems []error
	for _, b := range slices.Concat(wrong, expired) {
		problems = append(problems, b.Problem())
	}
	if len(problems) > 0 {
		return cli.Wrong(errors.Join(problems...))
	}
	return nil
}

// readPolicy reads rules from files at paths, "-" for standard input, as one list; from the
// environment if there are none.
func readPolicy(paths []string, environ []string, s streams) (*acl.Policy, error) {
	p, _, err := readTexts(paths, environ, s)
	return p, err
}

// readTexts is readPolicy, with the texts.
func readTexts(paths []string, environ []string, s streams) (*acl.Policy, []acl.Text, error) {
	var texts []acl.Text
	if len(paths) == 0 {
		text := settings.Environment(environ)[rulesVariable]
		if text == "" {
			return nil, nil, errors.New("No " + rulesVariable + " specified: set it, or name a file of rules")
		}
		texts = []acl.Text{{Source: rulesVariable, Text: text}}
	}
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			return nil, nil, fmt.Errorf("read rules: %s is named twice; each file of rules is read once, in the order given", path)
		}
		b, err := readRules(path, s)
		if err != nil {
			return nil, nil, fmt.Errorf("read rules: %w", err)
		}
		texts = append(texts, acl.Text{Source: path, Text: string(b)})
	}
	p, err := acl.ParseTexts(texts...)
	return p, texts, err
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
