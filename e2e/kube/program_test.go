//go:build linux

package kube

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/directory"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// kube is sluice-kube as a process.
type kube struct {
	t      testing.TB
	cmd    *exec.Cmd
	log    string
	socket string
}

// run runs sluice-kube directory as its service account, with flags of the test.
func (c *cluster) run(t testing.TB, socket string, env []string, args ...string) *kube {
	t.Helper()
	return c.runBy(t, "127.0.0.1:"+c.port, socket, env, args...)
}

// runBy is run by way of a relay to the API server.
func (c *cluster) runBy(t testing.TB, api, socket string, env []string, args ...string) *kube {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: %q}}]
`, api, c.token(t, "egress", "sluice", nil))
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	k := &kube{t: t, log: filepath.Join(dir, "log"), socket: socket}
	out, err := os.Create(k.log)
	require.NoError(t, err)
	defer out.Close()
	k.cmd = exec.Command(program.Kube(t), append([]string{"directory", "--socket", socket, "--kubeconfig", config, "--admin", "off"}, args...)...)
	k.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	k.cmd.Stdout, k.cmd.Stderr = out, out
	require.NoError(t, k.cmd.Start())
	t.Cleanup(func() {
		k.end()
		if t.Failed() {
			t.Logf("sluice-kube said:\n%s", k.said())
		}
	})
	return k
}

// end ends it, as a kubelet does, and returns the status.
func (k *kube) end() int {
	if k.cmd.ProcessState == nil {
		_ = k.cmd.Process.Signal(syscall.SIGTERM)
		limit := time.AfterFunc(20*time.Second, func() { _ = k.cmd.Process.Kill() })
		defer limit.Stop()
		_ = k.cmd.Wait()
	}
	return k.cmd.ProcessState.ExitCode()
}

func (k *kube) said() string {
	text, err := os.ReadFile(k.log)
	require.NoError(k.t, err)
	return string(text)
}

// read reads the directory, as sluice does.
func read(t testing.TB, o directory.Options) *directory.Client {
	t.Helper()
	r := directory.NewClient(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// both runs sluice-kube and a reader, until the latter knows all.
func (c *cluster) both(t testing.TB, args ...string) *directory.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	c.run(t, socket, nil, args...)
	r := read(t, directory.Options{Socket: socket})
	synced(t, r)
	return r
}

func synced(t testing.TB, r *directory.Client) {
	t.Helper()
	nettest.Eventually(t, "all pods are known", func() bool { return r.Status().Known })
}

// at is NAMESPACE/NAME of the pod with an address, or "".
func at(r *directory.Client, addr string) string {
	p, ok := r.Lookup(netip.MustParseAddr(addr))
	if !ok {
		return ""
	}
	return p.Namespace + "/" + p.Name
}

func becomes(t testing.TB, r *directory.Client, addr, want string) {
	t.Helper()
	got := "?"
	if !nettest.Within(20*time.Second, func() bool { got = at(r, addr); return got == want }) {
		assert.Equal(t, want, got, addr)
		t.FailNow()
	}
}

func lines(s string, with string) (n int) {
	for line := range strings.Lines(s) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}
