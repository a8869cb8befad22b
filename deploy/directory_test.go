package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// checkKube runs sluice-kube as the container does. Nothing is wrong with its settings but
// that there is no token here.
func checkKube(t *testing.T, what string, environ, args []string) {
	t.Helper()
	for _, kv := range environ {
		if args[0] == "directory" {
			require.Regexp(t, "^GOMEMLIMIT=", kv, "%s: nobody reads it", what)
		} else {
			require.Regexp(t, "^(GOMEMLIMIT|SLUICE_SERVICE|SLUICE_LEASE|POD_NAME|POD_NAMESPACE|POD_UID|POD_IPS|NODE_NAME)=", kv, "%s: nobody reads it", what)
		}
	}
	cmd := exec.Command(built(t, "sluice-kube"), args...)
	cmd.Env = append(slices.Clone(environ), "SLUICE_ADMIN=:9090", "KUBERNETES_SERVICE_HOST=192.0.2.1", "KUBERNETES_SERVICE_PORT=443")
	out, err := cmd.CombinedOutput()
	require.Error(t, err, what)
	require.Equal(t, 2, cmd.ProcessState.ExitCode(), "%s: %s", what, out)
	require.Regexp(t, `^[^\n]*the pod's service account cannot be used[^\n]*: open /var/run/secrets/kubernetes.io/serviceaccount/token: no such file or directory\n$`, string(out), what)
}

// upon is what kustomize makes of a kustomization of one's own with components, upon an
// overlay.
func upon(t *testing.T, overlay string, components []string, more string) set {
	t.Helper()
	return set{overlay + " with " + strings.Join(components, ", "), build(t, own(t, overlay, components, more))}
}

// own makes such a kustomization, and returns where.
func own(t *testing.T, overlay string, components []string, more string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(dir, "kustomize"), os.DirFS("kustomize")))
	at := filepath.Join(dir, "own")
	require.NoError(t, os.Mkdir(at, 0o755))
	text := "resources:\n- ../" + overlay + "\ncomponents:\n"
	for _, c := range components {
		text += "- ../kustomize/components/" + c + "\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(at, "kustomization.yaml"), []byte(text+more), 0o600))
	return at
}

// proxies are the overlays of HTTP proxies, but those that stand on one of them.
var proxies = []string{"kustomize/overlays/openshift-sdn", "kustomize/overlays/multus-macvlan", "kustomize/overlays/multus-egress-router-cni", "kustomize/overlays/standalone", "kustomize/overlays/without-macvlan"}

// TestDirectory: upon each of them, in whatever namespace and under whatever name, the new
// container has the token and the gateway has none; the role is for the account of the
// pod; and whoever watches the gateway watches it as well.
func TestDirectory(t *testing.T) {
	for _, overlay := range proxies {
		s := upon(t, overlay, []string{"service-monitor", "directory"}, "namespace: proxies\nnamePrefix: my-\n")
		require.Len(t, s.kinds("Deployment"), 1, s.name)
		d := s.kinds("Deployment")[0]
		spec := d.object("spec", "template", "spec")
		containers := spec.list("containers")
		require.Len(t, containers, 2, s.name)
		gateway, directory := containers[0], containers[1]
		assert.Equal(t, "sluice", gateway.text("name"), "%s: what kubectl takes when none is named", s.name)
		for _, o := range s.objects {
			assert.Empty(t, judge(o), "%s: %s", s.name, o)
		}

		assert.Equal(t, false, spec["automountServiceAccountToken"], s.name)
		assert.Equal(t, []string{"directory-socket ro", "rules ro"}, mounts(gateway), s.name)
		assert.Equal(t, []string{"directory-socket rw", "directory-token ro"}, mounts(directory), s.name)
		assert.Equal(t, []string{"directory-token"}, tokens(spec), s.name)

		bindings := s.kinds("ClusterRoleBinding")
		require.Len(t, bindings, 1, s.name)
		assert.NotNil(t, s.find("ClusterRole", bindings[0].text("roleRef", "name"), ""), s.name)
		subjects := bindings[0].list("subjects")
		require.Len(t, subjects, 1, s.name)
		assert.Equal(t, []string{"ServiceAccount", spec.text("serviceAccountName"), "proxies"},
			[]string{subjects[0].text("kind"), subjects[0].text("name"), subjects[0].text("namespace")}, s.name)
		assert.Equal(t, "proxies", d.namespace(), s.name)

		policy := s.kinds("NetworkPolicy")[0]
		assert.Equal(t, []any{9090, 9091}, portsOf(policy.list("spec", "ingress")[1]), s.name)
		var egress []any
		for _, rule := range policy.list("spec", "egress") {
			egress = append(egress, portsOf(rule)...)
		}
		assert.Contains(t, egress, 6443, s.name)
		require.Len(t, s.kinds("ServiceMonitor"), 1, s.name)
		assert.Equal(t, "directory", s.kinds("ServiceMonitor")[0].list("spec", "endpoints")[1].text("port"), s.name)
		assert.Contains(t, portNames(object{"ports": s.find("Service", "my-sluice-admin", "proxies").at("spec", "ports")}), "directory", s.name)
	}
}

// mounts are the volumes of a container, and whether it may write there.
func mounts(c object) (all []string) {
	for _, m := range c.list("volumeMounts") {
		how := map[bool]string{true: " ro", false: " rw"}[m["readOnly"] == true]
		all = append(all, m.text("name")+how)
	}
	slices.Sort(all)
	return all
}

// tokens are the volumes of a pod that have a service account's token.
func tokens(spec object) (names []string) {
	for _, v := range spec.list("volumes") {
		for _, source := range v.list("projected", "sources") {
			if source["serviceAccountToken"] != nil {
				names = append(names, v.text("name"))
			}
		}
	}
	return names
}

func portsOf(rule object) (all []any) {
	for _, p := range rule.list("ports") {
		all = append(all, p["port"])
	}
	return all
}

// TestWhoHasAToken: in all manifests, nobody but sluice-kube.
func TestWhoHasAToken(t *testing.T) {
	found := 0
	for _, p := range pods(t) {
		for _, containers := range p.containers() {
			for _, c := range containers {
				for _, m := range c.list("volumeMounts") {
					if slices.Contains(tokens(p.spec), m.text("name")) {
						found++
						assert.Equal(t, "/sluice-kube", strings.Join(texts(c, "command"), " "), "%s: %s", p, c.text("name"))
					}
				}
			}
		}
	}
	assert.Positive(t, found)
}
