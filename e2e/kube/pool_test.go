//go:build linux

package kube

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/internal/hold"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// groups are those of the pool, with the address that a server sees.
var groups = map[string]string{"198-51-100-60": nettest.HeldV4, "198-51-100-61": nettest.Held2V4}

// newPool makes n replicas that share two groups of addresses.
func newPool(t testing.TB, n int) *failover {
	t.Helper()
	use(t)
	s := setup{pool: nettest.HeldV4 + "/24," + nettest.HeldV6 + "/64 " + nettest.Held2V4 + "/24"}
	return s.failover(t, nettest.NewReplicas(t, n))
}

// holders are the replicas that the Service leads to, by their groups.
func (f *failover) holders() map[string]*replica {
	all := map[string]*replica{}
	s, err := f.c.DiscoveryV1().EndpointSlices(f.ns).List(f.t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + f.service})
	if err != nil {
		return all
	}
	for _, slice := range s.Items {
		for _, e := range slice.Endpoints {
			for i, r := range f.replicas {
				if e.Addresses[0] == nettest.PodOf(i) {
					all[slice.Labels["sluice.io/group"]] = r
				}
			}
		}
	}
	return all
}

// spread waits until each group has a holder, none of which is not, and no replica has two.
func (f *failover) spread(not *replica) (all map[string]*replica) {
	f.t.Helper()
	nettest.Eventually(f.t, "each group is held", func() bool {
		all = f.holders()
		seen := map[*replica]bool{}
		for _, r := range all {
			if r == not || seen[r] {
				return false
			}
			seen[r] = true
		}
		return len(all) == len(groups)
	})
	return all
}

// sees is what a server sees of a client that comes by way of a replica: "200 ADDRESS".
func (f *failover) sees(r *replica) string {
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
	defer cancel()
	answer, err := (&steady{f: f}).page(ctx, nettest.PodOf(r.index)+":8080")
	if err != nil {
		return err.Error()
	}
	return answer
}

// spare is the replica that has no group.
func (f *failover) spare(all map[string]*replica) *replica {
	for _, r := range f.replicas {
		held := false
		for _, h := range all {
			held = held || h == r
		}
		if !held {
			return r
		}
	}
	return nil
}

// serves requires that each group's clients come from its address.
func (f *failover) serves(all map[string]*replica) {
	f.t.Helper()
	for group, r := range all {
		nettest.Eventually(f.t, "clients come from the address of "+group, func() bool { return f.sees(r) == "200 "+groups[group] })
	}
}

// refuses requires that a replica without a group serves nobody, and says why.
func (f *failover) refuses(r *replica) {
	f.t.Helper()
	assert.Regexp(f.t, "^502 (?s).*this replica holds no source address for now", f.sees(r))
}

// A pool of two groups and three replicas: each group has one holder, the third replica waits.
// When one dies it takes that group; the other group's clients see nothing. Who comes back
// waits, and takes the next that is free.
func TestPool(t *testing.T) {
	f := newPool(t, 3)
	o := observe(t, f.Gateway)
	all := f.spread(nil)
	f.serves(all)
	f.refuses(f.spare(all))

	victim, witness := all["198-51-100-60"], all["198-51-100-61"]
	spare := f.spare(all)
	before := f.slices(t, "198-51-100-61")
	e, err := witness.tunnel()
	require.NoError(t, err)
	require.True(t, e.works(5*time.Second))
	victim.kill()
	all = f.spread(victim)
	assert.Same(t, spare, all["198-51-100-60"], "the spare has it")
	assert.Same(t, witness, all["198-51-100-61"])
	f.serves(all)
	assert.True(t, e.works(5*time.Second), "the other group's tunnel lives on")
	assert.Equal(t, before, f.slices(t, "198-51-100-61"), "a Service keeps its clients: their endpoint is as it was")

	victim.start()
	nettest.Eventually(t, "it waits for its turn", func() bool { return f.standsBy(nil) })
	f.serves(all)
	f.refuses(victim)
	for group, r := range f.spread(nil) {
		assert.Same(t, all[group], r, "who comes back takes nothing from anybody")
	}
	assert.Zero(t, lines(victim.saidNow(), `"the address is held here"`))

	witness.kill()
	all = f.spread(witness)
	assert.Same(t, victim, all["198-51-100-61"], "it was the spare")
	assert.Same(t, spare, all["198-51-100-60"])
	o.never(t, f.grants())
}

// A gateway goes from one group to two while a pod of before is alive: who has the new list means
// the same Lease for the address, and does not take it beside that one. Nobody looks for a
// duplicate here, so it is the Lease that keeps them apart.
func TestGroupsAreAdded(t *testing.T) {
	use(t)
	one := nettest.HeldV4 + "/24," + nettest.HeldV6 + "/64"
	f := setup{pool: one, spare: 2, blind: true}.failover(t, nettest.NewReplicas(t, 3))
	o := observe(t, f.Gateway)
	first := f.awaitHolder(nil)
	require.Same(t, f.replicas[0], first)
	f.setup.pool = one + " " + nettest.Held2V4 + "/24"
	for _, r := range f.replicas[1:] {
		r.start()
	}
	all := f.spread(nil)                // two more, and one address that is free: one of them is left over
	time.Sleep(2 * hold.Defaults.Lease) // in which whoever waits for another Lease would take it
	assert.Equal(t, all, f.holders())
	assert.Same(t, first, all["198-51-100-60"])
	for _, r := range f.replicas[1:] {
		assert.Zero(t, lines(r.said(), `"the address is held here","group":"198-51-100-60"`), r.said())
	}
	o.never(t, f.grants())

	first.kill()
	assert.Equal(t, map[string]*replica{"198-51-100-60": f.spare(all), "198-51-100-61": all["198-51-100-61"]}, f.spread(first))
	o.never(t, f.grants())
}

// slices are the versions of a group's EndpointSlices.
func (f *failover) slices(t *testing.T, group string) (all []string) {
	t.Helper()
	s, err := f.c.DiscoveryV1().EndpointSlices(f.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "sluice.io/group=" + group})
	require.NoError(t, err)
	for _, slice := range s.Items {
		all = append(all, slice.Name+" "+slice.ResourceVersion)
	}
	slices.Sort(all)
	return all
}
