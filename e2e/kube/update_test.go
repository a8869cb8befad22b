//go:build linux

package kube

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// kubelet is how a pod is told to end.
type kubelet func(*replica)

// sidecars is a kubelet that knows native sidecars (Kubernetes 1.29): the container, and when that
// has ended the sidecars, in the opposite of the order of their start.
func sidecars(r *replica) {
	for i := range programs {
		p := r.part(programs[len(programs)-1-i])
		p.cmd.Process.Signal(syscall.SIGTERM)
		r.await(p)
	}
}

// atOnce is one that does not.
func atOnce(r *replica) {
	r.signal(syscall.SIGTERM)
	r.ended()
}

// update replaces all pods by others with those settings, one after the other, as a Deployment
// does: with surge a new pod is there before an old one is told to end.
func (f *failover) update(end kubelet, surge bool, settings ...string) {
	f.t.Helper()
	var old, free []*replica
	for _, r := range f.replicas {
		if len(r.running()) > 0 {
			old = append(old, r)
		} else {
			free = append(free, r)
		}
	}
	begin := func(r *replica) {
		r.start(settings...)
		nettest.Eventually(f.t, "the new pod is ready", r.ready)
	}
	for _, r := range old {
		if surge {
			begin(free[0])
			free = free[1:]
		}
		end(r)
		free = append(free, r)
		if !surge {
			begin(r)
		}
	}
}

// While all pods are replaced, by others with other settings too, a client is without service for
// less than a second.
func TestRollingUpdate(t *testing.T) {
	slow := []string{"--hold-pending=1s", "--hold-held=5s", "--hold-lease=7s"}
	fast := []string{"--hold-pending=750ms", "--hold-held=2s", "--hold-lease=3250ms"}
	for _, c := range []struct {
		name  string // of events
		end   kubelet
		surge bool
	}{
		{"rolling update of both pods, `maxUnavailable: 1`", sidecars, false},
		{"rolling update of both pods, `maxSurge: 1`", sidecars, true},
		{"rolling update of both pods, before Kubernetes 1.29", atOnce, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := setup{spare: 1}.failover(t, nettest.NewReplicas(t, 3))
			o := observe(t, f.Gateway)
			was := f.awaitHolder(nil)
			nettest.Eventually(t, "the other waits for its turn", func() bool { return f.standsBy(was) })
			s := f.steady()
			s.outage()
			for _, settings := range [][]string{slow, fast} {
				f.update(c.end, c.surge, settings...)
				measured(t, c.name, s.outage())
				o.never(t, f.grants())
			}
			assert.Empty(t, s.wrong)
		})
	}
}
