// Package migratetest has what the tests of several packages migrate.
package migratetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/migrate"
	"github.com/sluiceproxy/sluice/netsetup"
)

// Inputs are the files of the folder that are migrated.
func Inputs(t testing.TB, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".yaml" || ext == ".json" {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	require.NotEmpty(t, all)
	return all
}

// Options are those that the first line of the file asks for, as the command line has them:
// "# args: -n NAMESPACE -p NAME=VALUE".
func Options(t testing.TB, path string) migrate.Options {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	o := migrate.Options{Files: []migrate.File{{Name: filepath.Base(path), Text: string(text)}}, Params: map[string]string{}, Netsetup: Netsetup}
	var params []string
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.StringVarP(&o.Namespace, "namespace", "n", "", "")
	flags.StringVar(&o.Image, "image", "localhost/sluice:dev", "")
	flags.BoolVar(&o.Values, "values", false, "")
	flags.StringArrayVarP(&params, "param", "p", nil, "")
	first, _, _ := strings.Cut(string(text), "\n")
	args, _ := strings.CutPrefix(first, "# args: ")
	if args == first {
		args = ""
	}
	require.NoError(t, flags.Parse(strings.Fields(args)))
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		o.Params[name] = value
	}
	return o
}

// Netsetup checks what sluice-netsetup would, with the code of that program.
func Netsetup(environ []string) (problems []string, asked bool) {
	env := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	add := func(name string, ps []netsetup.Problem) {
		for _, p := range ps {
			problems = append(problems, name+": "+p.Msg)
		}
	}
	mode, err := netsetup.Legacy, error(nil)
	if env["EGRESS_ROUTER_MODE"] != "" {
		mode, err = netsetup.ParseMode(env["EGRESS_ROUTER_MODE"])
	}
	if err != nil {
		problems = append(problems, "EGRESS_ROUTER_MODE: "+err.Error())
	}
	sources, ps := netsetup.ParseSources(env["EGRESS_SOURCE"])
	add("EGRESS_SOURCE", ps)
	if len(ps) == 0 {
		add("EGRESS_GATEWAY", netsetup.ParseGateways(env["EGRESS_GATEWAY"], sources))
	}
	c := netsetup.Config{Mode: mode, Sources: sources}
	if mode.Redirects() {
		c.Destinations, ps = netsetup.ParseDestinations(env["EGRESS_DESTINATION"])
		add("EGRESS_DESTINATION", ps)
	}
	if len(problems) == 0 {
		add("EGRESS_SOURCE", c.Check())
	}
	return problems, true
}
