//go:build linux

package kube

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
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
	"Namespace": "namespaces", "Deployment": "deployments", "Service": "services", "ServiceAccount": "serviceaccounts", "ConfigMap": "configmaps",
	"NetworkPolicy": "networkpolicies", "PodDisruptionBudget": "poddisruptionbudgets",
	"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
}

// The example with the directory is taken by a real API server to the letter, and its pod
// is let into a namespace of the level "restricted", which its own namespace has.
func TestManifestsAreTaken(t *testing.T) {
	c := use(t)
	client, err := dynamic.NewForConfig(c.config("admin-token"))
	require.NoError(t, err)
	var pod *corev1.Pod
	applied := map[string]bool{}
	for _, o := range rendered(t, filepath.Join("..", "..", "deploy", "examples", "directory")) {
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
		applied[kind.Kind] = true
		if kind.Kind == "Deployment" {
			var d appsv1.Deployment
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &d))
			pod = &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
			pod.Name, pod.Namespace = "gateway", o.GetNamespace()
		}
	}
	assert.Len(t, applied, len(resources))
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
}

// rendered is "kustomize build".
func rendered(t *testing.T, dir string) (all []unstructured.Unstructured) {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	require.NoError(t, err)
	text, err := m.AsYaml()
	require.NoError(t, err)
	for dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(text)), 4096); ; {
		var o unstructured.Unstructured
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		all = append(all, o)
	}
}
