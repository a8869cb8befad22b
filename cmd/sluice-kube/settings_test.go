package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/cli"
)

// call runs the program with arguments, which must end by themselves.
func call(t *testing.T, environ []string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	status = run(context.Background(), args, environ, streams{&o, &e})
	return status, o.String(), e.String()
}

// Everything that is wrong is said at once, each in a line, and nothing is opened.
func TestWrongSettings(t *testing.T) {
	status, _, errs := call(t, []string{"SLUICE_SOKET=x"}, "directory", "--socket", "relative", "--namespaces", "shop,Shop", "--audience", "a b",
		"--admin", "localhost:1", "--log-level", "loud", "--kubeconfig", filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, cli.StatusWrong, status)
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	for i, want := range []string{`SLUICE_SOKET: no such setting; did you mean SLUICE_SOCKET?`, `--socket: "relative" cannot be a socket`, `--namespaces: "Shop" is no name of a namespace`,
		`--audience: "a b" is no audience`, `--admin: "localhost:1" is no address`, `--log-level: "loud" is none of`, `--kubeconfig: stat `} {
		require.Less(t, i, len(lines), errs)
		assert.Contains(t, lines[i], want)
	}
	assert.Len(t, lines, 7, errs)
}

func TestNoCluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	status, _, errs := call(t, nil, "directory")
	assert.Equal(t, cli.StatusWrong, status)
	assert.Equal(t, "SLUICE_KUBECONFIG: this is no pod, so name a kubeconfig to reach the API server by\n", errs)
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{nil, {"directori"}, {"directory", "x"}, {"directory", "--sockt", "x"}} {
		status, _, errs := call(t, nil, args...)
		assert.Equal(t, cli.StatusWrong, status, args)
		assert.NotEmpty(t, errs, args)
	}
	status, out, _ := call(t, nil, "version")
	assert.Zero(t, status)
	assert.Contains(t, out, "sluice-kube dev")
}
