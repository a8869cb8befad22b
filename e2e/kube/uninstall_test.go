//go:build linux

package kube

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/internal/hold"
)

// Who uninstalls a gateway deletes its role and then its Lease while the pods end: nobody makes the
// Lease anew, and nobody has the address twice meanwhile.
func TestUninstallWhilePodsEnd(t *testing.T) {
	f := newFailover(t, 2)
	o := observe(t, f.Gateway)
	f.awaitHolder(nil)
	roles, bindings, leases := f.c.RbacV1().Roles(f.ns), f.c.RbacV1().RoleBindings(f.ns), f.c.CoordinationV1().Leases(f.ns)
	all, err := bindings.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, all.Items)
	for _, b := range all.Items {
		require.NoError(t, bindings.Delete(t.Context(), b.Name, metav1.DeleteOptions{}))
		require.NoError(t, roles.Delete(t.Context(), b.RoleRef.Name, metav1.DeleteOptions{}))
	}
	require.NoError(t, leases.Delete(t.Context(), lease, metav1.DeleteOptions{}))
	for until := time.Now().Add(2 * hold.Defaults.Lease); time.Now().Before(until); time.Sleep(100 * time.Millisecond) { // in which somebody would make it
		_, err := leases.Get(t.Context(), lease, metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
	}
	o.never(t, f.grants())
}
