package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// One image serves as init container and as main container: started without a
// command, sluice becomes sluice-netsetup where the environment asks for it.
func TestEntryPointBecomesNetsetup(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir, "./cmd/sluice", "./cmd/sluice-netsetup")
	build.Dir = filepath.Join("..", "..")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	environ := []string{"EGRESS_ROUTER_MODE=unit-test", "EGRESS_SOURCE=192.0.2.10", "EGRESS_GATEWAY=192.0.2.1",
		"EGRESS_DESTINATION=80 tcp 203.0.113.5\n203.0.113.6"}
	ask := func(program string) string {
		cmd := exec.Command(filepath.Join(dir, program))
		cmd.Env = environ
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	text := ask("sluice")
	assert.Contains(t, text, "203.0.113.5")
	assert.Equal(t, ask("sluice-netsetup"), text)

	require.NoError(t, os.Remove(filepath.Join(dir, "sluice-netsetup")))
	cmd := exec.Command(filepath.Join(dir, "sluice"))
	cmd.Env = append(environ, "PATH=")
	out, err = cmd.CombinedOutput()
	require.Error(t, err)
	assert.Equal(t, 1, cmd.ProcessState.ExitCode())
	assert.Contains(t, string(out), "sluice: become sluice-netsetup, as EGRESS_ROUTER_MODE or EGRESS_DESTINATION asks: ")
}

// TestMisspeltMode: who misspells the variable that would have chosen the mode is told.
func TestMisspeltMode(t *testing.T) {
	for env, want := range map[string]string{
		"EGRESS_HTTP_PROXY_DESTINATON=*": "\nEGRESS_HTTP_PROXY_DESTINATON is set: did you mean EGRESS_HTTP_PROXY_DESTINATION?\n",
		"SERVICE_DST=a:1":                "\nSERVICE_DST is set: did you mean SERVICE_DEST?\n",
		"SERVICE_NAME=x":                 "",
		"EGRESS_SOURCE=192.0.2.1":        "",
		"EGRESS_DNS_PROXY_DEBUG=1":       "",
	} {
		_, err := modeOf([]string{env})
		require.Error(t, err)
		if want == "" {
			require.NotContains(t, err.Error(), "did you mean", env)
			continue
		}
		require.Contains(t, err.Error(), want)
	}
}
