//go:build linux

package kube

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/internal/directory"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestPodsComeChangeAndGo(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "shop")
	c.pod(t, ns, "before", "10.1.0.1", "fd00:1::1")
	r := c.both(t)
	becomes(t, r, "10.1.0.1", ns+"/before")
	becomes(t, r, "fd00:1::1", ns+"/before")
	p := c.pod(t, ns, "a", "10.1.0.2")
	becomes(t, r, "10.1.0.2", ns+"/a")
	got, _ := r.Lookup(netip.MustParseAddr("10.1.0.2"))
	assert.Equal(t, directory.Pod{Namespace: ns, ServiceAccount: "builder", Name: "a", UID: string(p.UID), Labels: "app=a"}, got)
	p.Labels = map[string]string{"app": "b", "tier": "x"}
	p, err := c.CoreV1().Pods(ns).Update(t.Context(), p, metav1.UpdateOptions{})
	require.NoError(t, err)
	nettest.Eventually(t, "the labels", func() bool {
		got, _ := r.Lookup(netip.MustParseAddr("10.1.0.2"))
		return got.Labels == "app=b,tier=x"
	})
	c.remove(t, p)
	becomes(t, r, "10.1.0.2", "")
}

func TestOneAddressOfTwoPods(t *testing.T) {
	c := use(t)
	ns, other := c.namespace(t, "two"), c.namespace(t, "other")
	r := c.both(t)
	for i, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		addr := []string{"10.2.0.1", "10.2.0.2"}[i]
		older := c.pod(t, ns, "older-"+string('a'+rune(i)), addr)
		becomes(t, r, addr, ns+"/"+older.Name)
		younger := c.pod(t, other, "younger-"+string('a'+rune(i)), addr) // at once in another namespace
		becomes(t, r, addr, "")                                          // two that live
		c.status(t, older, phase, addr)
		becomes(t, r, addr, other+"/"+younger.Name)
		c.remove(t, younger)
		becomes(t, r, addr, "")
	}
}

// An address of one family may be in dispute while the pod's other is its own.
func TestDualStack(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "dual")
	r := c.both(t)
	a := c.pod(t, ns, "a", "10.10.0.1", "fd00:10::1")
	becomes(t, r, "10.10.0.1", ns+"/a")
	becomes(t, r, "fd00:10::1", ns+"/a")
	becomes(t, r, "::ffff:10.10.0.1", ns+"/a") // as a listener of both families tells it
	b := c.pod(t, ns, "b", "10.10.0.2", "fd00:10::1")
	becomes(t, r, "fd00:10::1", "")
	becomes(t, r, "10.10.0.1", ns+"/a")
	becomes(t, r, "10.10.0.2", ns+"/b")
	c.status(t, a, corev1.PodRunning, "10.10.0.1") // it has lost one
	becomes(t, r, "fd00:10::1", ns+"/b")
	becomes(t, r, "10.10.0.1", ns+"/a")
	c.remove(t, b)
	becomes(t, r, "fd00:10::1", "")
	becomes(t, r, "10.10.0.2", "")
}

func TestSameNameMadeAnew(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "anew")
	r := c.both(t)
	for i := range 20 {
		addr := netip.AddrFrom4([4]byte{10, 3, 0, byte(i + 1)}).String()
		p := c.pod(t, ns, "web-0", addr)
		becomes(t, r, addr, ns+"/web-0")
		got, _ := r.Lookup(netip.MustParseAddr(addr))
		assert.Equal(t, string(p.UID), got.UID)
		c.remove(t, p)
	}
	last := c.pod(t, ns, "web-0", "10.3.0.1") // the first one's address
	nettest.Eventually(t, "the last has it", func() bool {
		got, _ := r.Lookup(netip.MustParseAddr("10.3.0.1"))
		return got.UID == string(last.UID)
	})
	becomes(t, r, "10.3.0.20", "")
}

func TestHostNetwork(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "host")
	r := c.both(t)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "agent"}, Spec: corev1.PodSpec{HostNetwork: true, NodeName: "node",
		Containers: []corev1.Container{{Name: "c", Image: "example.com/c"}}}}
	p, err := c.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{})
	require.NoError(t, err)
	c.status(t, p, corev1.PodRunning, "10.4.0.1")
	c.pod(t, ns, "claims-node", "192.0.2.1", "fd00:4::3") // the address of its node
	c.pod(t, ns, "last", "10.4.0.2")
	becomes(t, r, "10.4.0.2", ns+"/last") // so the others have come as well
	for name, r := range map[string]*directory.Client{"as they came": r, "as they are found": c.both(t)} {
		assert.Equal(t, ns+"/last", at(r, "10.4.0.2"), name)
		assert.Empty(t, at(r, "10.4.0.1"), name)
		assert.Empty(t, at(r, "192.0.2.1"), name)
		assert.Equal(t, ns+"/claims-node", at(r, "fd00:4::3"), name)
	}
}

func TestRequestBeforeTheNews(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "early")
	socket := filepath.Join(t.TempDir(), "s")
	c.run(t, socket, nil)
	r := read(t, directory.Options{Socket: socket, Wait: 20 * time.Second})
	synced(t, r)
	got := make(chan directory.Pod, 1)
	begun := make(chan struct{})
	go func() {
		close(begun)
		p, _ := r.Wait(t.Context(), netip.MustParseAddr("10.5.0.1"))
		got <- p
	}()
	<-begun
	c.pod(t, ns, "late", "10.5.0.1")
	assert.Equal(t, "late", (<-got).Name)
}

// Only the pods of the namespaces that were named are watched.
func TestNamespaces(t *testing.T) {
	c := use(t)
	a, b, other := c.namespace(t, "a"), c.namespace(t, "b"), c.namespace(t, "c")
	r := c.both(t, "--namespaces", a, "--namespaces", b)
	c.pod(t, other, "p", "10.6.0.3")
	c.pod(t, a, "p", "10.6.0.1")
	c.pod(t, b, "p", "10.6.0.2")
	becomes(t, r, "10.6.0.1", a+"/p")
	becomes(t, r, "10.6.0.2", b+"/p")
	assert.Equal(t, 2, r.Table().Len())
}

// What sluice-kube did not see while the API server, or it, was away.
func TestAway(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "away")
	socket := filepath.Join(t.TempDir(), "s")
	k := c.run(t, socket, nil)
	r := read(t, directory.Options{Socket: socket})
	impatient := read(t, directory.Options{Socket: socket, MaxAge: 4 * time.Second})
	gone := c.pod(t, ns, "gone", "10.7.0.1")
	stays := c.pod(t, ns, "stays", "10.7.0.2")
	becomes(t, r, "10.7.0.1", ns+"/gone")
	becomes(t, r, "10.7.0.2", ns+"/stays")
	becomes(t, impatient, "10.7.0.2", ns+"/stays")

	// The API server ends.
	c.down()
	nettest.Eventually(t, "the age grows", func() bool { age, ok := r.Age(); return ok && age > 5*time.Second })
	assert.Equal(t, ns+"/gone", at(r, "10.7.0.1"), "the last known state stays")
	assert.True(t, r.Status().Connected)
	becomes(t, impatient, "10.7.0.2", "")
	assert.True(t, impatient.Status().Stale)
	_, err := r.Review(t.Context(), "token")
	require.ErrorIs(t, err, directory.ErrUnavailable)
	require.NoError(t, c.up())
	c.remove(t, gone) // maybe before the watch is there again
	nettest.Eventually(t, "the API server is heard again", func() bool { age, _ := r.Age(); return age < 3*time.Second })
	becomes(t, r, "10.7.0.1", "")
	becomes(t, impatient, "10.7.0.2", ns+"/stays")

	// sluice-kube ends, and misses a deletion and a pod that gets the address.
	require.Zero(t, k.end())
	assert.Equal(t, ns+"/stays", at(r, "10.7.0.2"))
	c.remove(t, stays)
	c.pod(t, ns, "heir", "10.7.0.2")
	c.run(t, socket, nil)
	becomes(t, r, "10.7.0.2", ns+"/heir")
}
