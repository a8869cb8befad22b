package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl/convert"
	"github.com/sluiceproxy/sluice/internal/cli"
)

func newConvertCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert",
		Short: "Make rules of the configuration of another proxy",
		Long: `Prints the rules, or the configuration file, that say what the other proxy's configuration
says; never more than it allows. Standard error gets a line for all that is not said.

Status 0: it decides alike; 1: some requests are decided otherwise, and the lines say which; 2:
the configuration cannot be read. docs/convert.md tells what is understood.`,
	}
	cmd.AddCommand(newConvertSquid(s), newConvertSmokescreen(s), newConvertTinyproxy(s), newConvertHAProxy(s))
	return cmd
}

// converter is the frame of the commands: the flags that all have, and what is printed.
type converter struct {
	json bool
	root string
	s    streams
}

// command is one of them. convert gets the path of the configuration.
func (c *converter) command(use, short string, convert func(path string) (*convert.Result, error)) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1)}
	cmd.Flags().BoolVar(&c.json, "json", false, "print one JSON object: rules, tenants, sources, and what is not said")
	cmd.Flags().StringVar(&c.root, "root", "", "read the files that the configuration names below this `FOLDER`, where a copy of them is")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		r, err := convert(args[0])
		if err != nil {
			return cli.Wrong(fmt.Errorf("convert: %w", err))
		}
		return c.print(r)
	}
	return cmd
}

// files are those of this host; main is the configuration itself, which may be standard input.
func (c *converter) files(main string) convert.Files {
	place := func(path string) string {
		switch {
		case filepath.IsAbs(path):
			return filepath.Join(c.root, path)
		case c.root != "":
			return filepath.Join(c.root, path)
		}
		return filepath.Join(filepath.Dir(main), path)
	}
	return convert.Files{
		Read: func(path string) ([]byte, error) {
			if path == main {
				return readRules(path, c.s)
			}
			return os.ReadFile(place(path))
		},
		Glob: func(pattern string) ([]string, error) {
			found, err := filepath.Glob(place(pattern))
			for i := range found {
				if c.root != "" {
					found[i] = "/" + strings.TrimPrefix(strings.TrimPrefix(found[i], filepath.Clean(c.root)), "/")
				}
			}
			return found, err
		},
	}
}

func (c *converter) print(r *convert.Result) error {
	if c.json {
		if r.Left == nil {
			r.Left = []convert.Finding{} // a list, though there is nothing in it
		}
		enc := json.NewEncoder(c.s.out)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(r); err != nil {
			return err
		}
	} else {
		text, err := r.Text()
		if err != nil {
			return cli.Wrong(fmt.Errorf("convert: %w", err))
		}
		for _, f := range r.Left {
			fmt.Fprintln(c.s.err, f)
		}
		fmt.Fprint(c.s.out, text)
	}
	if r.Changed() {
		return &cli.Exit{Status: cli.StatusFailed}
	}
	return nil
}

// trusted adds the flags by which a person takes it upon him that something is opened.
func trusted(cmd *cobra.Command, connectPorts *string, ignore *[]string) {
	cmd.Flags().StringVar(connectPorts, "connect-ports", "", "take these `PORTS` for those of CONNECT, and all others for those of other methods")
	cmd.Flags().StringArrayVar(ignore, "ignore", nil, "leave out the line `FILE:LINE`, whatever it closes; may be given several times")
}

func newConvertSquid(s streams) *cobra.Command {
	c := &converter{s: s}
	var squid convert.Squid
	cmd := c.command("squid FILE", "Make rules, tenants and sources of a squid.conf", func(path string) (*convert.Result, error) {
		squid.Files = c.files(path)
		return squid.Convert(path)
	})
	trusted(cmd, &squid.ConnectPorts, &squid.Ignore)
	return cmd
}

func newConvertSmokescreen(s streams) *cobra.Command {
	c := &converter{s: s}
	var smokescreen convert.Smokescreen
	cmd := c.command("smokescreen FILE", "Make rules of an ACL of smokescreen's", func(path string) (*convert.Result, error) {
		smokescreen.Files = c.files(path)
		return smokescreen.Convert(path)
	})
	cmd.Flags().StringVar(&smokescreen.Service, "service", "", "make the rules of the service `NAME`, not those of the default")
	return cmd
}

func newConvertTinyproxy(s streams) *cobra.Command {
	c := &converter{s: s}
	var tinyproxy convert.Tinyproxy
	cmd := c.command("tinyproxy FILE", "Make rules and tenants of a tinyproxy.conf", func(path string) (*convert.Result, error) {
		tinyproxy.Files = c.files(path)
		return tinyproxy.Convert(path)
	})
	trusted(cmd, &tinyproxy.ConnectPorts, &tinyproxy.Ignore)
	return cmd
}

func newConvertHAProxy(s streams) *cobra.Command {
	c := &converter{s: s}
	var env []string
	cmd := c.command("haproxy FILE", "Make the ports of sluice tcp of a haproxy.cfg", func(path string) (*convert.Result, error) {
		params, err := parameters(env)
		if err != nil {
			return nil, err
		}
		return convert.HAProxy{Files: c.files(path), Env: params}.Convert(path)
	})
	cmd.Flags().StringArrayVarP(&env, "env", "e", nil, "`NAME=VALUE` of a variable in the configuration; may be given several times")
	return cmd
}
