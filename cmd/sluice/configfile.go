package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/files"
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
	return config.LoadProxy(configured(path, environ, s))
}

// configured is --config path in an environment. In the place of the configuration itself, the first file that is
// read, standard input (-) is as good.
func configured(path string, environ []string, s streams) settings.Input {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	settings.AddFlags(flags, config.ProxySettings())
	if err := flags.Set("config", path); err != nil {
		panic(err) // there is such a flag, and it takes any text
	}
	first := true
	return settings.Input{Flags: flags, Environ: environ, ReadFile: func(path string) ([]byte, error) {
		stdin := first && path == "-"
		if first = false; stdin {
			return files.ReadStream(s.in, "standard input")
		}
		return files.Read(path)
	}}
}

// loadAlone loads what a file says, whatever the environment is.
func loadAlone(path string, s streams) (*config.Proxy, error) {
	c, err := config.LoadProxy(configured(path, nil, s))
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
