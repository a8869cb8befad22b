package main

import (
	"fmt"
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
func (a *aclDiff) runConfigs(args, environ []string, s streams) error {
	if a.oldGiven || a.log != "" || len(args) != 2 {
		return fmt.Errorf("--configs compares two configuration files, OLD and NEW, without --old-text and --log")
	}
	if args[0] == "-" && args[1] == "-" {
		return errBothStdin
	}
	at, err := a.time()
	if err != nil {
		return err
	}
	var sets [2]policy.Set
	var configs [2]*config.Proxy
	for i, path := range args {
		c, err := a.load(path, environ, s)
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
	var other otherDiff
	other.sets(&sets[0], &sets[1])
	other.settings(configs[0], configs[1], false)
	out.Other, out.Implies = other.lines, out.Implies && !other.opens
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

// load loads a configuration that is compared.
func (a *aclDiff) load(path string, environ []string, s streams) (*config.Proxy, error) {
	if a.environment {
		return loadHere(path, environ, s)
	}
	return loadAlone(path, s)
}

// compareSets compares what is judged by before and now, within the limit.
func (a *aclDiff) compareSets(before, now *policy.Set, at time.Time) *configDiff {
	out := &configDiff{Equivalent: true, Implies: true, Complete: true, alike: true, Tenants: []tenantDiff{}}
	deadline := time.Now().Add(a.limit)
	for _, t := range tenantPairs(before, now) {
		d := a.compare(t.was.Rules, t.is.Rules, at, audit.Options{Limit: max(time.Until(deadline), time.Millisecond), Own: len(a.own) > 0})
		out.Equivalent, out.Implies, out.Complete = out.Equivalent && d.Equivalent, out.Implies && d.Implies, out.Complete && d.Complete
		if !d.Equivalent || len(d.Other) > 0 {
			out.alike = false
			out.Tenants = append(out.Tenants, tenantDiff{t.name, d})
		}
	}
	return out
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
