//go:build linux

package kube

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// diary takes down when something happened first.
type diary struct {
	mu  sync.Mutex
	all []string
	at  map[string]time.Time
}

func (d *diary) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.at[what]; !ok {
		d.all = append(d.all, what)
		d.at[what] = time.Now()
	}
}

// leaving takes down what becomes of a holder that leaves: by the API server, and by the kernel of
// its pod.
func (f *failover) leaving(d *diary, was *replica) {
	f.t.Helper()
	ctx := f.t.Context()
	follow := func(w watch.Interface, err error, see func(any)) {
		require.NoError(f.t, err)
		f.t.Cleanup(w.Stop)
		go func() {
			for e := range w.ResultChan() {
				see(e.Object)
			}
		}()
	}
	slices, err := f.c.DiscoveryV1().EndpointSlices(f.ns).Watch(ctx, metav1.ListOptions{})
	follow(slices, err, func(any) {
		if f.holder() != was {
			d.note("out of the EndpointSlice")
		}
	})
	leases, err := f.c.CoordinationV1().Leases(f.ns).Watch(ctx, metav1.ListOptions{})
	follow(leases, err, func(now any) { // not what it is by then: the successor's
		if l, ok := now.(*coordinationv1.Lease); ok && l.Name == lease && l.Annotations["sluice.io/released"] != "" {
			d.note("Lease given up")
		}
	})
	updates, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
	require.NoError(f.t, was.ns.Do(func() error { return netlink.AddrSubscribe(updates, done) }))
	f.t.Cleanup(func() { close(done) })
	go func() {
		for u := range updates {
			if a, _ := netip.AddrFromSlice(u.LinkAddress.IP); !u.NewAddr && a.Unmap().String() == nettest.HeldV4 {
				d.note("address removed")
			}
		}
	}()
}

// Tunnels that do not end are cut when --drain-timeout is over, and said; and only then is the
// address removed, and the Lease given up.
//
// Source: failover.md, "Never two holders", 8.
func TestDrainCutsTunnels(t *testing.T) {
	f := setup{logs: true}.failover(t, nettest.NewReplicas(t, 2), "--drain-timeout=1500ms")
	o := observe(t, f.Gateway)
	was := f.awaitHolder(nil)
	nettest.Eventually(t, "the other waits for its turn", func() bool { return f.standsBy(was) })
	const tunnels = 5
	d := &diary{at: map[string]time.Time{}}
	var talk sync.WaitGroup
	for range tunnels {
		e, err := was.tunnel()
		require.NoError(t, err)
		talk.Go(func() {
			for e.works(5 * time.Second) {
				time.Sleep(20 * time.Millisecond) // it never ends by itself
			}
			d.note("a tunnel ends")
		})
	}
	f.leaving(d, was)
	told := time.Now()
	was.signal(syscall.SIGTERM)
	talk.Wait()
	d.note("all tunnels have ended")
	next := f.awaitHolder(was)
	d.note("another holds")
	was.ended()
	nettest.Eventually(t, "all is said", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.all) == 6 })
	for _, what := range d.all {
		t.Logf("%7.3f s %s", d.at[what].Sub(told).Seconds(), what)
	}
	assert.Equal(t, []string{"out of the EndpointSlice", "a tunnel ends", "all tunnels have ended", "address removed", "Lease given up", "another holds"}, d.all)
	drained := d.at["a tunnel ends"].Sub(d.at["out of the EndpointSlice"])
	assert.InDelta(t, 1.5, drained.Seconds(), 0.5)
	for _, addr := range []string{nettest.HeldV4, nettest.HeldV6} {
		spans := o.of(addr)
		require.Equal(t, next.ns.MAC("macvlan0"), spans[len(spans)-1].mac)
		for _, s := range spans {
			if s.mac != next.ns.MAC("macvlan0") {
				assert.True(t, s.last.Before(d.at["another holds"]), s)
			}
		}
	}
	o.never(t, f.grants())
	text, err := os.ReadFile(was.path("access.log"))
	require.NoError(t, err)
	t.Log(string(text))
	assert.Equal(t, tunnels, strings.Count(string(text), "CONNECT"))
}
