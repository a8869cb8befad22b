//go:build linux

package kube

import (
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// deployed is where the manifests are.
var deployed = filepath.Join("..", "..", "deploy")

// overlays are the folders that kustomize builds: each overlay, and the example with the
// directory; by their names.
func overlays(t *testing.T) map[string]string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(kustomize, "overlays", "*"))
	require.NoError(t, err)
	all := map[string]string{"directory": filepath.Join(deployed, "examples", "directory")}
	for _, dir := range dirs {
		all[filepath.Base(dir)] = dir
	}
	require.Greater(t, len(all), 9)
	return all
}

// Every overlay is taken by a real API server to the letter, over what it was before, and what
// has gone out of it is what docs/deploy.md says; nothing is left when it is deleted.
func TestManifestsAreTaken(t *testing.T) {
	c := use(t)
	c.kinds(t)
	for name, dir := range overlays(t) {
		t.Run(name, func(t *testing.T) {
			ns := "taken-" + name
			var before []unstructured.Unstructured
			if text, err := os.ReadFile(filepath.Join(deployed, "testdata", "before", name+".yaml")); err == nil {
				before = in(decoded(t, string(text)), ns)
			} else {
				require.Equal(t, "standalone", name, "the only one that is new")
			}
			now := in(rendered(t, dir), ns)
			c.apply(t, []unstructured.Unstructured{namespaceOf(ns, "privileged")})
			c.apply(t, before)
			c.apply(t, now)
			var gone []string
			for _, o := range before {
				if !slices.ContainsFunc(now, func(n unstructured.Unstructured) bool { return title(n) == title(o) }) {
					gone = append(gone, title(o))
				}
			}
			slices.Sort(gone)
			assert.Equal(t, goneFrom[name], gone, "docs/deploy.md says what to delete")
			c.requireLevel(t, name, podOf(t, now))
			c.delete(t, slices.Concat(now, before))
			assert.Empty(t, c.inside(t, ns))
		})
	}
	t.Run("flow schema", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(deployed, "failover", "flow-schema.yaml"))
		require.NoError(t, err)
		all := decoded(t, string(text))
		c.apply(t, all)
		level, err := c.FlowcontrolV1().PriorityLevelConfigurations().Get(t.Context(), "leader-election", metav1.GetOptions{})
		require.NoError(t, err, "the level that it names")
		assert.EqualValues(t, "Limited", level.Spec.Type)
		c.delete(t, all)
	})
}

// goneFrom is what was in the manifests before, and is not now.
var goneFrom = map[string][]string{
	"openshift-sdn":            {"PodDisruptionBudget sluice", "ServiceMonitor sluice"},
	"multus-macvlan":           {"PodDisruptionBudget sluice", "ServiceMonitor sluice"},
	"multus-egress-router-cni": {"PodDisruptionBudget sluice", "ServiceMonitor sluice"},
	"directory":                {"PodDisruptionBudget sluice", "ServiceMonitor sluice"},
	"active-standby":           {"ServiceMonitor sluice"},
	"pool":                     {"ServiceMonitor sluice"},
	"redirect":                 {"Pod egress-redirect", "Service egress-redirect"},
	"tcp":                      {"Pod egress-tcp", "Service egress-tcp"},
}

// levels are the pod security levels that docs/deploy.md says the overlays need.
func levels(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "deploy.md"))
	require.NoError(t, err)
	all := map[string]string{"directory": "restricted"}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, " | "); len(cells) == 5 && strings.HasPrefix(cells[0], "| `") {
			all[strings.Trim(cells[0], "| `")] = strings.Trim(cells[4], "| `\n")
		}
	}
	return all
}

// requireLevel: the pod is let into namespaces of the level that the documentation says, and of
// no stricter one; and what of it faces the network is let into the strictest.
func (c *cluster) requireLevel(t *testing.T, name string, pod *corev1.Pod) {
	t.Helper()
	want, ok := levels(t)[name]
	require.True(t, ok, "docs/deploy.md has %s", name)
	stricter := true
	for _, level := range []string{"restricted", "baseline", "privileged"} {
		stricter = stricter && level != want
		err := c.tryPod(t, level, pod)
		if stricter {
			assert.ErrorContains(t, err, `violates PodSecurity "`+level+`:latest"`, name)
		} else {
			assert.NoError(t, err, "%s: %s", name, level)
		}
	}
	faces := pod.DeepCopy()
	powerful := func(c corev1.Container) bool { return c.SecurityContext.Capabilities.Add != nil }
	faces.Spec.InitContainers = slices.DeleteFunc(faces.Spec.InitContainers, powerful)
	faces.Spec.Containers = slices.DeleteFunc(faces.Spec.Containers, powerful)
	if len(faces.Spec.Containers) > 0 {
		assert.NoError(t, c.tryPod(t, "restricted", faces), "%s: what faces the network", name)
	}
}

// tryPod says what the API server would say to the pod in a namespace of that level.
func (c *cluster) tryPod(t *testing.T, level string, pod *corev1.Pod) error {
	t.Helper()
	ns := namespaceOf("level-"+level, level)
	c.apply(t, []unstructured.Unstructured{ns})
	p := pod.DeepCopy()
	p.Namespace = ns.GetName()
	_, err := c.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// A namespace of clients, of the strictest level, with the policies that an administrator may set
// above it.
func TestClientsAreTaken(t *testing.T) {
	c := use(t)
	c.kinds(t)
	all := rendered(t, filepath.Join(deployed, "examples", "clients"))
	for _, file := range []string{"egress-firewall.yaml", "cluster-network-policy.yaml"} {
		text, err := os.ReadFile(filepath.Join(deployed, "clients", file))
		require.NoError(t, err)
		all = append(all, decoded(t, string(text))...)
	}
	c.apply(t, all)
	assert.Contains(t, c.inside(t, "jobs"), "Pod client", "it is let in")
	c.delete(t, all)
	assert.Empty(t, c.inside(t, "jobs"))
}

// Two replicas share an address by sidecars that stay, and a Service without selector.
func TestSidecarsStay(t *testing.T) {
	c := use(t)
	c.kinds(t)
	for name, kind := range map[string]string{"active-standby": "Deployment", "pool": "StatefulSet"} {
		ns := "sidecars-" + name
		all := in(rendered(t, overlays(t)[name]), ns)
		c.apply(t, all)
		assert.True(t, slices.ContainsFunc(all, func(o unstructured.Unstructured) bool { return o.GetKind() == kind }))
		pod := podOf(t, all)
		pod.Namespace = ns
		made, err := c.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		require.NoError(t, err)
		require.Len(t, made.Spec.InitContainers, 2)
		for i, name := range []string{"netsetup", "hold"} {
			assert.Equal(t, name, made.Spec.InitContainers[i].Name)
			assert.Equal(t, corev1.ContainerRestartPolicyAlways, *made.Spec.InitContainers[i].RestartPolicy)
		}
		s, err := c.CoreV1().Services(ns).Get(t.Context(), "sluice", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Empty(t, s.Spec.Selector)
		c.delete(t, all)
	}
}

// Two gateways in one namespace, as the example has them: what the API server finds by each
// selector is a pod of the one that it belongs to.
func TestTwoInOneNamespace(t *testing.T) {
	c := use(t)
	c.kinds(t)
	const ns = "two-overlays"
	both := slices.Concat(in(rendered(t, overlays(t)["openshift-sdn"]), ns), in(rendered(t, filepath.Join(deployed, "examples", "second-gateway")), ns))
	c.apply(t, both)
	c.requireApart(t, ns, both, "sluice", "payments")
	c.delete(t, both)
}

// requireApart makes a pod of each workload, and asks by all selectors.
func (c *cluster) requireApart(t *testing.T, ns string, objects []unstructured.Unstructured, instances ...string) {
	t.Helper()
	for _, o := range objects {
		if p := template(t, o); p != nil {
			p.Name, p.Namespace = o.GetName(), ns
			_, err := c.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
			require.NoError(t, err)
			c.removeLater(t, p)
		}
	}
	asked := map[string]int{}
	for _, o := range objects {
		path, ok := map[string][]string{"Service": {"spec", "selector"}, "NetworkPolicy": {"spec", "podSelector", "matchLabels"}, "Deployment": {"spec", "selector", "matchLabels"}}[o.GetKind()]
		if !ok {
			continue
		}
		labels, found, err := unstructured.NestedStringMap(o.Object, path...)
		require.NoError(t, err)
		require.True(t, found, title(o))
		pods, err := c.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: labels})})
		require.NoError(t, err)
		require.Len(t, pods.Items, 1, title(o))
		instance := o.GetLabels()["app.kubernetes.io/instance"]
		assert.Equal(t, instance, pods.Items[0].Labels["app.kubernetes.io/instance"], title(o))
		asked[instance]++
	}
	assert.Equal(t, slices.Sorted(slices.Values(instances)), slices.Sorted(maps.Keys(asked)))
}

// in moves objects from the namespace egress to another; what is in none gets a name of its own.
func in(objects []unstructured.Unstructured, ns string) (all []unstructured.Unstructured) {
	for _, o := range objects {
		o = *o.DeepCopy()
		switch {
		case o.GetKind() == "Namespace":
			o.SetName(ns)
		case o.GetNamespace() != "":
			o.SetNamespace(ns)
		default:
			o.SetName(ns + "-" + o.GetName())
		}
		if role, found, _ := unstructured.NestedString(o.Object, "roleRef", "kind"); found {
			if role == "ClusterRole" {
				name, _, _ := unstructured.NestedString(o.Object, "roleRef", "name")
				_ = unstructured.SetNestedField(o.Object, ns+"-"+name, "roleRef", "name")
			}
			subjects, _, _ := unstructured.NestedSlice(o.Object, "subjects")
			subjects[0].(map[string]any)["namespace"] = ns
			_ = unstructured.SetNestedSlice(o.Object, subjects, "subjects")
		}
		all = append(all, o)
	}
	return all
}

// namespaceOf is a namespace of a pod security level.
func namespaceOf(name, level string) unstructured.Unstructured {
	return unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"pod-security.kubernetes.io/enforce": level}}}}
}

// title is the kind and the name, of a ConfigMap without the hash of its content.
func title(o unstructured.Unstructured) string {
	name, _, _ := strings.Cut(o.GetName(), "-network-")
	return o.GetKind() + " " + name
}

// podOf is a pod as the workload among the objects would make it.
func podOf(t *testing.T, objects []unstructured.Unstructured) *corev1.Pod {
	t.Helper()
	for _, o := range objects {
		if p := template(t, o); p != nil {
			p.Name = "gateway"
			return p
		}
	}
	t.Fatal("nothing makes pods")
	return nil
}

// template is the pod of a workload, nil of what makes none.
func template(t *testing.T, o unstructured.Unstructured) *corev1.Pod {
	t.Helper()
	found, ok, err := unstructured.NestedMap(o.Object, "spec", "template")
	require.NoError(t, err)
	if !ok {
		return nil
	}
	var p corev1.PodTemplateSpec
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(found, &p))
	return &corev1.Pod{ObjectMeta: p.ObjectMeta, Spec: p.Spec}
}

// rendered is "kustomize build".
func rendered(t *testing.T, dir string) []unstructured.Unstructured {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	require.NoError(t, err)
	text, err := m.AsYaml()
	require.NoError(t, err)
	return decoded(t, string(text))
}

// decoded are the objects of a text.
func decoded(t *testing.T, text string) (all []unstructured.Unstructured) {
	t.Helper()
	for dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		var o unstructured.Unstructured
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		if o.Object != nil {
			all = append(all, o)
		}
	}
}
