package config

import (
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// prove checks what a list of rules asserts, as it is in force now, and tells of what opens more than
// was meant. An assertion that only an expiry has broken is a warning: a pod that is moved must come up.
func (c *Common) prove(l *settings.Loader, p *acl.Policy, guard acl.GuardMode) {
	warn := func(w acl.Problem) { l.Warnings = append(l.Warnings, fromACL([]acl.Problem{w})...) }
	for _, f := range audit.Openings(p) {
		warn(p.Problem(f.Rule.Pos, f.Msg))
	}
	if len(p.Assertions()) == 0 {
		return
	}
	now := time.Now()
	if c.KeepExpired {
		now = time.Time{}
	}
	wrong, expired := audit.Verify(p.WithGuard(acl.Guard{Mode: guard}), now, audit.Options{})
	for _, b := range wrong {
		l.Problems = append(l.Problems, fromACL([]acl.Problem{b.Problem()})...)
	}
	for _, b := range expired {
		w := b.Problem()
		w.Msg += " (a rule that has expired allowed it: renew or remove it, or mend the assertion)"
		warn(w)
	}
}
