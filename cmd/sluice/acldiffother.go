package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// otherDiff is what is judged by otherwise than before besides the rules of hosts, in lines.
type otherDiff struct {
	lines []string
	opens bool // one of them may let somebody do more, which nobody has proved that it does not
}

// add adds what may let somebody do more.
func (d *otherDiff) add(format string, args ...any) {
	d.note(format, args...)
	d.opens = true
}

// note adds what lets nobody do more than rules say.
func (d *otherDiff) note(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// pairOfTenants is what clients of a name are judged by, before and now. One that was not there has those of
// clients of no tenant on that side.
type pairOfTenants struct {
	name    string
	was, is *policy.Tenant
	before  *policy.Taker // nil: it was not there, or is for clients of no tenant
	now     *policy.Taker // nil: it is gone, or likewise
}

// tenantPairs are those of clients of no tenant, of the tenants that are there, and of those that are gone.
func tenantPairs(before, now *policy.Set) []pairOfTenants {
	all := []pairOfTenants{{name: policy.DefaultName, was: &before.Rest, is: &now.Rest}}
	takers := map[string]*policy.Taker{}
	for i := range before.Tenants {
		takers[before.Tenants[i].Name] = &before.Tenants[i]
	}
	for i := range now.Tenants {
		t := &now.Tenants[i]
		p := pairOfTenants{name: t.Name, was: &before.Rest, is: &t.Tenant, now: t}
		if was := takers[t.Name]; was != nil {
			p.was, p.before = &was.Tenant, was
			delete(takers, t.Name)
		}
		all = append(all, p)
	}
	for i := range before.Tenants {
		if t := &before.Tenants[i]; takers[t.Name] != nil {
			all = append(all, pairOfTenants{name: t.Name, was: &t.Tenant, is: &now.Rest, before: t})
		}
	}
	return all
}

// sets lists what two sets say otherwise.
func (d *otherDiff) sets(before, now *policy.Set) {
	for _, t := range tenantPairs(before, now) {
		switch {
		case t.before == nil && t.now != nil:
			d.add("tenant %s is new; before, its clients were of no tenant, or of another", t.name)
		case t.before != nil && t.now == nil:
			d.add("tenant %s is gone; its clients are of no tenant, or of another", t.name)
		case t.now != nil:
			if old, new := clientsOf(t.before), clientsOf(t.now); old != new {
				d.add("tenant %s: its clients are %s, and were %s", t.name, new, old)
			}
		}
		d.tenant(t.name, t.was, t.is)
	}
	if order(before) != order(now) {
		d.add("tenants are asked in the order %s, and were in %s", order(now), order(before))
	}
	if before.Check != now.Check {
		d.add("tunnels are checked: %s instead of %s", now.Check, before.Check)
	}
	d.users(before.Users, now.Users)
	if before.Mode != now.Mode {
		d.add("clients are asked who they are: %s instead of %s", now.Mode, before.Mode)
	}
}

// tenant lists what no rule says of a tenant.
func (d *otherDiff) tenant(name string, was, is *policy.Tenant) {
	if old, now := was.Sources.String(), is.Sources.String(); old != now {
		d.note("tenant %s: source address %s instead of %s", name, now, old)
	}
	if was.Limits != is.Limits {
		d.note("tenant %s: at once %s instead of %s", name, limitsText(is.Limits), limitsText(was.Limits))
	}
	d.inspect(name, was.Inspect, is.Inspect)
	switch old, now := parentsText(was.Parents), parentsText(is.Parents); {
	case old != now:
		d.add("tenant %s: goes %s instead of %s", name, now, old)
	case !slices.Equal(parentKeys(was.Parents), parentKeys(is.Parents)):
		d.add("tenant %s: a parent is shown another credential, or believed by another CA", name)
	}
}

// inspect lists what is said otherwise of requests.
func (d *otherDiff) inspect(name string, was, is *policy.Inspect) {
	old, now := inspectLines(was), inspectLines(is)
	before := len(d.lines)
	lost, more := without(old, now), without(now, old)
	for _, line := range lost {
		d.add("tenant %s: no more %s", name, line)
	}
	for _, line := range more {
		d.add("tenant %s: new %s", name, line)
	}
	values := map[string][]byte{}
	eachHeader(was, func(key string, value []byte) { values[key] = value })
	eachHeader(is, func(key string, value []byte) {
		if old, ok := values[key]; ok && !bytes.Equal(old, value) {
			d.add("tenant %s: inspect %s to another value", name, key)
		}
	})
	if len(d.lines) == before && !slices.Equal(old, now) {
		d.add("tenant %s: the request rules of inspected hosts stand in another order", name)
	}
}

// eachHeader calls f for each field that is put into requests, whose value is a secret.
func eachHeader(in *policy.Inspect, f func(key string, value []byte)) {
	for i := range in.All() {
		h := &in.All()[i]
		for j := range h.Headers {
			f(h.Host+": sets "+h.Headers[j].Name, h.Headers[j].AppendValue(nil))
		}
	}
}

// without are the lines of all that others has not, as often as there are more of them.
func without(all, others []string) (rest []string) {
	had := map[string]int{}
	for _, line := range others {
		had[line]++
	}
	for _, line := range all {
		if had[line]--; had[line] < 0 {
			rest = append(rest, line)
		}
	}
	return rest
}

// parentKeys tell parents apart that are called alike, without showing what they are shown.
func parentKeys(p *policy.Parents) (keys []string) {
	if p == nil {
		return nil
	}
	for _, w := range p.All() {
		for _, parent := range w.Via {
			keys = append(keys, parent.Key())
		}
	}
	return keys
}

// parentsText says by whom requests go.
func parentsText(p *policy.Parents) string {
	if p == nil {
		return "directly"
	}
	text := "directly, but for "
	var ways []string
	for _, w := range p.All() {
		to, by := "every destination", "address"
		if len(w.For) > 0 {
			to = strings.Join(w.For, ", ")
		}
		if w.ByName {
			by = "name"
		}
		var via []string
		for _, parent := range w.Via {
			via = append(via, parent.String())
		}
		ways = append(ways, fmt.Sprintf("%s via %s (by %s)", to, strings.Join(via, ", then "), by))
	}
	return text + strings.Join(ways, "; ")
}

// inspectLines says in lines what requests may do.
func inspectLines(in *policy.Inspect) (lines []string) {
	if in != nil && in.Certificate != nil {
		lines = append(lines, "inspect: a CA, so that tunnels are opened")
	}
	for i := range in.All() {
		h := &in.All()[i]
		at := "inspect " + h.Host + ": "
		if h.Passthrough {
			lines = append(lines, at+"passthrough")
			continue
		}
		for rule := range h.Requests.Canonical() {
			lines = append(lines, at+rule)
		}
		if h.Requests.Len() == 0 {
			lines = append(lines, at+"no request")
		}
		for i := range h.Headers {
			lines = append(lines, at+"sets "+h.Headers[i].Name)
		}
		if h.MaxBody > 0 {
			lines = append(lines, fmt.Sprintf("%smaxBody %d", at, h.MaxBody))
		}
		o := h.Requests.Options()
		for _, option := range []struct {
			on   bool
			what string
		}{{h.Browsers, "browsers"}, {o.EncodedSlash, "encodedSlash: segment"}, {o.EmptySegments, "emptySegments: keep"}} {
			if option.on {
				lines = append(lines, at+option.what)
			}
		}
	}
	return lines
}

// clientsOf says whom a tenant takes.
func clientsOf(t *policy.Taker) string {
	var all []string
	for _, p := range t.Clients {
		all = append(all, p.String())
	}
	for _, s := range t.Shown {
		all = append(all, s.String())
	}
	for _, p := range t.Pods {
		all = append(all, "pods of "+strings.TrimSuffix(p.Namespace+"/"+p.ServiceAccount, "/"))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

func order(s *policy.Set) string {
	var names []string
	for _, t := range s.Tenants {
		names = append(names, t.Name)
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ", ")
}
