package main

import (
	"net/netip"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// publish puts now in force, or fails and has changed nothing.
func (d *daemon[C]) publish(before, now C) error {
	d.force.Lock()
	defer d.force.Unlock()
	own, err := outbound.HostAddrs()
	if err != nil {
		d.log.Error("the guard goes by the addresses listed before", "error", err)
		own = d.own
	}
	if err := d.mode.apply(before, now, d.generation(now, own)); err != nil {
		return err
	}
	d.config, d.own = now, own
	d.named.loaded(now.Shared())
	was, hash := d.judged, d.named.get().Hash
	d.published()
	if name := d.named.get(); was.set != nil {
		d.changes.tell(replaced{generation: name.Number, before: was, now: d.judged, rules: name.Hash != hash})
	}
	return nil
}

// published says that the next generation is in force.
func (d *daemon[C]) published() {
	d.named.next()
	d.judged = d.judgedNext
	d.inUse.Store(d.next)
	d.mode.revoke()
	d.awaitExpiry()
}

// renew has what is in force judge by whose turn it is, and by own.
func (d *daemon[C]) renew(own []netip.Addr) {
	d.own = own
	d.mode.renew(d.generation(d.config, own))
	d.published()
}

// generation is what is judged by. It is made and put in force under d.force.
func (d *daemon[C]) generation(c C, own []netip.Addr) *policy.Generation {
	d.named.built = d.time()
	s := setOf(c.Shared(), own, d.named.built)
	d.mode.tenants(c, &s, d.named.built)
	s.Name = d.named.of(c, &s)
	d.judgedNext = judgedOf(s, c)
	if d.turn != nil {
		d.turn.limit(&s)
	}
	d.next = s.Generation()
	return d.next
}

// sources are those of the gateway at the moment.
func (d *daemon[C]) sources(c *config.Common) policy.Sources {
	s := policy.Set{Rest: policy.Tenant{Sources: policy.NewSources(c.Sources)}}
	if d.turn != nil {
		d.turn.limit(&s)
	}
	return s.Rest.Sources
}

// setOf is the tenants that common names, in its order, with what they have in every mode.
func setOf(common *config.Common, own []netip.Addr, at time.Time) policy.Set {
	s := policy.Set{Own: own, KeepOpen: common.KeepOpen, Rest: policy.Tenant{
		Rules:   common.InForce(common.Policy, at).WithGuard(acl.Guard{Mode: common.Guard, Own: own}),
		Sources: policy.NewSources(common.Sources),
	}}
	for _, t := range common.Tenants {
		s.Tenants = append(s.Tenants, policy.Taker{Tenant: policy.Tenant{Name: t.Name, Sources: policy.NewSources(t.Sources)}})
	}
	return s
}

// tick looks at what is judged by besides the configuration: the addresses of this host and the
// time.
func (d *daemon[C]) tick() {
	d.refreshOwn()
	d.expire()
}

// refreshOwn renews the guard when this host's addresses have changed.
func (d *daemon[C]) refreshOwn() {
	d.force.Lock()
	defer d.force.Unlock()
	own, err := outbound.HostAddrs()
	if err != nil || slices.Equal(own, d.own) {
		return
	}
	d.log.Info("this host's addresses changed, and are guarded", "addresses", own)
	d.renew(own)
}

// takeTurn puts in force what is held by now. A reload that is being made is not waited for.
func (d *daemon[C]) takeTurn() {
	d.force.Lock()
	defer d.force.Unlock()
	own, err := outbound.HostAddrs()
	if err != nil {
		own = d.own
	}
	d.renew(own)
}
