package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func newACLHash(environ []string, s streams) *cobra.Command {
	var guard, file string
	cmd := &cobra.Command{
		Use:   "hash [FILE|-]… | hash --config FILE",
		Short: "Print the hash that a gateway has these rules under",
		Long: `Print the hash of the rules in FILE, on standard input (-), or, without an argument, in
` + rulesVariable + `; with --config that of what
"sluice proxy" has with that configuration in this environment, whose variables win. It is what GET /api/policy answers when they are in force: comments,
spelling, owners and the clock change nothing. docs/policy.md says of what bytes it is.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := guardTwice(cmd, "config"); err != nil {
				return err
			}
			set, err := hashedSet(file, guard, args, environ, s)
			if err != nil {
				return cli.Wrong(err)
			}
			fmt.Fprintln(s.out, set.Hash())
			return nil
		},
	}
	cmd.Flags().StringVar(&guard, "guard", "default", "default, strict or off")
	cmd.Flags().StringVar(&file, "config", "", "configuration file of sluice proxy")
	return cmd
}

// hashedSet is what a hash is of.
func hashedSet(file, guard string, args, environ []string, s streams) (set policy.Set, err error) {
	if file != "" {
		if len(args) > 0 {
			return set, errors.New("--config and a file of rules are both given; keep one of them")
		}
		c, err := loadHere(file, environ, s)
		if err != nil {
			return set, err
		}
		set = setOf(c.Shared(), nil, time.Now())
		(&proxyMode{usages: new(tenantUsages)}).tenants(c, &set, time.Now())
		return set, nil
	}
	mode, err := acl.ParseGuardMode(guard)
	if err != nil {
		return set, fmt.Errorf("--guard: %w", err)
	}
	p, err := readPolicy(args, environ, s)
	if err != nil {
		return set, err
	}
	set.Rest.Rules = p.WithGuard(acl.Guard{Mode: mode})
	return set, nil
}
