package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// lintConfig lints a configuration: the rules of each tenant, and what it says of inspected hosts.
func (a *aclLint) lintConfig(environ []string, s streams) (out lintOutput, err error) {
	c, err := loadHere(a.config, environ, s)
	if err != nil {
		return out, err
	}
	now, err := a.time()
	if err != nil {
		return out, err
	}
	own, err := parseAddrs("--own", a.own)
	if err != nil {
		return out, err
	}
	set := setOf(c.Shared(), own, now)
	(&proxyMode{usages: new(tenantUsages)}).tenants(c, &set, now)
	out = lintOutput{Complete: true, Findings: []lintFinding{}}
	a.keep = c.KeepExpired
	deadline := time.Now().Add(a.limit) // of all tenants together
	lint := func(t *policy.Tenant) {
		a.lintTenant(&out, t, audit.Options{Limit: max(time.Until(deadline), time.Millisecond), Own: len(a.own) > 0}, now)
	}
	lint(&set.Rest)
	for i := range set.Tenants {
		lint(&set.Tenants[i].Tenant)
	}
	return out, nil
}

func (a *aclLint) lintTenant(out *lintOutput, t *policy.Tenant, o audit.Options, now time.Time) {
	r := audit.Lint(t.Rules, audit.LintOptions{Options: o, Now: now, Keep: a.keep})
	for _, f := range r.Findings {
		out.add(findingOf(&f, t.Rules))
	}
	out.bound(r.Complete(), r.Why)
	hosts := t.Inspect.All()
	for i := range hosts {
		out.requests(a.config, &hosts[i])
	}
	out.shadowed(a.config, hosts, o)
	for i := range hosts {
		out.reached(a.config, &hosts[i], t, o)
	}
}

// add adds what is not there yet: tenants may have rules in common.
func (o *lintOutput) add(f lintFinding) {
	if o.seen == nil {
		o.seen = map[seenFinding]bool{}
	}
	if key := (seenFinding{f.Kind, f.File, f.Line, f.Message}); !o.seen[key] {
		o.seen[key] = true
		o.Findings = append(o.Findings, f)
	}
}

// bound says that there may be more.
func (o *lintOutput) bound(complete bool, why string) {
	if !complete && o.Complete {
		o.Complete, o.Why = false, why
	}
}

// requests adds what is doubtful about the request rules of a host.
func (o *lintOutput) requests(file string, h *policy.Inspected) {
	for _, d := range h.Requests.Doubts() {
		f := lintFinding{Kind: "request-" + string(d.Kind), File: file, Line: d.Line, Rule: d.Text, Message: d.Msg, Opens: d.Opens()}
		if d.By.Line > 0 {
			f.Lines = []lintLine{{file, d.By.Line, d.By.Text}}
		}
		o.add(f)
	}
}

// shadowed adds the hosts of which others say everything before.
func (o *lintOutput) shadowed(file string, hosts []policy.Inspected, opt audit.Options) {
	for _, names := range []bool{true, false} { // names and addresses are looked for apart
		var text strings.Builder
		var at []*policy.Inspected
		for i := range hosts {
			p, err := acl.Parse(hosts[i].Host)
			if r := p.Rule(1); err == nil && (r.Form != acl.FormAddr) == names {
				if r.Ports == nil {
					r.Ports = []acl.PortRange{{From: 443, To: 443}} // of tunnels
				}
				text.WriteString(r.Canonical() + "\n")
				at = append(at, &hosts[i])
			}
		}
		p, err := acl.Parse(text.String())
		if err != nil {
			continue // which no single one of them has
		}
		r := audit.Lint(p.WithGuard(acl.Guard{Mode: acl.GuardOff}), audit.LintOptions{Options: opt})
		o.bound(r.Complete(), r.Why)
		for _, f := range r.Findings {
			if f.Kind != audit.NeverDecides {
				continue
			}
			h := at[f.Rule.Pos-1]
			out := lintFinding{Kind: "host-shadowed", File: file, Line: h.Line, Rule: h.Host, Opens: !h.Passthrough}
			var before []string
			for _, l := range f.Lines {
				by := at[l.Pos-1]
				out.Lines = append(out.Lines, lintLine{file, by.Line, by.Host})
				before = append(before, fmt.Sprintf("%s in line %d", by.Host, by.Line))
			}
			out.Message = fmt.Sprintf("what is said of the host %s is never asked: %s comes first; put it in front", h.Host, strings.Join(before, " and "))
			o.add(out)
		}
	}
}

// reached adds a host that the rules allow nothing of: with a rule in front that denies it, nothing
// changes.
func (o *lintOutput) reached(file string, h *policy.Inspected, t *policy.Tenant, opt audit.Options) {
	p, err := acl.Parse(h.Host)
	if err != nil {
		return
	}
	form := p.Rule(1)
	form.Deny = true
	var text strings.Builder
	text.WriteString(form.Canonical() + "\n")
	for r := range t.Rules.Rules() {
		if r.Expired {
			continue // it would be in force in the other list
		}
		text.WriteString(r.Canonical() + "\n")
	}
	without, err := acl.Parse(text.String())
	if err != nil {
		return
	}
	d := audit.Compare(t.Rules, without.WithGuardOf(t.Rules), opt)
	// A rule that denies an address denies names there, too: they are none of the host's.
	reached := slices.ContainsFunc(d.Changes, func(c audit.Change) bool {
		by := t.Rules.Rule(c.Old.Rule).Form
		return form.Form != acl.FormAddr || by == acl.FormAddr || by == acl.FormStar || c.Target.Host.IsAddr()
	})
	o.bound(d.Complete() || reached, d.Why)
	if !d.Complete() || reached {
		return
	}
	o.add(lintFinding{Kind: "host-never-allowed", File: file, Line: h.Line, Rule: h.Host,
		Message: fmt.Sprintf("the rules allow nothing of the inspected host %s: what is said of it is never asked; allow it, or leave it out", h.Host)})
}
