package config

import (
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// prove checks what a list of rules asserts, as it is in force now, and tells of what opens more than
// was meant, and of what has expired. An assertion that only an expiry has broken is a warning: a pod that is moved must come up.
func (c *Common) prove(l *settings.Loader, p *acl.Policy, guard acl.GuardMode) {
	warn := func(w acl.Problem) { l.Warnings = append(l.Warnings, fromACL([]acl.Problem{w})...) }
	now := time.Now()
	for _, f := range slices.Concat(audit.Openings(p), audit.ExpiredRules(p, audit.LintOptions{Now: now, Keep: c.KeepExpired})) {
		warn(p.Problem(f.Rule.Pos, f.Msg))
	}
	wrong, broken := c.verify(p, guard, now)
	l.Problems = append(l.Problems, fromACL(wrong)...)
	c.Broken += len(broken)
	for _, w := range broken {
		warn(w)
	}
}

// verify are the assertions of p that do not hold at a time: those that are wrong, and those that only an expiry has
// broken.
func (c *Common) verify(p *acl.Policy, guard acl.GuardMode, at time.Time) (wrong, broken []acl.Problem) {
	if len(p.Assertions()) == 0 {
		return nil, nil
	}
	if c.KeepExpired {
		at = time.Time{}
	}
	w, b := audit.Verify(p.WithGuard(acl.Guard{Mode: guard}), at, audit.Options{})
	for i := range w {
		wrong = append(wrong, w[i].Problem())
	}
	for i := range b {
		one := b[i].Problem()
		one.Msg += " (a rule that has expired allowed it: renew or remove it, or mend the assertion)"
		broken = append(broken, one)
	}
	return wrong, broken
}

// BrokenAt are the assertions that do not hold at a time any more since a rule has expired by then. It may take seconds.
func (c *Common) BrokenAt(at time.Time) (all []acl.Problem) {
	_, all = c.verify(c.Policy, c.Guard, at)
	for i := range c.Tenants {
		_, more := c.verify(c.Tenants[i].Policy, c.Tenants[i].Guard, at)
		all = append(all, more...)
	}
	return all
}
