//go:build linux

package kube

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// ownKinds are kinds whose definitions no module has, with as much of them as the manifests use:
// what is not here is refused. Sources: the Kubernetes Network Custom Resource Definition
// De-facto Standard, version 1, section 3.2; the API reference of OVN-Kubernetes, EgressFirewall.
const ownKinds = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: network-attachment-definitions.k8s.cni.cncf.io}
spec:
  group: k8s.cni.cncf.io
  scope: Namespaced
  names: {plural: network-attachment-definitions, singular: network-attachment-definition, kind: NetworkAttachmentDefinition}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {config: {type: string}}}}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: egressfirewalls.k8s.ovn.org}
spec:
  group: k8s.ovn.org
  scope: Namespaced
  names: {plural: egressfirewalls, singular: egressfirewall, kind: EgressFirewall}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          metadata: {type: object, properties: {name: {type: string, pattern: ^default$}}}
          spec:
            type: object
            required: [egress]
            properties:
              egress:
                type: array
                items:
                  type: object
                  required: [type, to]
                  properties:
                    type: {type: string, enum: [Allow, Deny]}
                    ports:
                      type: array
                      items:
                        type: object
                        required: [port, protocol]
                        properties:
                          protocol: {type: string, enum: [TCP, UDP, SCTP]}
                          port: {type: integer, minimum: 1, maximum: 65535}
                    to:
                      type: object
                      minProperties: 1
                      maxProperties: 1
                      properties:
                        cidrSelector: {type: string}
                        dnsName: {type: string}
                        nodeSelector: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

// moduleKinds are kinds whose definitions are in modules of tools/crds.
var moduleKinds = map[string]string{
	"github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
	"sigs.k8s.io/network-policy-api":                     "config/crd/standard/policy.networking.k8s.io_clusternetworkpolicies.yaml",
}

// kinds makes the kinds that operators bring.
func (c *cluster) kinds(t *testing.T) {
	t.Helper()
	definitions := decoded(t, ownKinds)
	for module, file := range moduleKinds {
		download := exec.Command("go", "mod", "download", "-json", module)
		download.Dir = filepath.Join("..", "..", "tools", "crds")
		out, err := download.Output()
		require.NoError(t, err, string(out))
		_, dir, _ := strings.Cut(string(out), `"Dir": "`)
		dir, _, _ = strings.Cut(dir, `"`)
		text, err := os.ReadFile(filepath.Join(dir, file))
		require.NoError(t, err)
		definitions = append(definitions, decoded(t, string(text))...)
	}
	c.apply(t, definitions)
	for _, d := range definitions {
		nettest.Eventually(t, d.GetName()+" is served", func() bool {
			now, err := c.resource(t, d).Get(t.Context(), d.GetName(), metav1.GetOptions{})
			require.NoError(t, err)
			conditions, _, _ := unstructured.NestedSlice(now.Object, "status", "conditions")
			return slices.ContainsFunc(conditions, func(v any) bool {
				m := v.(map[string]any)
				return m["type"] == "Established" && m["status"] == "True"
			})
		})
	}
	c.mapper = nil // there is more now
}

// resource is where the API server has the object.
func (c *cluster) resource(t *testing.T, o unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()
	if c.mapper == nil {
		groups, err := restmapper.GetAPIGroupResources(c.Discovery())
		require.NoError(t, err)
		c.mapper = restmapper.NewDiscoveryRESTMapper(groups)
	}
	kind := o.GroupVersionKind()
	m, err := c.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	require.NoError(t, err, "%s %s", kind, o.GetName())
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return c.dynamic(t).Resource(m.Resource)
	}
	return c.dynamic(t).Resource(m.Resource).Namespace(o.GetNamespace())
}

func (c *cluster) dynamic(t *testing.T) *dynamic.DynamicClient {
	t.Helper()
	client, err := dynamic.NewForConfig(c.config("admin-token"))
	require.NoError(t, err)
	return client
}

// apply has the API server take objects, strictly.
func (c *cluster) apply(t *testing.T, objects []unstructured.Unstructured) {
	t.Helper()
	yes := true
	for _, o := range objects {
		text, err := o.MarshalJSON()
		require.NoError(t, err)
		_, err = c.resource(t, o).Patch(t.Context(), o.GetName(), "application/apply-patch+yaml", text, metav1.PatchOptions{FieldManager: "test", FieldValidation: "Strict", Force: &yes})
		require.NoError(t, err, "%s %s", o.GetKind(), o.GetName())
	}
}

// delete deletes objects, of which some may be gone, but for namespaces: nobody here would end them.
func (c *cluster) delete(t *testing.T, objects []unstructured.Unstructured) {
	t.Helper()
	now := int64(0)
	for _, o := range objects {
		if o.GetKind() == "Namespace" {
			continue
		}
		err := c.resource(t, o).Delete(context.Background(), o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
		if !apierrors.IsNotFound(err) {
			require.NoError(t, err, title(o))
		}
	}
}

// inside is what a namespace has in it, of whatever kind.
func (c *cluster) inside(t *testing.T, ns string) (all []string) {
	t.Helper()
	lists, err := c.Discovery().ServerPreferredNamespacedResources()
	require.NoError(t, err)
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(t, err)
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || r.Name == "events" {
				continue
			}
			found, err := c.dynamic(t).Resource(group.WithResource(r.Name)).Namespace(ns).List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err, r.Name)
			for _, o := range found.Items {
				all = append(all, title(o))
			}
		}
	}
	return all
}

// removeLater ends a pod with the test.
func (c *cluster) removeLater(t *testing.T, p *corev1.Pod) {
	t.Helper()
	t.Cleanup(func() {
		now := int64(0)
		assert.NoError(t, c.CoreV1().Pods(p.Namespace).Delete(context.Background(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
	})
}
