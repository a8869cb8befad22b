//go:build linux

package kube

import (
	"errors"
	"io"
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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// resources are the kinds that the manifests have and an API server knows by itself, by
// their names in its paths.
var resources = map[string]string{
	"Namespace": "namespaces", "Deployment": "deployments", "StatefulSet": "statefulsets", "Service": "services", "ServiceAccount": "serviceaccounts", "ConfigMap": "configmaps",
	"NetworkPolicy": "networkpolicies", "PodDisruptionBudget": "poddisruptionbudgets",
	"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
	"Role": "roles", "RoleBinding": "rolebindings", "FlowSchema": "flowschemas",
}

// The examples are taken by a real API server to the letter. The pod of the one with the
// directory is let into a namespace of the level "restricted", which its own namespace has; and
// those that share addresses are two that stay beside the gateway, not what ends before it.
func TestManifestsAreTaken(t *testing.T) {
	c := use(t)
	t.Run("directory", func(t *testing.T) {
		pod, applied := c.apply(t, rendered(t, filepath.Join("..", "..", "deploy", "examples", "directory")))
		assert.Subset(t, applied, []string{"Deployment", "ClusterRole", "ClusterRoleBinding", "NetworkPolicy", "PodDisruptionBudget"})
		ns, err := c.CoreV1().Namespaces().Get(t.Context(), pod.Namespace, metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, "restricted", ns.Labels["pod-security.kubernetes.io/enforce"])
		made, err := c.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
		require.NoError(t, err)
		c.remove(t, made)
		assert.Len(t, made.Spec.Containers, 2)

		root := int64(0)
		worse := pod.DeepCopy()
		worse.Spec.Containers[1].SecurityContext.RunAsUser = &root
		_, err = c.CoreV1().Pods(pod.Namespace).Create(t.Context(), worse, metav1.CreateOptions{})
		require.ErrorContains(t, err, `violates PodSecurity "restricted:latest"`, "the level is in force")
	})
	for example, kind := range map[string]string{"failover": "Deployment", "pool": "StatefulSet"} {
		t.Run(example, func(t *testing.T) {
			pod, applied := c.apply(t, rendered(t, filepath.Join("..", "..", "deploy", "examples", example)))
			assert.Subset(t, applied, []string{kind, "Role", "RoleBinding", "NetworkPolicy", "PodDisruptionBudget"})
			made, err := c.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
			require.NoError(t, err)
			c.remove(t, made)
			require.Len(t, made.Spec.InitContainers, 2)
			for i, name := range []string{"netsetup", "hold"} {
				assert.Equal(t, name, made.Spec.InitContainers[i].Name)
				assert.Equal(t, corev1.ContainerRestartPolicyAlways, *made.Spec.InitContainers[i].RestartPolicy)
			}
			s, err := c.CoreV1().Services(pod.Namespace).Get(t.Context(), "sluice", metav1.GetOptions{})
			require.NoError(t, err)
			assert.Empty(t, s.Spec.Selector)
		})
	}
	t.Run("flow schema", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "failover", "flow-schema.yaml"))
		require.NoError(t, err)
		_, applied := c.apply(t, decoded(t, string(text)))
		assert.Equal(t, []string{"FlowSchema"}, applied)
		level, err := c.FlowcontrolV1().PriorityLevelConfigurations().Get(t.Context(), "leader-election", metav1.GetOptions{})
		require.NoError(t, err, "the level that it names")
		assert.EqualValues(t, "Limited", level.Spec.Type)
	})
}

// apply has the API server take objects strictly, and returns their kinds, and a pod as the
// one of them that makes pods would make it.
func (c *cluster) apply(t *testing.T, objects []unstructured.Unstructured) (pod *corev1.Pod, kinds []string) {
	t.Helper()
	client, err := dynamic.NewForConfig(c.config("admin-token"))
	require.NoError(t, err)
	for _, o := range objects {
		kind := o.GroupVersionKind()
		if slices.Contains([]string{"ServiceMonitor", "NetworkAttachmentDefinition"}, kind.Kind) {
			continue // an operator brings these
		}
		require.Contains(t, resources, kind.Kind)
		text, err := o.MarshalJSON()
		require.NoError(t, err)
		yes := true
		_, err = client.Resource(schema.GroupVersionResource{Group: kind.Group, Version: kind.Version, Resource: resources[kind.Kind]}).Namespace(o.GetNamespace()).
			Patch(t.Context(), o.GetName(), "application/apply-patch+yaml", text, metav1.PatchOptions{FieldManager: "test", FieldValidation: "Strict", Force: &yes})
		require.NoError(t, err, "%s %s", kind.Kind, o.GetName())
		kinds = append(kinds, kind.Kind)
		template, found, err := unstructured.NestedMap(o.Object, "spec", "template")
		require.NoError(t, err)
		if found {
			var p corev1.PodTemplateSpec
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(template, &p))
			pod = &corev1.Pod{ObjectMeta: p.ObjectMeta, Spec: p.Spec}
			pod.Name, pod.Namespace = "gateway", o.GetNamespace()
		}
	}
	return pod, kinds
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
		all = append(all, o)
	}
}
