package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/cli"
)

// aclLint is one call of "sluice acl lint".
type aclLint struct {
	auditFlags
	format, config string
	keep           bool // of config: rules go on when their day has passed
}

func newACLLint(environ []string, s streams) *cobra.Command {
	var a aclLint
	cmd := &cobra.Command{
		Use:   "lint [FILE|-]…",
		Short: "Find rules that never decide, that could go, or that open more than they seem to",
		Long: `Find what is doubtful in the rules in FILE, on standard input (-), or, without an argument,
in ` + rulesVariable + `. Several files are one list. What is said of a
line is proved over all names, addresses and ports at once; each finding names its lines, and a target
that shows it. With --config the rules of each tenant are looked at, as "sluice proxy" has them with that
configuration in this environment, whose variables win, and what is said of inspected hosts: request rules that never decide, or allow what is not denied; hosts that others come before, or that
no rule allows.

Status 0: nothing found, 1: something, 2: wrong rules, or a list too large for --limit.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := guardTwice(cmd, "config"); err != nil {
				return err
			}
			return a.run(args, environ, s)
		},
	}
	a.add(cmd.Flags())
	cmd.Flags().StringVar(&a.config, "config", "", "configuration file of sluice proxy, whose rules and inspected hosts are looked at")
	cmd.Flags().StringVar(&a.format, "format", "text", "text, json, github (annotations), gitlab (a code quality report) or sarif")
	return cmd
}

func (a *aclLint) run(args, environ []string, s streams) error {
	if a.json {
		if a.format != "text" && a.format != "json" {
			return cli.Wrong(fmt.Errorf("--json and --format %s are both given; keep one of them", a.format))
		}
		a.format = "json"
	}
	if !slices.Contains([]string{"text", "json", "github", "gitlab", "sarif"}, a.format) {
		return cli.Wrong(errors.New("--format: write text, json, github, gitlab or sarif"))
	}
	out, err := a.lint(args, environ, s)
	if err != nil {
		return cli.Wrong(err)
	}
	switch a.format {
	case "json":
		err = printJSON(s, out)
	case "sarif":
		err = printJSON(s, out.sarif())
	case "gitlab":
		err = printJSON(s, out.gitlab())
	case "github":
		out.github(s)
	default:
		out.print(s)
	}
	switch {
	case err != nil:
		return err
	case !out.Complete:
		fmt.Fprintf(s.err, "cannot tell all: %s\n", out.Why)
		return &cli.Exit{Status: cli.StatusWrong}
	case len(out.Findings) > 0:
		return &cli.Exit{Status: cli.StatusFailed}
	}
	return nil
}

// lint finds what is doubtful in the rules of args, or in the configuration.
func (a *aclLint) lint(args, environ []string, s streams) (out lintOutput, err error) {
	if a.config != "" {
		if len(args) > 0 {
			return out, errors.New("--config and files of rules are both given; keep one of them")
		}
		return a.lintConfig(environ, s)
	}
	p, err := readPolicy(args, environ, s)
	if err != nil {
		return out, err
	}
	now, err := a.time()
	if err != nil {
		return out, err
	}
	o, err := a.put(&p)
	if err != nil {
		return out, err
	}
	r := audit.Lint(p, audit.LintOptions{Options: o, Now: now})
	out = lintOutput{Complete: r.Complete(), Why: r.Why, Findings: []lintFinding{}}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, findingOf(&f, p))
	}
	return out, nil
}

// lintOutput is what "sluice acl lint --json" prints: docs/schema/acl-lint.json.
type lintOutput struct {
	Complete bool          `json:"complete"`
	Why      string        `json:"why,omitempty"`
	Findings []lintFinding `json:"findings"`

	seen map[seenFinding]bool // those of Findings
}

// seenFinding is what tells findings apart.
type seenFinding struct {
	kind, file string
	line       int
	message    string
}

type lintFinding struct {
	Kind    string     `json:"kind"`
	File    string     `json:"file"`
	Line    int        `json:"line"`
	Rule    string     `json:"rule"`
	Lines   []lintLine `json:"lines,omitempty"`
	Ports   string     `json:"ports,omitempty"`
	Until   string     `json:"until,omitempty"` // the last day on which it does not decide
	Target  string     `json:"target,omitempty"`
	Message string     `json:"message"`
	Opens   bool       `json:"opens"`
}

// serious reports whether it is told as a warning: it opens, it is over, or a line is in vain, which may
// be one that was to deny.
func (f *lintFinding) serious() bool {
	return f.Opens || strings.HasSuffix(f.Kind, string(audit.NeverDecides)) || f.Kind == string(audit.DecidesLater) || f.Kind == string(audit.Expired)
}

type lintLine struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line"`
	Rule string `json:"rule"`
}

func findingOf(f *audit.Finding, p *acl.Policy) lintFinding {
	out := lintFinding{Kind: string(f.Kind), File: p.Problem(f.Rule.Pos, "").Source, Line: f.Rule.Line, Rule: f.Rule.Text, Message: f.Msg, Opens: f.Opens}
	for _, l := range f.Lines {
		out.Lines = append(out.Lines, lintLine{l.Source, l.Line, l.Text})
	}
	if f.Ports != nil {
		out.Ports = portText(f.Ports)
	}
	if !f.Until.IsZero() {
		out.Until = f.Until.Format(time.DateOnly)
	}
	if f.Target.Host.IsValid() {
		out.Target = f.Target.String()
	}
	return out
}

func (o *lintOutput) print(s streams) {
	paint := colours(s)
	for _, f := range o.Findings {
		meaning := ""
		if f.Opens {
			meaning = "warning"
		}
		fmt.Fprintf(s.out, "%s:%d: %s: %s\n", f.File, f.Line, paint(meaning, f.Kind), f.Message)
	}
}

// github prints annotations: https://docs.github.com/actions/reference/workflow-commands
func (o *lintOutput) github(s streams) {
	data := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, f := range o.Findings {
		level := "notice"
		if f.serious() {
			level = "warning"
		}
		fmt.Fprintf(s.out, "::%s file=%s,line=%d,title=%s::%s\n", level, property.Replace(f.File), f.Line, property.Replace(f.Kind), data.Replace(f.Message))
	}
}

// gitlab is a code quality report: https://docs.gitlab.com/ci/testing/code_quality/
func (o *lintOutput) gitlab() any {
	type object = map[string]any
	all, seen := []object{}, map[string]int{}
	for _, f := range o.Findings {
		severity := "minor"
		if f.serious() {
			severity = "major"
		}
		// What stays when lines come and go in front of it, apart from lines alike.
		what := strings.Join([]string{f.Kind, f.File, f.Rule}, "\n")
		seen[what]++
		all = append(all, object{
			"description": f.Message, "check_name": f.Kind, "severity": severity,
			"fingerprint": fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s\n%d", what, seen[what]))),
			"location":    object{"path": path.Clean(f.File), "lines": object{"begin": f.Line}},
		})
	}
	return all
}

// sarif is the log of SARIF 2.1.0, which GitHub reads.
func (o *lintOutput) sarif() any {
	type object = map[string]any
	results, rules, seen := []object{}, []object{}, map[string]bool{}
	for _, f := range o.Findings {
		if !seen[f.Kind] {
			seen[f.Kind] = true
			rules = append(rules, object{"id": f.Kind})
		}
		level := "note"
		if f.serious() {
			level = "warning"
		}
		results = append(results, object{
			"ruleId": f.Kind, "level": level, "message": object{"text": f.Message},
			"locations": []object{{"physicalLocation": object{
				"artifactLocation": object{"uri": (&url.URL{Path: f.File}).String()}, "region": object{"startLine": f.Line},
			}}},
		})
	}
	return object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{
			"tool":    object{"driver": object{"name": "sluice acl lint", "version": version, "rules": rules}},
			"results": results,
		}},
	}
}

// checkText warns of a text that may have been cut, and does not say that it is whole.
func checkText(t acl.Text, p *acl.Policy) (warnings []acl.Problem) {
	if p.Whole() || t.Text == "" {
		return nil
	}
	if !strings.HasSuffix(t.Text, "\n") {
		warnings = append(warnings, acl.Problem{Source: t.Source, Msg: "the text ends without a newline: it may be cut off; end it with the line #@ end"})
	}
	if line := strings.TrimSpace(t.Text); strings.HasPrefix(line, "#") && !strings.Contains(line, "\n") {
		warnings = append(warnings, acl.Problem{Source: t.Source, Line: 1, Msg: "the text is one comment as a whole, and denies everything: has YAML folded its lines? Write it behind |, not >"})
	}
	return warnings
}
