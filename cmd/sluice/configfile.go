package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// loadHere loads what "sluice proxy --config path" would run with in this environment, whose variables win over the
// file. It says which are set, since whoever asks of a file may not know of them.
func loadHere(path string, environ []string, s streams) (*config.Proxy, error) {
	set := settings.Environment(environ)
	var names []string
	for _, one := range config.ProxySettings() {
		for _, name := range []string{one.Env, one.Egress} {
			if set[name] != "" && name != configVariable {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		fmt.Fprintf(s.err, "%s: the environment is read too, as sluice proxy reads it, and wins: %s\n", path, strings.Join(names, ", "))
	}
	return config.LoadProxy(settings.Input{Environ: append(slices.Clone(environ), configVariable+"="+path)})
}

// loadAlone loads what a file says, whatever the environment is.
func loadAlone(path string) (*config.Proxy, error) {
	c, err := config.LoadProxy(settings.Input{Environ: []string{configVariable + "=" + path}})
	if err != nil {
		return nil, fmt.Errorf("%s, read without the environment (--environment reads it too):\n%w", path, err)
	}
	return c, nil
}

// guardTwice refuses --guard beside configurations, which say it themselves.
func guardTwice(cmd *cobra.Command, flag string) error {
	if f := cmd.Flags(); f.Changed(flag) && f.Changed("guard") {
		return cli.Wrong(fmt.Errorf("--guard and --%s are both given: a configuration says the guard; keep one of them", flag))
	}
	return nil
}

const configVariable = "SLUICE_CONFIG"
