package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
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
	changeLength  = 500 // bytes
)

// judged is what requests are judged by.
type judged struct {
	set    *policy.Set   // as it is configured, whatever is held of its sources
	config *config.Proxy // nil: of "sluice tcp"
}

// judgedOf is s, which was made of the configuration c.
func judgedOf(s policy.Set, c any) judged {
	s.Tenants = slices.Clone(s.Tenants)
	p, _ := c.(*config.Proxy)
	return judged{&s, p}
}

// replaced is that a reload has put a policy in the place of another.
type replaced struct {
	generation  uint64
	before, now judged
	rules       bool // by their hash, the two are not alike
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
			r.before, r.rules = c.next.before, r.rules || c.next.rules
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

// latest is what the last reload did that has changed anything; nil: there was none.
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
			args = append(args, firstOf(l.key, l.of)...)
		}
		if t.Tunnels.Count > 0 {
			args = append(append(args, "tunnels", t.Tunnels.Count), firstOf("tunnels", t.Tunnels)...)
		}
		if t.Note != "" {
			args = append(args, "note", t.Note)
		}
		c.log.Info("what the reload has changed", args...)
	}
	if o := found.Other; o.Count > 0 {
		c.log.Info("what the reload has changed", append([]any{"generation", found.Generation, "other", o.Count}, firstOf("other", o)...)...)
	}
}

// firstOf are the lines that the log has of all.
func firstOf(key string, of admin.Lines) []any {
	if len(of.First) == 0 {
		return nil
	}
	return []any{key + "_lines", of.First[:min(len(of.First), changesLogged)]}
}

// pairs are the rules of each tenant before and now, those of other texts first: the time is theirs. By nil,
// of a tenant that is not there, everything is denied.
func (r *replaced) pairs() (all []tenantPair) {
	for i, t := range tenantPairs(r.before.set, r.now.set) {
		p := tenantPair{t.name, t.was.Rules, t.is.Rules}
		switch {
		case i == 0:
			p.tenant = r.now.set.Rest.Name
		case t.before == nil:
			p.before = nil
		case t.now == nil:
			p.now = nil
		}
		if i > 0 && p.now != nil && p.before.SameText(all[0].before) && p.now.SameText(all[0].now) {
			continue // it is said already
		}
		all = append(all, p)
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

// change is what r has changed; nil: nothing that requests are judged by.
func (r *replaced) change() *admin.Change {
	out := &admin.Change{Generation: r.generation, At: time.Now()}
	end := out.At.Add(compareTime)
	var other otherDiff
	other.sets(r.before.set, r.now.set)
	if r.before.config != nil && r.now.config != nil {
		other.settings(r.before.config, r.now.config, true)
	}
	if r.rules {
		for _, p := range r.pairs() {
			if t := tenantChange(p.before, p.now, time.Until(end)); t != nil {
				t.Tenant = p.tenant
				out.Tenants = append(out.Tenants, *t)
			}
			for _, line := range lostLines(p.before, p.now) {
				other.note("%s", strings.TrimPrefix("tenant "+p.tenant+": "+line, "tenant : "))
			}
		}
	}
	for _, line := range other.lines {
		out.Other.Add(shortened(line), changesShown)
	}
	if len(out.Tenants) == 0 && out.Other.Count == 0 {
		return nil
	}
	return out
}

// shortened is a line of which the log and the page have no more than they can show.
func shortened(line string) string {
	if len(line) <= changeLength {
		return line
	}
	return strings.ToValidUTF8(line[:changeLength], "") + "…"
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
		begun := time.Now()
		d := audit.Compare(before, now, audit.Options{Limit: limit, Own: true})
		for i := range d.Changes {
			c := &d.Changes[i]
			to := &t.Closed
			if c.Opened() {
				to = &t.Opened
			}
			to.Add(fmt.Sprintf("%s  by %s (was %s)", c.Target, c.New.Reason(), c.Old.Reason()), changesShown)
		}
		tunnels := audit.CompareProtocols(before, now, audit.Options{Limit: max(limit-time.Since(begun), time.Nanosecond), Own: true})
		for i := range tunnels.Changes {
			c := &tunnels.Changes[i]
			t.Tunnels.Add(fmt.Sprintf("%s  by %s: carries %s instead of %s", c.Target, c.New.Reason(), carried(c.NewWants), carried(c.OldWants)), changesShown)
		}
		if why := cmp.Or(d.Why, tunnels.Why); why != "" {
			t.Note = "what that opens and closes is not known whole: " + why + "; sluice acl diff takes its time"
		}
	}
	if t.Added.Count+t.Removed.Count+t.Opened.Count+t.Closed.Count+t.Tunnels.Count == 0 && (t.Note == "" || now.SameText(before)) {
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
