//go:build linux

package kube

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

var apiMinute = flag.Bool("minute", false, "have the API server be away for a minute, too")

// apiGone cuts all replicas from the API server for a time.
func (f *failover) apiGone(d time.Duration) {
	f.api(cut)
	time.Sleep(d) // an absence has a length
	f.api(passes)
}

// api is how all replicas reach the API server.
func (f *failover) api(s relayState) {
	for _, r := range f.replicas {
		r.api.become(s)
	}
}

// While the API server is away nobody takes the address. The holder fences it, and lifts the
// fence when the API server is back, without losing a tunnel; or keeps it, when told to.
func TestAPIServerAway(t *testing.T) {
	for _, policy := range []string{"release", "keep"} {
		for _, away := range append([]time.Duration{3 * time.Second, 6 * time.Second}, minute()...) {
			t.Run(fmt.Sprint(policy, " ", away), func(t *testing.T) {
				t.Parallel()
				length := fmt.Sprintf("%g s", away.Seconds())
				if away == time.Minute {
					length = "a minute"
				}
				f := newFailover(t, 2, "--hold-on-api-loss", policy)
				f.withoutAPI(t, policy, fmt.Sprintf("API server away for %s, `%s`", length, policy), func() { f.apiGone(away) })
			})
		}
	}
}

// minute is a minute, when there is time for that.
func minute() []time.Duration {
	if !*apiMinute {
		return nil
	}
	return []time.Duration{time.Minute}
}

// The same while the API server ends and another is started, which takes as long as it takes.
func TestAPIServerRestarts(t *testing.T) {
	f := newFailover(t, 2)
	f.withoutAPI(t, "release", "API server restarted, `release`", func() {
		f.c.down()
		require.NoError(t, f.c.up())
	})
}

// withoutAPI has a client and a tunnel while the API server is away.
func (f *failover) withoutAPI(t *testing.T, policy, name string, away func()) {
	o := observe(t, f.Gateway)
	was := f.awaitHolder(nil)
	s := f.steady()
	e, err := was.tunnel()
	require.NoError(t, err)
	require.True(t, e.works(5*time.Second))
	s.outage()
	away()
	measured(t, name, s.outage())
	assert.True(t, e.works(10*time.Second), "the tunnel has lived on")
	assert.Same(t, was, f.holder())
	neither := map[string]string{"release": "the address is held without the Lease", "keep": "the address is fenced"}[policy]
	assert.NotContains(t, was.said(), neither)
	o.never(t, f.grants())
	assert.Empty(t, s.wrong)
}

// A Lease that somebody deletes, or writes, does no harm: nobody else has the address before a
// whole wait has passed, and somebody has it again.
func TestLeaseTamperedWith(t *testing.T) {
	f := newFailover(t, 2)
	o := observe(t, f.Gateway)
	s := f.steady()
	leases := f.c.CoordinationV1().Leases(f.ns)
	for name, tamper := range map[string]func(ctx context.Context) error{
		"Lease deleted": func(ctx context.Context) error { return leases.Delete(ctx, lease, metav1.DeleteOptions{}) },
		"Lease overwritten by a stranger": func(ctx context.Context) error {
			l, err := leases.Get(ctx, lease, metav1.GetOptions{})
			if err != nil {
				return err
			}
			stranger := "a stranger"
			l.Spec = coordinationv1.LeaseSpec{HolderIdentity: &stranger}
			_, err = leases.Update(ctx, l, metav1.UpdateOptions{})
			return err
		},
		"Lease emptied by a stranger": func(ctx context.Context) error {
			l, err := leases.Get(ctx, lease, metav1.GetOptions{})
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
			measured(t, name, s.outage())
			o.never(t, f.grants())
		})
	}
	assert.Empty(t, s.wrong)
}
