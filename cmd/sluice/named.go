package main

import (
	"fmt"
	"log/slog"
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

	mu     sync.Mutex // guards what is below, which others read
	name   policy.Name
	rules  *config.Common // that are in force
	broken int            // assertions of theirs that an expiry has broken
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

// brokenNow is how many assertions an expiry has broken.
func (n *named) brokenNow() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broken
}

// loaded says what is in force, with the assertions that were broken when it was loaded.
func (n *named) loaded(c *config.Common) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules, n.broken = c, c.Broken
}

// awaitExpiry has the daemon look again when the next rule expires. It is called under d.force.
func (d *daemon[C]) awaitExpiry() {
	if d.named.expiry != nil {
		d.named.expiry.Stop()
	}
	c := d.config.Shared()
	if next, ok := c.NextExpiry(d.named.built); ok && !d.named.over {
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

// expire puts the rules in force without those that have expired since, or only tells of these when they are kept. A
// clock that was set is noticed by the look that comes anyway.
func (d *daemon[C]) expire() {
	d.force.Lock()
	defer d.force.Unlock()
	c := d.config.Shared()
	next, ok := c.NextExpiry(d.named.built)
	now := d.time()
	if !ok || next.After(now) {
		d.awaitExpiry()
		return
	}
	said := "a rule has expired, and allows nothing any more"
	if c.KeepExpired {
		said = "a rule has expired, and still allows, since what has expired is kept"
	}
	for _, rule := range c.ExpiredBetween(d.named.built, now) {
		d.log.Warn(said, "rule", rule)
	}
	if c.KeepExpired {
		d.named.built = now // what was said is not said again
		d.awaitExpiry()
		return
	}
	d.renew(d.own)
	go d.changes.contain(func() { d.named.verify(d.log, c, now) })
}

// verify tells of the assertions of c that an expiry has broken. That may take seconds, in which a reload may come.
func (n *named) verify(log *slog.Logger, c *config.Common, now time.Time) {
	all := c.BrokenAt(now)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rules != c {
		return
	}
	n.broken = len(all)
	for _, b := range all {
		log.Warn(b.Error())
	}
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
	}, d.named.brokenNow)
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
