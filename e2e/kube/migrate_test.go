//go:build linux

package kube

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/sluiceproxy/sluice/internal/migrate"
	"github.com/sluiceproxy/sluice/internal/migrate/migratetest"
)

// What "sluice migrate" makes is taken to the letter, over what was there as docs/migrate.md says,
// and then nothing of the old pod is left.
func TestMigratedIsTaken(t *testing.T) {
	c := use(t)
	c.kinds(t)
	over := 0
	for _, path := range migratetest.Inputs(t, filepath.Join("..", "..", "internal", "migrate", "testdata")) {
		o := migratetest.Options(t, path)
		if o.Namespace == "" {
			o.Namespace = "egress"
		}
		r, err := migrate.Migrate(o)
		require.NoError(t, err)
		if len(r.Broken()) > 0 || o.Values {
			continue
		}
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		t.Run(name, func(t *testing.T) {
			ns := "migrated-" + name
			c.apply(t, []unstructured.Unstructured{namespaceOf(ns, "privileged")})
			all := withoutConstraints(in(decoded(t, r.Manifest), ns))
			c.apply(t, all)
			fresh := c.deployments(t, ns)
			require.NotEmpty(t, fresh)
			c.delete(t, all)
			require.Empty(t, c.inside(t, ns))

			for _, old := range decoded(t, o.Files[0].Text) {
				if old.GetKind() != "Deployment" {
					continue
				}
				old.SetNamespace(ns)
				over++
				for _, now := range all {
					if now.GetKind() == "Deployment" && now.GetName() == old.GetName() {
						c.applyOver(t, old, now, fresh[old.GetName()])
					}
				}
			}
			assert.Empty(t, c.inside(t, ns))
		})
	}
	require.Equal(t, 3, over)
}

// withoutConstraints leaves out what OpenShift alone has.
func withoutConstraints(objects []unstructured.Unstructured) (all []unstructured.Unstructured) {
	for _, o := range objects {
		if o.GetKind() != "SecurityContextConstraints" {
			all = append(all, o)
		}
	}
	return all
}

func (c *cluster) deployments(t *testing.T, ns string) map[string]appsv1.DeploymentSpec {
	t.Helper()
	list, err := c.AppsV1().Deployments(ns).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	all := map[string]appsv1.DeploymentSpec{}
	for _, d := range list.Items {
		all[d.Name] = d.Spec
	}
	return all
}

// applyOver does what "kubectl apply" does to an object that "kubectl create" made: with what
// set-last-applied noted, when it becomes what a new one is; and without, when it does not.
func (c *cluster) applyOver(t *testing.T, old, now unstructured.Unstructured, want appsv1.DeploymentSpec) {
	t.Helper()
	for noted, original := range map[bool]any{true: old.Object, false: map[string]any{}} {
		_, err := c.resource(t, old).Create(t.Context(), &old, metav1.CreateOptions{FieldValidation: "Strict"})
		require.NoError(t, err)
		current, err := c.resource(t, old).Get(t.Context(), old.GetName(), metav1.GetOptions{})
		require.NoError(t, err)
		lookup, err := strategicpatch.NewPatchMetaFromStruct(appsv1.Deployment{})
		require.NoError(t, err)
		patch, err := strategicpatch.CreateThreeWayMergePatch(asJSON(t, original), asJSON(t, now.Object), asJSON(t, current.Object), lookup, true)
		require.NoError(t, err)
		_, err = c.resource(t, now).Patch(t.Context(), now.GetName(), types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldValidation: "Strict"})
		got := c.deployments(t, old.GetNamespace())[old.GetName()]
		if noted {
			require.NoError(t, err)
			assert.Equal(t, want, got)
		} else if !apierrors.IsInvalid(err) {
			require.NoError(t, err)
			assert.Greater(t, len(got.Template.Spec.Containers)+len(got.Template.Spec.InitContainers), len(want.Template.Spec.Containers)+len(want.Template.Spec.InitContainers), "it keeps the old ones")
		}
		c.delete(t, []unstructured.Unstructured{old})
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}
