package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// What a reload opens and closes is looked for beside it, within these bounds: more rules than that
// can take longer, and memory that is the requests'.
const (
	compareTime  = time.Second
	compareRules = 50_000
)

// Of what has changed so many lines are in the log and on the page.
const (
	changesLogged = 10
	changesShown  = 100
)

// judged are the rules of each tenant, by its name, as they are judged by.
type judged []struct {
	tenant string
	rules  *acl.Policy
}

// judgedOf are those of s.
func judgedOf(s *policy.Set) (all judged) {
	all = append(all, judged{{s.Rest.Name, s.Rest.Rules}}...)
	for i := range s.Tenants {
		t := &s.Tenants[i]
		all = append(all, judged{{t.Name, t.Rules}}...)
	}
	return all
}

// of are those of a tenant; nil, by which everything is denied, of one that is not there.
func (j judged) of(tenant string) *acl.Policy {
	for _, t := range j {
		if t.tenant == tenant {
			return t.rules
		}
	}
	return nil
}

// replaced is that a reload has put rules in the place of others.
type replaced struct {
	generation  uint64
	before, now judged
}

// changes says what reloads have changed, one after the other. While one is looked at, those that
// come are joined: at most two hold their rules.
type changes struct {
	log     *slog.Logger
	contain func(func())

	mu   sync.Mutex
	busy bool
	next *replaced
	last *admin.Change // nil: none
}

// tell has r looked at, and waits for nothing.
func (c *changes) tell(r replaced) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy {
		if c.next != nil {
			r.before = c.next.before
		}
		c.next = &r
		return
	}
	c.busy = true
	go c.look(&r)
}

// look looks at r and at all that comes meanwhile.
func (c *changes) look(r *replaced) {
	for r != nil {
		var found *admin.Change
		c.contain(func() { found = r.change() })
		if found != nil {
			c.say(found)
		}
		c.mu.Lock()
		if found != nil {
			c.last = found
		}
		r, c.next = c.next, nil
		c.busy = r != nil
		c.mu.Unlock()
	}
}

// latest is what the last reload that has changed rules did; nil: there was none.
func (c *changes) latest() *admin.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// say writes what was found to the log.
func (c *changes) say(found *admin.Change) {
	for _, t := range found.Tenants {
		args := []any{"generation", found.Generation}
		if t.Tenant != "" {
			args = append(args, "tenant", t.Tenant)
		}
		for _, l := range []struct {
			key string
			of  admin.Lines
		}{{"added", t.Added}, {"removed", t.Removed}, {"opened", t.Opened}, {"closed", t.Closed}} {
			args = append(args, l.key, l.of.Count)
			if len(l.of.First) > 0 {
				args = append(args, l.key+"_lines", l.of.First[:min(len(l.of.First), changesLogged)])
			}
		}
		if t.Note != "" {
			args = append(args, "note", t.Note)
		}
		c.log.Info("what the reload has changed", args...)
	}
}

// pairs are the rules of each tenant before and now, those of other texts first: the time is theirs.
func (r *replaced) pairs() (all []tenantPair) {
	rest := r.now[0]
	all = append(all, tenantPair{rest.tenant, r.before.of(rest.tenant), rest.rules})
	for _, t := range r.now[1:] {
		p := tenantPair{t.tenant, r.before.of(t.tenant), t.rules}
		if !p.before.SameText(all[0].before) || !p.now.SameText(rest.rules) { // else it is said already
			all = append(all, p)
		}
	}
	for _, t := range r.before {
		if r.now.of(t.tenant) == nil {
			all = append(all, tenantPair{t.tenant, t.rules, nil})
		}
	}
	slices.SortStableFunc(all, func(a, b tenantPair) int {
		return cmp.Compare(a.same(), b.same())
	})
	return all
}

type tenantPair struct {
	tenant      string
	before, now *acl.Policy
}

// same is 1 when the text is.
func (p *tenantPair) same() int {
	if p.now.SameText(p.before) {
		return 1
	}
	return 0
}

// change is what r has changed; nil: nothing that rules say or decide.
func (r *replaced) change() *admin.Change {
	out := &admin.Change{Generation: r.generation, At: time.Now()}
	end := out.At.Add(compareTime)
	for _, p := range r.pairs() {
		if t := tenantChange(p.before, p.now, time.Until(end)); t != nil {
			t.Tenant = p.tenant
			out.Tenants = append(out.Tenants, *t)
		}
	}
	if len(out.Tenants) == 0 {
		return nil
	}
	return out
}

// tenantChange is what is different of one tenant; nil: nothing.
func tenantChange(before, now *acl.Policy, limit time.Duration) *admin.TenantChange {
	t := &admin.TenantChange{}
	t.Added, t.Removed = lineChanges(before, now)
	switch {
	case before.Len() > compareRules || now.Len() > compareRules:
		t.Note = fmt.Sprintf("what that opens and closes is not looked for: there are more than %d rules; sluice acl diff does", compareRules)
	case limit <= 0:
		t.Note = "what that opens and closes is not known: the time for that was over; sluice acl diff has more"
	default:
		d := audit.Compare(before, now, audit.Options{Limit: limit, Own: true})
		for i := range d.Changes {
			c := &d.Changes[i]
			to := &t.Closed
			if c.Opened() {
				to = &t.Opened
			}
			to.Add(fmt.Sprintf("%s  by %s (was %s)", c.Target, c.New.Reason(), c.Old.Reason()), changesShown)
		}
		if !d.Complete() {
			t.Note = "what that opens and closes is not known whole: " + d.Why + "; sluice acl diff takes its time"
		}
	}
	if t.Added.Count+t.Removed.Count+t.Opened.Count+t.Closed.Count == 0 && (t.Note == "" || now.SameText(before)) {
		return nil
	}
	return t
}

// lineChanges are the rules, as they are written, that one list has and not the other.
func lineChanges(before, now *acl.Policy) (added, removed admin.Lines) {
	if now.SameText(before) {
		return added, removed
	}
	had := map[string]int{}
	for r := range before.Rules() {
		had[written(&r)]++
	}
	for r := range now.Rules() {
		if line := written(&r); had[line] > 0 {
			had[line]--
		} else {
			added.Add(line, changesShown)
		}
	}
	for r := range before.Rules() {
		if line := written(&r); had[line] > 0 {
			had[line]--
			removed.Add(line, changesShown)
		}
	}
	return added, removed
}

// written is a rule with what it says of how long and what for.
func written(r *acl.Rule) string {
	s := r.Text
	if !r.Expires.IsZero() {
		s += " expires=" + r.Expires.Format(time.DateOnly)
	}
	if r.Protocol != "" {
		s += " protocol=" + r.Protocol
	}
	return s
}
