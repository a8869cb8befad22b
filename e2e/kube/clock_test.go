//go:build linux

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// wrongClocks sets the wall clock of each program by itself, again and again, until the test ends:
// back and forth by up to ten years.
func (f *failover) wrongClocks() {
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			f.mu.Lock()
			for _, p := range f.steps {
				p.Shift(time.Duration(rand.Int64N(20*365)-10*365) * 24 * time.Hour)
			}
			f.mu.Unlock()
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	f.t.Cleanup(func() { close(stop); <-over })
}

// Nobody decides by what the wall clock says: with one that is set back and forth, of each program
// by itself, nothing happens by itself, and what happens happens as ever. The programs are those
// that ship; they ask the kernel for the time, and the answer is another.
func TestClocksSetBackAndForth(t *testing.T) {
	f := setup{stepped: true, clock: true}.failover(t, nettest.NewReplicas(t, 2))
	o := observe(t, f.Gateway)
	was := f.awaitHolder(nil)
	f.wrongClocks()
	s := f.steady()
	nettest.Eventually(t, "the client is served, and the other waits for its turn", func() bool { return s.count() > 20 && f.standsBy(was) })
	s.outage()
	wrong := 0
	for range 25 { // 5 s in which nothing happens
		time.Sleep(200 * time.Millisecond)
		l, err := f.c.CoordinationV1().Leases(f.ns).Get(t.Context(), lease, metav1.GetOptions{})
		require.NoError(t, err)
		if time.Since(l.Spec.RenewTime.Time).Abs() > time.Hour {
			wrong++
		}
	}
	assert.Greater(t, wrong, 10, "the holder believes its clock")
	measured(t, "clocks set back and forth", s.outage())
	assert.Same(t, was, f.holder())
	assert.NotContains(t, was.said(), "the address is fenced")
	was.signal(syscall.SIGKILL)
	next := f.awaitHolder(was)
	measured(t, "the holder's pod killed, clocks set back and forth", s.outage())
	o.never(t, f.grants())
	was.again()
	nettest.Eventually(t, "the other waits for its turn", func() bool { return f.standsBy(next) })
	s.outage()
	next.signal(syscall.SIGTERM)
	f.awaitHolder(next)
	atMost(t, time.Second, s.outage())
	next.ended()
	o.never(t, f.grants())
	assert.Empty(t, s.wrong)
}

// What a Lease says of when it was written, or for how long it is good, is nobody's reason: neither
// that it was long ago, nor that it is to come. A holder with a wrong clock writes that.
func TestLeaseTimesAreInformative(t *testing.T) {
	f := newFailover(t, 2)
	o := observe(t, f.Gateway)
	was := f.awaitHolder(nil)
	s := f.steady()
	nettest.Eventually(t, "the client is served, and the other waits for its turn", func() bool { return s.count() > 20 && f.standsBy(was) })
	s.outage()
	write := func(at time.Time, seconds int) {
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"renewTime": metav1.NewMicroTime(at), "acquireTime": metav1.NewMicroTime(at), "leaseDurationSeconds": seconds}})
		require.NoError(t, err)
		_, err = f.c.CoordinationV1().Leases(f.ns).Patch(context.Background(), lease, types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(t, err)
	}
	past, future := time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 8 {
		write([]time.Time{past, future}[i%2], []int{1, 1_000_000}[i%2])
		time.Sleep(700 * time.Millisecond) // between renewals, and after them
	}
	measured(t, "Lease with a time of writing long ago, or to come", s.outage())
	assert.Same(t, was, f.holder())
	was.signal(syscall.SIGKILL)
	write(future, 1_000_000)
	f.awaitHolder(was)
	atMost(t, 5*time.Second, s.outage())
	o.never(t, f.grants())
	assert.Empty(t, s.wrong)
}

// A Lease is also an object of who has installed the gateway: it is there before anybody holds by it, and
// what others have written of it stays. An upgrade that changes its labels costs nobody a connection.
func TestLeaseIsAlsoOthers(t *testing.T) {
	f := newFailover(t, 2)
	o := observe(t, f.Gateway)
	leases := f.c.CoordinationV1().Leases(f.ns)
	f.awaitHolder(nil)
	require.NoError(t, leases.Delete(t.Context(), lease, metav1.DeleteOptions{}))
	_, err := leases.Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: lease, Finalizers: []string{"example.com/kept"},
		Labels: map[string]string{"helm.sh/chart": "sluice-0.2.0"}, Annotations: map[string]string{"meta.helm.sh/release-name": "sluice"}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { // or nothing takes it away
		_, err := leases.Patch(context.Background(), lease, types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`), metav1.PatchOptions{})
		require.NoError(t, err)
	})
	is := func() *coordinationv1.Lease {
		l, err := leases.Get(t.Context(), lease, metav1.GetOptions{})
		require.NoError(t, err)
		return l
	}
	written := func() bool { l := is(); return l.Spec.HolderIdentity != nil && *l.Spec.HolderIdentity != "" }
	nettest.Eventually(t, "the new one is written", written)
	was := f.awaitHolder(nil)
	s := f.steady()
	nettest.Eventually(t, "the client is served, and the other waits for its turn", func() bool { return s.count() > 20 && f.standsBy(was) })
	s.outage()
	for i := range 8 {
		patch := fmt.Sprintf(`{"metadata": {"labels": {"helm.sh/chart": "sluice-0.3.%d"}, "annotations": {"example.com/%[1]d": "x"}}}`, i)
		_, err := leases.Patch(t.Context(), lease, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err)
		version := is().ResourceVersion
		nettest.Eventually(t, "it is renewed", func() bool { return is().ResourceVersion != version })
	}
	measured(t, "Lease whose labels an upgrade changes", s.outage())
	assert.Same(t, was, f.holder())
	was.signal(syscall.SIGKILL)
	f.awaitHolder(was)
	l := is()
	assert.Equal(t, map[string]string{"helm.sh/chart": "sluice-0.3.7", "app.kubernetes.io/name": "sluice"}, l.Labels)
	assert.Equal(t, "sluice", l.Annotations["meta.helm.sh/release-name"])
	assert.Equal(t, "x", l.Annotations["example.com/0"])
	assert.Equal(t, []string{"example.com/kept"}, l.Finalizers)
	o.never(t, f.grants())
	assert.Empty(t, s.wrong)
}
