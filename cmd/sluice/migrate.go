package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/migrate"
)

func newMigrateCommand(s streams) *cobra.Command {
	o := migrate.Options{}
	var check bool
	var params []string
	cmd := &cobra.Command{
		Use:   "migrate FILE…",
		Short: "Make Sluice's manifests of those of the egress router, or of the community haproxy image",
		Long: `Reads pods, Deployments and their like, ConfigMaps, Services, Templates and EgressRouter
objects, as YAML or JSON (- is standard input), and prints the manifests that take their
place. Standard error gets a note for each thing that differs or is not taken over.

Status 0; 1 when something would break: then nothing is printed but that; 2 when the files
cannot be read, or hold nothing of an egress router. docs/migrate.md has the way from there.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Params, err = parameters(params); err == nil {
				o.Files, err = migrateFiles(args, s)
			}
			if err != nil {
				return cli.Wrong(fmt.Errorf("migrate: %w", err))
			}
			o.Netsetup = func(environ []string) ([]string, bool) { return askNetsetup(cmd.Context(), environ) }
			if err := runMigrate(o, check, s); err != nil || check || cmd.Flags().Changed("image") {
				return err
			}
			fmt.Fprintf(s.err, "migrate: the image is %s, which no registry has; --image REGISTRY/sluice:VERSION names yours\n", o.Image)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&check, "check", false, "say only what would break: 0 and silence, or 1 and a line for each thing")
	flags.BoolVar(&o.Values, "values", false, "print values for the Helm chart deploy/helm/sluice, not manifests; of one gateway")
	flags.StringArrayVarP(&params, "param", "p", nil, "`NAME=VALUE` of a Template's parameter; may be given several times")
	flags.StringVarP(&o.Namespace, "namespace", "n", "", "the `NAMESPACE` of objects that name none")
	flags.StringVar(&o.Image, "image", "localhost/sluice:dev", "the `IMAGE` of Sluice")
	return cmd
}

func runMigrate(o migrate.Options, check bool, s streams) error {
	r, err := migrate.Migrate(o)
	if err != nil {
		return cli.Wrong(fmt.Errorf("migrate: %w", err))
	}
	if check {
		for _, n := range r.Broken() {
			fmt.Fprintln(s.out, n)
		}
	} else {
		for _, n := range r.Notes {
			fmt.Fprintln(s.err, n)
		}
		fmt.Fprint(s.out, r.Manifest)
	}
	if n := len(r.Broken()); n > 0 {
		failed := &cli.Exit{Status: cli.StatusFailed}
		if !check {
			failed.Cause = fmt.Errorf("migrate: nothing is written, since %d of these would break; --check lists them alone", n)
		}
		return failed
	}
	return nil
}

// parameters reads NAME=VALUE.
func parameters(words []string) (map[string]string, error) {
	params := map[string]string{}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("-p %s: write NAME=VALUE", w)
		}
		params[name] = value
	}
	return params, nil
}

func migrateFiles(paths []string, s streams) (all []migrate.File, err error) {
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			return nil, fmt.Errorf("%s is named twice; name each file once", path)
		}
		b, err := readRules(path, s)
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		all = append(all, migrate.File{Name: path, Text: string(b)})
	}
	return all, nil
}

// askNetsetup has the program beside this one check an environment.
func askNetsetup(ctx context.Context, environ []string) (problems []string, asked bool) {
	path, err := findNetsetup()
	if err != nil {
		return nil, false
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "--check")
	cmd.Env, cmd.Stderr = environ, &said
	err = cmd.Run()
	wrong, ok := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil, true
	case ok && wrong.ExitCode() == cli.StatusWrong:
		return strings.Split(strings.TrimSpace(said.String()), "\n"), true
	}
	return nil, false
}
