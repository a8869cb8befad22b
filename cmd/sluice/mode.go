package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/internal/spelling"
)

// netsetup is the privileged program that the container's entry point becomes
// where the environment asks for network set-up.
const netsetup = "sluice-netsetup"

// modeVariables say which command a variable stands for (modes.md, "Which mode").
// EGRESS_DESTINATION alone is what pods of the original's legacy mode have.
var modeVariables = []struct{ variable, command string }{
	{"EGRESS_ROUTER_MODE", netsetup},
	{"EGRESS_DESTINATION", netsetup},
	{"EGRESS_HTTP_PROXY_DESTINATION", "sluice proxy"},
	{"EGRESS_DNS_PROXY_DESTINATION", "sluice tcp"},
	{"SERVICE_DEST", "sluice tcp"},
}

// modeOf is the command that the environment asks for.
func modeOf(environ []string) (string, error) {
	var all, found []string
	commands := map[string]bool{}
	command := ""
	env := settings.Environment(environ)
	for _, m := range modeVariables {
		line := fmt.Sprintf("  %s  for %s", m.variable, m.command)
		all = append(all, line)
		if env[m.variable] != "" {
			found = append(found, line)
			commands[m.command] = true
			command = m.command
		}
	}
	switch len(commands) {
	case 1:
		return command, nil
	case 0:
		return "", fmt.Errorf("sluice: no command given, and no variable that names one is set:\n%s%s\nSet one, or name a command: sluice --help lists them.", strings.Join(all, "\n"), misspelt(environ))
	}
	return "", fmt.Errorf("sluice: no command given, and the variables that are set name several:\n%s\nKeep those of one, or name the command.", strings.Join(found, "\n"))
}

// misspelt has a line for each variable that may have been meant for one of modeVariables.
func misspelt(environ []string) string {
	lines := ""
	for _, prefix := range [...]string{"EGRESS_", "SERVICE_"} {
		var known []string
		for _, m := range modeVariables {
			if strings.HasPrefix(m.variable, prefix) {
				known = append(known, m.variable)
			}
		}
		for _, kv := range environ {
			name, _, _ := strings.Cut(kv, "=")
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			if meant := spelling.Closest(prefix, name, known); meant != "" && meant != name {
				lines += fmt.Sprintf("\n%s is set: did you mean %s?", name, meant)
			}
		}
	}
	return lines
}

// runMode runs the command, or becomes the program.
func runMode(ctx context.Context, command string, environ []string, s streams) error {
	if command == netsetup {
		path, err := findNetsetup()
		if err == nil {
			err = s.exec(path, []string{netsetup}, environ)
		}
		return &cli.Exit{Status: cli.StatusFailed, Cause: fmt.Errorf("sluice: become %s, as EGRESS_ROUTER_MODE or EGRESS_DESTINATION asks: %w", netsetup, err)}
	}
	root := newRoot(environ, s)
	root.SetArgs([]string{strings.TrimPrefix(command, "sluice ")})
	return root.ExecuteContext(ctx)
}

// findNetsetup looks beside this program, where the image has it, then in PATH.
func findNetsetup() (string, error) {
	self, err := os.Executable()
	if err == nil {
		path := filepath.Join(filepath.Dir(self), netsetup)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(netsetup)
}
