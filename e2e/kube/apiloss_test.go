//go:build linux

package kube

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// apiGone cuts all replicas from the API server for a time.
func (f *failover) apiGone(d time.Duration) {
	for _, r := range f.replicas {
		r.api.become(cut)
	}
	time.Sleep(d) // an absence has a length
	for _, r := range f.replicas {
		r.api.become(passes)
	}
}

// While the API server is away nobody takes the address. The holder fences it, and lifts the
// fence when the API server is back, without losing a tunnel; or keeps it, when told to.
func TestAPIServerAway(t *testing.T) {
	for _, c := range []struct {
		name    string
		most    time.Duration // without service, for an absence of 3 s
		flags   []string
		neither string // what must not be said
	}{
		{"release", 4 * time.Second, nil, "the address is held without the Lease"},
		{"keep", 300 * time.Millisecond, []string{"--hold-on-api-loss", "keep"}, "the address is fenced"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFailover(t, 2, c.flags...)
			o := observe(t, f.Gateway)
			was := f.awaitHolder(nil)
			s := f.steady()
			e, err := was.tunnel()
			require.NoError(t, err)
			require.True(t, e.works(5*time.Second))
			s.outage()
			f.apiGone(3 * time.Second)
			took := s.outage()
			t.Logf("%s: %v without service in an absence of 3 s", c.name, took.Round(10*time.Millisecond))
			atMost(t, c.most, took)
			assert.True(t, e.works(10*time.Second), "the tunnel has lived on")
			assert.Same(t, was, f.holder())
			assert.NotContains(t, was.said(), c.neither)
			o.never(t, f.grants(), logged)
			assert.Empty(t, s.wrong)
		})
	}
}

// A Lease that somebody deletes, or writes, does no harm: nobody else has the address before a
// whole wait has passed, and somebody has it again.
func TestLeaseTamperedWith(t *testing.T) {
	f := newFailover(t, 2)
	o := observe(t, f.Gateway)
	s := f.steady()
	leases := f.c.CoordinationV1().Leases(f.ns)
	for name, tamper := range map[string]func(ctx context.Context) error{
		"deleted": func(ctx context.Context) error { return leases.Delete(ctx, "sluice", metav1.DeleteOptions{}) },
		"written": func(ctx context.Context) error {
			l, err := leases.Get(ctx, "sluice", metav1.GetOptions{})
			if err != nil {
				return err
			}
			stranger := "a stranger"
			l.Spec = coordinationv1.LeaseSpec{HolderIdentity: &stranger}
			_, err = leases.Update(ctx, l, metav1.UpdateOptions{})
			return err
		},
		"emptied": func(ctx context.Context) error {
			l, err := leases.Get(ctx, "sluice", metav1.GetOptions{})
			if err != nil {
				return err
			}
			l.Spec, l.Annotations = coordinationv1.LeaseSpec{}, nil
			_, err = leases.Update(ctx, l, metav1.UpdateOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f.awaitHolder(nil)
			s.outage()
			nettest.Eventually(t, "nobody has written in between", func() bool { return tamper(t.Context()) == nil })
			f.awaitHolder(nil)
			t.Logf("%s: %v without service", name, s.outage().Round(10*time.Millisecond))
			o.never(t, f.grants(), logged)
		})
	}
	assert.Empty(t, s.wrong)
}

// Nobody takes an address by force that another machine answers for, and it is said who that is.
func TestDuplicate(t *testing.T) {
	n := nettest.NewReplicas(t, 1)
	n.Stranger.Address("phys0", nettest.HeldV4+"/24")
	f := failoverOn(t, n)
	mac := n.Stranger.MAC("phys0")
	nettest.Eventually(t, "it is said who has the address", func() bool {
		return strings.Contains(f.replicas[0].said(), mac)
	})
	assert.Nil(t, f.holder())
	assert.Zero(t, f.takes())
	n.Stranger.Down("phys0")
	f.awaitHolder(nil)
	n.Stranger.Up("phys0")
	assert.Equal(t, 1, f.takes())
}
