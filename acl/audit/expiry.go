package audit

import (
	"cmp"
	"fmt"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// ExpiredRules finds the rules whose day has passed at o.Now. It costs little, and is part of each start.
func ExpiredRules(p *acl.Policy, o LintOptions) (out []Finding) {
	for r := range p.Rules() {
		for _, f := range expiry(&r, &o) {
			if f.Kind == Expired {
				out = append(out, f)
			}
		}
	}
	return out
}

// expiry tells of a rule whose day has passed or is near.
func expiry(rule *acl.Rule, o *LintOptions) []Finding {
	if rule.Expires.IsZero() || o.Now.IsZero() {
		return nil
	}
	f := Finding{Kind: Expired, Rule: *rule}
	day := rule.Expires.Format(time.DateOnly)
	soon := cmp.Or(o.Soon, 30*24*time.Hour)
	switch left := rule.Expires.AddDate(0, 0, 1).Sub(o.Now); {
	case left <= 0 && rule.Deny:
		f.Msg = fmt.Sprintf("'%s' has expired on %s, and still denies: remove the line, or its expires=", rule.Text, day)
	case left <= 0 && o.Keep:
		f.Msg = fmt.Sprintf("'%s' has expired on %s, and still allows, since what has expired is kept: remove the line, or give it another day", rule.Text, day)
	case left <= 0:
		f.Msg = fmt.Sprintf("'%s' has expired on %s, and allows nothing any more: remove the line, or give it another day", rule.Text, day)
	case left <= soon && !rule.Deny:
		f.Kind, f.Msg = ExpiresSoon, fmt.Sprintf("'%s' expires on %s, in %d days", rule.Text, day, int(left/(24*time.Hour)))
	default:
		return nil
	}
	return []Finding{f}
}
