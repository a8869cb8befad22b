package main

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/directory"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// pods is what sluice-kube says, as a gate and a verifier take it.
type pods struct {
	client *directory.Client
	stop   context.CancelFunc
	done   chan struct{}
}

// openDirectory follows the directory that c names, until close; nil if it names none.
func openDirectory(c *config.Proxy, p *parts) *pods {
	if c.Directory == "" {
		return nil
	}
	d := &pods{done: make(chan struct{}), client: directory.NewClient(directory.Options{
		Socket: c.Directory, MaxAge: c.DirectoryMaxAge, Wait: c.DirectoryWait, Version: version, Log: p.log})}
	d.register(p.registry)
	var ctx context.Context
	ctx, d.stop = context.WithCancel(context.Background())
	go func() {
		defer close(d.done)
		d.client.Run(ctx)
	}()
	return d
}

// register has the metrics say how the directory fares.
func (d *pods) register(reg prometheus.Registerer) {
	metrics.NewDirectory(reg, func() float64 {
		if age, known := d.client.Age(); known {
			return age.Seconds()
		}
		return -1
	}, func() float64 { return float64(d.client.Status().Addresses) })
}

// text is what the status page says of the directory.
func (d *pods) text() string {
	s := d.client.Status()
	switch {
	case !s.Known:
		return "nothing was heard yet: " + s.Problem
	case s.Stale:
		return "no pod is known, since nothing was heard for " + s.Age.Round(time.Second).String() + ": " + s.Problem
	case !s.Connected:
		return "not connected for " + s.Age.Round(time.Second).String() + ", the last known state holds: " + s.Problem
	}
	return "connected"
}

func (d *pods) close() {
	d.stop()
	<-d.done
}

// Lookup is outbound.Pods'.
func (d *pods) Lookup(a netip.Addr) (policy.Pod, bool) { return podOf(d.client.Lookup(a)) }

// Wait is outbound.Pods'.
func (d *pods) Wait(ctx context.Context, a netip.Addr) (policy.Pod, bool) {
	return podOf(d.client.Wait(ctx, a))
}

// Version is outbound.Pods'.
func (d *pods) Version() uint64 { return d.client.Version() }

func podOf(p directory.Pod, known bool) (policy.Pod, bool) {
	return policy.Pod{Namespace: p.Namespace, ServiceAccount: p.ServiceAccount, Name: p.Name}, known
}

// Review is auth.Reviewer's.
func (d *pods) Review(ctx context.Context, token string) (*auth.Identity, time.Time, error) {
	id, err := d.client.Review(ctx, token)
	switch {
	case errors.Is(err, directory.ErrRefused):
		return nil, time.Time{}, auth.ErrRefused
	case err != nil:
		return nil, time.Time{}, err
	}
	return auth.NewServiceAccount(id.Namespace, id.ServiceAccount, id.Pod), id.Expires, nil
}
