//go:build linux

package kube

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// leads makes the Service without selector that leads to the holder.
func (f *failover) leads() {
	f.t.Helper()
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: f.service, Namespace: f.ns}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 8080}}}}
	_, err := f.c.CoreV1().Services(f.ns).Create(f.t.Context(), &s, metav1.CreateOptions{})
	require.NoError(f.t, err)
}

// sliceOf is the group's EndpointSlice of a family; nil when there is none.
func (f *failover) sliceOf(family string) *discoveryv1.EndpointSlice {
	f.t.Helper()
	s, err := f.c.DiscoveryV1().EndpointSlices(f.ns).Get(f.t.Context(), lease+"-"+family, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	require.NoError(f.t, err)
	return s
}

// collect does once what the garbage collector does, which is no part of the API server: what has
// owners, none of which is there under its UID, is deleted. It returns how much that was.
func (f *failover) collect() (n int) {
	f.t.Helper()
	ctx := f.t.Context()
	all, err := f.c.DiscoveryV1().EndpointSlices(f.ns).List(ctx, metav1.ListOptions{})
	require.NoError(f.t, err)
	for _, s := range all.Items {
		alive := len(s.OwnerReferences) == 0
		for _, o := range s.OwnerReferences {
			require.Equal(f.t, "v1 Service", o.APIVersion+" "+o.Kind)
			owner, err := f.c.CoreV1().Services(f.ns).Get(ctx, o.Name, metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				require.NoError(f.t, err)
				alive = alive || owner.UID == o.UID
			}
		}
		if !alive {
			require.NoError(f.t, f.c.DiscoveryV1().EndpointSlices(f.ns).Delete(ctx, s.Name, metav1.DeleteOptions{}))
			n++
		}
	}
	return n
}

// EndpointSlices go with their Service, and are not made anew by pods that end after it; when it is
// there again, so are they.
func TestSlicesGoWithTheService(t *testing.T) {
	f := newFailover(t, 1)
	f.awaitHolder(nil)
	assert.Zero(t, f.collect())
	services := f.c.CoreV1().Services(f.ns)
	require.NoError(t, services.Delete(t.Context(), f.service, metav1.DeleteOptions{}))
	assert.Equal(t, 1, f.collect())
	nettest.Eventually(t, "it is tried again", func() bool { return lines(f.replicas[0].said(), "there is no Service to lead anywhere") > 0 })
	assert.Nil(t, f.sliceOf("ipv4"))
	f.leads()
	nettest.Eventually(t, "the Service leads to it again", func() bool { return f.holder() != nil })
	assert.Zero(t, f.collect())
}

// Of a family that the new holder's pod has no address of, the Service leads nowhere: not to the
// pod that was, which may be gone.
func TestSliceOfAnotherFamily(t *testing.T) {
	f := setup{spare: 1, both: true}.failover(t, nettest.NewReplicas(t, 2))
	first := f.awaitHolder(nil)
	nettest.Eventually(t, "the Service leads to its IPv6 address", func() bool { s := f.sliceOf("ipv6"); return s != nil && len(s.Endpoints) == 1 })
	f.setup.both = false
	f.replicas[1].start()
	first.kill()
	f.awaitHolder(first)
	nettest.Eventually(t, "and nowhere by now", func() bool { return len(f.sliceOf("ipv6").Endpoints) == 0 })
	assert.Len(t, f.sliceOf("ipv4").Endpoints, 1)

	// Who has both families again leads there again.
	f.setup.both = true
	first.start()
	f.replicas[1].kill()
	require.Same(t, first, f.awaitHolder(f.replicas[1]))
	nettest.Eventually(t, "to the IPv6 address again", func() bool { return len(f.sliceOf("ipv6").Endpoints) == 1 })
}
