package main

import (
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// named is what the policy in force is called. The zero named is that of none.
type named struct {
	made   any       // the configuration that hash is of
	hash   string    // which does not change with addresses and turns
	number uint64    // of the generation in force
	built  time.Time // when the last generation was made: it is without the rules that had expired

	over   bool        // nothing expires any more
	expiry *time.Timer // has the daemon look when a rule expires; nil: none will

	mu   sync.Mutex // guards what is below, which others read
	name policy.Name
}

// of is what the next generation is called, made of s, which was made of the configuration c. It
// and next are called under daemon.force.
func (n *named) of(c any, s *policy.Set) policy.Name {
	if n.made != c {
		n.made, n.hash = c, s.Hash()
	}
	return policy.Name{Number: n.number + 1, Hash: n.hash}
}

// next says that what of was called for last is in force.
func (n *named) next() {
	n.number++
	n.mu.Lock()
	defer n.mu.Unlock()
	n.name = policy.Name{Number: n.number, Hash: n.hash}
}

// get is what is in force now. It may be called by anybody.
func (n *named) get() policy.Name {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.name
}

// awaitExpiry has the daemon look again when the next rule expires. It is called under d.force.
func (d *daemon[C]) awaitExpiry() {
	if d.named.expiry != nil {
		d.named.expiry.Stop()
	}
	c := d.config.Shared()
	if next, ok := c.NextExpiry(d.named.built); ok && !c.KeepExpired && !d.named.over {
		d.named.expiry = time.AfterFunc(time.Until(next), d.expire)
	}
}

// endExpiry says that nothing expires any more.
func (d *daemon[C]) endExpiry() {
	d.force.Lock()
	defer d.force.Unlock()
	d.named.over = true
	if d.named.expiry != nil {
		d.named.expiry.Stop()
	}
}

// time is now.
func (d *daemon[C]) time() time.Time {
	if d.clock != nil {
		return d.clock()
	}
	return time.Now()
}

// expire puts the rules in force without those that have expired since. A clock that was set is
// noticed by the look that comes anyway.
func (d *daemon[C]) expire() {
	d.force.Lock()
	defer d.force.Unlock()
	c := d.config.Shared()
	next, ok := c.NextExpiry(d.named.built)
	now := d.time()
	if !ok || c.KeepExpired || next.After(now) {
		d.awaitExpiry()
		return
	}
	for _, rule := range c.ExpiredBetween(d.named.built, now) {
		d.log.Warn("a rule has expired, and allows nothing any more", "rule", rule)
	}
	d.renew(d.own)
}

// String is what is in force, as people call it.
func (n *named) String() string {
	name := n.get()
	return fmt.Sprintf("generation %d, %s", name.Number, name.Short())
}

// showPolicy has the admin port tell what is in force.
func (d *daemon[C]) showPolicy() {
	d.console.detail(func() []string { return []string{"policy: " + d.named.String()} })
	d.console.policy(d.policy)
	if m, ok := any(d.mode).(*proxyMode); ok { // the other asks nobody who it is, and has no rules
		a := &asked{pods: m.pods}
		d.console.explain(func(q url.Values) (any, error) {
			c, _ := any(d.reload.State().Config).(*config.Proxy)
			return a.explain(c, d.inUse.Load(), q)
		})
	}
	metrics.NewPolicy(d.registry, func() (uint64, string) {
		name := d.named.get()
		return name.Number, name.Short()
	}, func() (time.Duration, bool) {
		now := time.Now()
		next, ok := d.inForce().NextExpiry(now)
		return next.Sub(now), ok
	})
}

// policy is what GET /api/policy answers.
func (d *daemon[C]) policy() admin.Policy {
	name, s := d.named.get(), d.reload.State()
	c := s.Config.Shared()
	p := admin.Policy{Generation: name.Number, Hash: name.Hash, Origin: c.Origin, Rules: c.RuleCount(), Loaded: s.Loaded}
	if next, ok := c.NextExpiry(time.Now()); ok {
		p.Expires = &next
	}
	if s.Err != nil {
		p.Problem = s.Err.Error()
	}
	return p
}
