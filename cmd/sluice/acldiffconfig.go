package main

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// configDiff is what "sluice acl diff --configs" prints as JSON: what the rules of each tenant decide
// otherwise, and what else is judged by otherwise.
type configDiff struct {
	Equivalent bool         `json:"equivalent"`
	Implies    bool         `json:"implies"`
	Complete   bool         `json:"complete"`
	Tenants    []tenantDiff `json:"tenants"` // whose rules decide otherwise
	Other      []string     `json:"other,omitempty"`

	alike bool // nothing at all is different
}

type tenantDiff struct {
	Tenant string `json:"tenant"` // "default" for clients of none
	diffOutput
}

// runConfigs compares two configurations.
func (a *aclDiff) runConfigs(args []string, s streams) error {
	if a.oldGiven || a.log != "" || len(args) != 2 {
		return fmt.Errorf("--configs compares two configuration files, OLD and NEW, without --old-text and --log")
	}
	at, err := a.time()
	if err != nil {
		return err
	}
	var sets [2]policy.Set
	var configs [2]*config.Proxy
	for i, path := range args {
		c, err := loadAlone(path)
		if err != nil {
			return err
		}
		own, err := parseAddrs("--own", a.own)
		if err != nil {
			return err
		}
		configs[i] = c
		*[]*bool{&a.keepOld, &a.keepNew}[i] = c.KeepExpired
		sets[i] = setOf(c.Shared(), own, at)
		(&proxyMode{usages: new(tenantUsages)}).tenants(c, &sets[i], at)
	}
	out := a.compareSets(&sets[0], &sets[1], at)
	out.settings(configs[0], configs[1])
	if a.json {
		err = printJSON(s, out)
	} else {
		out.print(s)
	}
	if err != nil {
		return err
	}
	return a.status(out.Complete, out.Implies, out.alike && len(out.Other) == 0)
}

// compareSets compares what is judged by before and now, within the limit.
func (a *aclDiff) compareSets(before, now *policy.Set, at time.Time) *configDiff {
	out := &configDiff{Equivalent: true, Implies: true, Complete: true, alike: true, Tenants: []tenantDiff{}}
	deadline := time.Now().Add(a.limit)
	compare := func(name string, was, is *policy.Tenant) {
		d := a.compare(was.Rules, is.Rules, at, audit.Options{Limit: max(time.Until(deadline), time.Millisecond), Own: len(a.own) > 0})
		out.Equivalent, out.Implies, out.Complete = out.Equivalent && d.Equivalent, out.Implies && d.Implies, out.Complete && d.Complete
		if !d.Equivalent || len(d.Other) > 0 {
			out.alike = false
			out.Tenants = append(out.Tenants, tenantDiff{name, d})
		}
		out.other(name, was, is)
	}
	compare(policy.DefaultName, &before.Rest, &now.Rest)
	for i := range now.Tenants {
		t := &now.Tenants[i]
		was := takerOf(before, t.Name)
		if was == nil {
			out.add("tenant %s is new; before, its clients were of no tenant, or of another", t.Name)
			compare(t.Name, &before.Rest, &t.Tenant)
			continue
		}
		if old, new := clientsOf(was), clientsOf(t); old != new {
			out.add("tenant %s: its clients are %s, and were %s", t.Name, new, old)
		}
		compare(t.Name, &was.Tenant, &t.Tenant)
	}
	for i := range before.Tenants {
		if t := &before.Tenants[i].Tenant; takerOf(now, t.Name) == nil {
			out.add("tenant %s is gone; its clients are of no tenant, or of another", t.Name)
			compare(t.Name, t, &now.Rest)
		}
	}
	if order(before) != order(now) {
		out.add("tenants are asked in the order %s, and were in %s", order(now), order(before))
	}
	if before.Check != now.Check {
		out.add("tunnels are checked: %s instead of %s", now.Check, before.Check)
	}
	out.users(before.Users, now.Users)
	if before.Mode != now.Mode {
		out.add("clients are asked who they are: %s instead of %s", now.Mode, before.Mode)
	}
	return out
}

// add adds what may let somebody do more, which nobody has proved that it does not.
func (d *configDiff) add(format string, args ...any) {
	d.Other = append(d.Other, fmt.Sprintf(format, args...))
	d.Implies = false
}

// other adds what no rule says of a tenant.
func (d *configDiff) other(name string, was, is *policy.Tenant) {
	if old, now := was.Sources.String(), is.Sources.String(); old != now {
		d.Other = append(d.Other, fmt.Sprintf("tenant %s: source address %s instead of %s", name, now, old))
	}
	if was.Limits != is.Limits {
		d.Other = append(d.Other, fmt.Sprintf("tenant %s: at once %s instead of %s", name, limitsText(is.Limits), limitsText(was.Limits)))
	}
	old, now := inspectLines(was.Inspect), inspectLines(is.Inspect)
	before := len(d.Other)
	for _, line := range old {
		if !slices.Contains(now, line) {
			d.add("tenant %s: no more %s", name, line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			d.add("tenant %s: new %s", name, line)
		}
	}
	if len(d.Other) == before && !slices.Equal(old, now) {
		d.add("tenant %s: the request rules of inspected hosts stand in another order", name)
	}
	if old, now := parentsText(was.Parents), parentsText(is.Parents); old != now {
		d.add("tenant %s: goes %s instead of %s", name, now, old)
	}
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
			sum := sha256.Sum256(h.Headers[i].AppendValue(nil))
			lines = append(lines, fmt.Sprintf("%ssets %s to a value whose SHA-256 begins with %x", at, h.Headers[i].Name, sum[:4]))
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

func takerOf(s *policy.Set, name string) *policy.Taker {
	for i := range s.Tenants {
		if s.Tenants[i].Name == name {
			return &s.Tenants[i]
		}
	}
	return nil
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

func (d *configDiff) print(s streams) {
	if d.Complete && d.alike && len(d.Other) == 0 {
		fmt.Fprintln(s.out, "equivalent: both configurations decide alike for every client")
	}
	for _, line := range d.Other {
		fmt.Fprintln(s.out, line)
	}
	for i := range d.Tenants {
		t := &d.Tenants[i]
		if i > 0 || len(d.Other) > 0 {
			fmt.Fprintln(s.out)
		}
		fmt.Fprintf(s.out, "tenant %s: ", t.Tenant)
		t.diffOutput.print(s)
	}
}
