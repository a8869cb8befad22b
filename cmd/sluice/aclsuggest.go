package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/suggest"
	"github.com/sluiceproxy/sluice/internal/cli"
)

// aclSuggest is one call of "sluice acl suggest".
type aclSuggest struct {
	logs  []string
	fold  int
	guard string
	json  bool

	tenant   string
	ofTenant bool // tenant was given
}

func newACLSuggest(s streams) *cobra.Command {
	var a aclSuggest
	cmd := &cobra.Command{
		Use:   "suggest --log FILE…",
		Short: "Make a list of rules that allows what access logs have recorded",
		Long: `Make a short list of rules that allows what was reached by the access logs in FILE, or on
standard input (-): those of "sluice proxy" in JSON or in squid's format, of "sluice tcp", and of squid.
Names that share a domain become one rule, but never at or above a public suffix such as co.uk, and
never where something was denied. Ports stand in a rule when they are not 80 or 443. What was denied,
guarded, or failed stands behind the rules, as comments.

Status 0: there is a list, 1: nothing was reached, 2: a log cannot be read.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.ofTenant = cmd.Flags().Changed("tenant")
			a.logs = append(a.logs, args...)
			return a.run(s)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&a.logs, "log", nil, "access log, - for standard input; repeatable, and more may stand behind the flags")
	f.IntVar(&a.fold, "fold", 4, "make one rule of so many names of a domain, or more")
	f.StringVar(&a.tenant, "tenant", "", "read only what this tenant's clients have asked for: its list")
	f.StringVar(&a.guard, "guard", "default", "guard that the list is for: default, strict or off")
	f.BoolVar(&a.json, "json", false, "JSON, as docs/schema has it")
	return cmd
}

func (a *aclSuggest) run(s streams) error {
	guard, err := acl.ParseGuardMode(a.guard)
	switch {
	case err != nil:
		return cli.Wrong(fmt.Errorf("--guard: %w", err))
	case a.fold < 2:
		return cli.Wrong(fmt.Errorf("--fold: %d names are no domain's; write 2 or more", a.fold))
	case len(a.logs) == 0:
		return cli.Wrong(errors.New("name an access log with --log; - is standard input"))
	}
	var l suggest.Log
	for i, path := range a.logs {
		if slices.Contains(a.logs[:i], path) {
			return cli.Wrong(fmt.Errorf("--log: %s is named twice, and would count twice", path))
		}
		err := readLog(path, s, func(r *suggest.Request) {
			if !a.ofTenant || r.Tenant == a.tenant {
				l.Add(r)
			}
		})
		if err != nil {
			return cli.Wrong(err)
		}
	}
	list := l.Suggest(suggest.Options{Fold: a.fold, Guard: guard})
	if a.json {
		err = printJSON(s, suggestOutputOf(list))
	} else {
		_, err = io.WriteString(s.out, list.String())
	}
	switch {
	case err != nil:
		return err
	case len(list.Rules) == 0:
		return &cli.Exit{Status: cli.StatusFailed}
	}
	return nil
}

// readLog reads an access log; "-" is standard input.
func readLog(path string, s streams, f func(*suggest.Request)) error {
	in := s.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("--log: %w", err)
		}
		defer file.Close()
		in = file
	}
	if err := suggest.Read(in, path, f); err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	return nil
}

// suggestOutput is what "sluice acl suggest --json" prints: docs/schema/acl-suggest.json.
type suggestOutput struct {
	Requests int             `json:"requests"`
	Unread   int             `json:"unread,omitempty"`
	Rules    []suggestedRule `json:"rules"`
	Denied   []suggestBeside `json:"denied,omitempty"`
	Guarded  []suggestBeside `json:"guarded,omitempty"`
	Failed   []suggestBeside `json:"failed,omitempty"`
	Text     string          `json:"text"`
}

type suggestUse struct {
	Requests     int        `json:"requests"`
	First        *time.Time `json:"first,omitempty"`
	Last         *time.Time `json:"last,omitempty"`
	ShadowDenied int        `json:"shadow_denied,omitempty"`
}

type suggestedRule struct {
	Rule  string   `json:"rule"`
	Names []string `json:"names,omitempty"`
	suggestUse
}

type suggestBeside struct {
	Target string `json:"target"`
	Why    string `json:"why,omitempty"`
	suggestUse
}

func suggestOutputOf(l *suggest.Suggestion) suggestOutput {
	out := suggestOutput{Requests: l.Requests, Unread: l.Unread, Rules: []suggestedRule{}, Text: l.String()}
	for _, r := range l.Rules {
		out.Rules = append(out.Rules, suggestedRule{r.Text, r.Names, suggestUseOf(&r.Use)})
	}
	besides := func(all []suggest.Beside) (out []suggestBeside) {
		for _, b := range all {
			out = append(out, suggestBeside{b.Target.String(), b.Why, suggestUseOf(&b.Use)})
		}
		return out
	}
	out.Denied, out.Guarded, out.Failed = besides(l.Denied), besides(l.Guarded), besides(l.Failed)
	return out
}

func suggestUseOf(u *suggest.Use) suggestUse {
	out := suggestUse{Requests: u.Requests, ShadowDenied: u.ShadowDenied}
	if !u.First.IsZero() {
		first, last := u.First.UTC(), u.Last.UTC()
		out.First, out.Last = &first, &last
	}
	return out
}
