//go:build linux

package kube

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// helm runs the real one against the API server, and returns what it prints.
func (c *cluster) helm(t *testing.T, args ...string) string {
	t.Helper()
	cmd := c.helmCommand(t, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "helm %v: %s", args, stderr.String())
	return string(out)
}

func (c *cluster) helmCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := nettest.Tool(filepath.Join("..", ".."), "helm", "helm", "helm.sh/helm/v3")
	if err != nil {
		nettest.Unavailable(t, err.Error())
	}
	config := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c,
 clusters: [{name: c, cluster: {server: "https://127.0.0.1:%s", insecure-skip-tls-verify: true}}],
 users: [{name: c, user: {token: admin-token}}], contexts: [{name: c, context: {cluster: c, user: c}}]}`, c.port), 0o600))
	cmd := exec.Command(program, args...)
	home := c.path("helm") // what it has discovered
	cmd.Env = append(os.Environ(), "KUBECONFIG="+config, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "HOME="+home)
	return cmd
}

var chart = filepath.Join(deployed, "helm", "sluice")

// values are helm's arguments for a file of the chart's examples, and the release that has the
// names of the overlay.
func values(name string) (release string, args []string) {
	release = "sluice"
	args = []string{"--set=image=registry.example.com/sluice:v0.2.0", "--values=" + filepath.Join(chart, "examples", name+".yaml")}
	switch name {
	case "redirect", "tcp":
		release += "-" + name
	case "directory":
		args = append(args, "--set-file=config="+filepath.Join(deployed, "examples", "directory", "sluice.yaml"))
	default:
		args = append(args, "--set-file=rules="+filepath.Join(kustomize, "base", "rules.txt"))
	}
	return release, args
}

// Each example of the chart: what it renders is taken to the letter; it is installed over what
// the overlay was before, upgraded, tested, and nothing is left of it when it is uninstalled.
func TestChartIsInstalled(t *testing.T) {
	c := use(t)
	c.kinds(t)
	for name := range overlays(t) {
		t.Run(name, func(t *testing.T) {
			ns := "chart-" + name
			c.apply(t, []unstructured.Unstructured{namespaceOf(ns, levels(t)[name])})
			release, args := values(name)
			args = append(args, "--namespace="+ns)
			all := withoutTest(decoded(t, c.helm(t, append([]string{"template", release, chart}, args...)...)))
			c.apply(t, all)
			c.requireLevel(t, name, podOf(t, all))
			c.delete(t, all)
			require.Empty(t, c.inside(t, ns))

			args = append(args, "--set=serviceMonitor.enabled=true")
			before, _ := os.ReadFile(filepath.Join(deployed, "testdata", "before", name+".yaml"))
			if !slices.Contains([]string{"redirect", "tcp"}, name) { // of other names
				c.apply(t, withoutNamespace(in(decoded(t, string(before)), ns)))
			}
			notes := c.helm(t, append([]string{"install", release, chart, "--take-ownership"}, args...)...)
			assert.Contains(t, notes, "pod-security.kubernetes.io/enforce="+levels(t)[name])
			c.helm(t, append([]string{"upgrade", release, chart, "--set=image=registry.example.com/sluice:v0.2.1", "--set=podLabels.team=a"}, args...)...)
			c.runsTest(t, ns, release)
			c.helm(t, "uninstall", release, "--namespace="+ns)
			c.delete(t, leftBehind(in(decoded(t, string(before)), ns)))
			assert.Empty(t, c.inside(t, ns))
		})
	}
}

// leftBehind is what was there before and is no object of a release: the ConfigMap whose name had
// another hash, the budget of a single replica, cluster roles of other names.
func leftBehind(before []unstructured.Unstructured) (all []unstructured.Unstructured) {
	for _, o := range before {
		if strings.Contains(o.GetName(), "-network-") || o.GetNamespace() == "" || o.GetKind() == "PodDisruptionBudget" {
			all = append(all, o)
		}
	}
	return all
}

// runsTest has helm make the pod of its test. That it succeeds is said here, where no kubelet is:
// deploy runs its container.
func (c *cluster) runsTest(t *testing.T, ns, release string) {
	t.Helper()
	cmd := c.helmCommand(t, "test", release, "--namespace="+ns, "--timeout=1m")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	var pod *corev1.Pod
	nettest.Eventually(t, "helm makes the pod of its test", func() bool {
		var err error
		pod, err = c.CoreV1().Pods(ns).Get(t.Context(), release+"-test", metav1.GetOptions{})
		return err == nil
	})
	c.status(t, pod, corev1.PodSucceeded)
	require.NoError(t, cmd.Wait(), said.String())
	assert.Contains(t, said.String(), "Phase:          Succeeded")
}

func withoutTest(objects []unstructured.Unstructured) []unstructured.Unstructured {
	return slices.DeleteFunc(objects, func(o unstructured.Unstructured) bool { return o.GetAnnotations()["helm.sh/hook"] != "" })
}

func withoutNamespace(objects []unstructured.Unstructured) []unstructured.Unstructured {
	return slices.DeleteFunc(objects, func(o unstructured.Unstructured) bool { return o.GetKind() == "Namespace" })
}

// Two releases in one namespace, of which one goes and leaves the other as it is.
func TestTwoReleases(t *testing.T) {
	c := use(t)
	const ns = "two-releases"
	c.apply(t, []unstructured.Unstructured{namespaceOf(ns, "restricted")})
	var both []unstructured.Unstructured
	for _, release := range []string{"sluice", "payments"} {
		args := []string{release, chart, "--namespace=" + ns, "--set=image=registry.example.com/sluice:v0.2.0"}
		c.helm(t, append([]string{"install"}, args...)...)
		both = append(both, withoutTest(decoded(t, c.helm(t, append([]string{"template"}, args...)...)))...)
	}
	c.requireApart(t, ns, both, "sluice", "payments")
	c.helm(t, "uninstall", "payments", "--namespace="+ns)
	left := c.inside(t, ns)
	assert.Contains(t, left, "Service sluice")
	assert.Contains(t, left, "Deployment sluice")
	assert.NotContains(t, strings.Join(slices.DeleteFunc(left, func(s string) bool { return s == "Pod payments-sluice" }), "\n"), "payments")
	c.helm(t, "uninstall", "sluice", "--namespace="+ns)
}
