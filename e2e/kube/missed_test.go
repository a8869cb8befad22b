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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/internal/directory"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Pods go while sluice-kube is cut off, and the API server has forgotten the events when it
// is back: the informer hears of it by a new list only (DeletedFinalStateUnknown).
func TestMissedDelete(t *testing.T) {
	c := use(t)
	ns, other := c.namespace(t, "missed"), c.namespace(t, "other")
	way := c.relay(t)
	socket := filepath.Join(t.TempDir(), "s")
	c.runBy(t, way.addr, socket, nil)
	r := read(t, directory.Options{Socket: socket})
	gone := c.pod(t, ns, "gone", "10.11.0.1")
	inherited := c.pod(t, ns, "inherited", "10.11.0.2", "fd00:11::2")
	again := c.pod(t, ns, "web-0", "10.11.0.3")
	ended := c.pod(t, ns, "job", "10.11.0.4")
	becomes(t, r, "10.11.0.1", ns+"/gone")
	becomes(t, r, "fd00:11::2", ns+"/inherited")
	becomes(t, r, "10.11.0.3", ns+"/web-0")
	becomes(t, r, "10.11.0.4", ns+"/job")

	way.become(cut)
	c.remove(t, gone)
	c.remove(t, inherited)
	c.pod(t, other, "heir", "10.11.0.2")
	c.remove(t, again)
	again = c.pod(t, ns, "web-0", "10.11.0.5")
	c.status(t, ended, corev1.PodSucceeded, "10.11.0.4")
	c.pod(t, other, "next", "10.11.0.4")
	c.down()
	require.NoError(t, c.up())
	c.forgot(t, gone.ResourceVersion)
	assert.Equal(t, ns+"/gone", at(r, "10.11.0.1"), "it cannot know")
	way.become(passes)

	becomes(t, r, "10.11.0.1", "")
	becomes(t, r, "10.11.0.2", other+"/heir")
	becomes(t, r, "fd00:11::2", "")
	becomes(t, r, "10.11.0.3", "")
	becomes(t, r, "10.11.0.4", other+"/next")
	becomes(t, r, "10.11.0.5", ns+"/web-0")
	p, _ := r.Lookup(netip.MustParseAddr("10.11.0.5"))
	assert.Equal(t, string(again.UID), p.UID)
}

// forgot wants a watch to be refused that would go on from that version.
func (c *cluster) forgot(t testing.TB, version string) {
	t.Helper()
	w, err := c.CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
	if err == nil {
		defer w.Stop()
		err = apierrors.FromObject((<-w.ResultChan()).Object)
	}
	require.True(t, apierrors.IsResourceExpired(err) || apierrors.IsGone(err), "%v", err)
}

// A connection that is dead without a word is found out by pings, and the age grows.
func TestDeadConnection(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "dead")
	way := c.relay(t)
	socket := filepath.Join(t.TempDir(), "s")
	c.runBy(t, way.addr, socket, []string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS=1", "HTTP2_PING_TIMEOUT_SECONDS=1"}) // of 30 and 15
	r := read(t, directory.Options{Socket: socket})
	p := c.pod(t, ns, "p", "10.12.0.1")
	becomes(t, r, "10.12.0.1", ns+"/p")
	way.become(frozen)
	c.remove(t, p)
	nettest.Eventually(t, "the age grows", func() bool { age, known := r.Age(); return known && age > 3*time.Second })
	assert.Equal(t, ns+"/p", at(r, "10.12.0.1"), "the last known state stays")
	way.become(passes)
	becomes(t, r, "10.12.0.1", "")
	nettest.Eventually(t, "it is as of now", func() bool { age, _ := r.Age(); return age < 3*time.Second })
}
