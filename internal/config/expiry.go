package config

import (
	"fmt"
	"iter"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// expiredSetting is what becomes of rules whose day has passed.
func (c *Common) expiredSetting() settings.Setting {
	return settings.Setting{Flag: "expired", Key: "expired", Default: "close", Value: "WHAT", Change: live,
		Help: "what becomes of an allow rule behind which #@ expires= names a day that has passed: close, it allows nothing any more, or keep, it is only reported",
		Into: settings.One(&c.KeepExpired, parseExpired)}
}

func parseExpired(s string) (keep bool, err error) {
	if s != "close" && s != "keep" {
		return false, fmt.Errorf("%q is neither close nor keep", s)
	}
	return s == "keep", nil
}

// InForce is p, one of c's policies, without the rules that have expired at the time.
func (c *Common) InForce(p *acl.Policy, at time.Time) *acl.Policy {
	if c.KeepExpired {
		return p
	}
	return p.At(at)
}

// policies are all that c has, those of tenants among them.
func (c *Common) policies() iter.Seq[*acl.Policy] {
	return func(yield func(*acl.Policy) bool) {
		if !yield(c.Policy) {
			return
		}
		for i := range c.Tenants {
			if !yield(c.Tenants[i].Policy) {
				return
			}
		}
	}
}

// NextExpiry is when the first rule expires after t; false: none does.
func (c *Common) NextExpiry(t time.Time) (next time.Time, ok bool) {
	for p := range c.policies() {
		if at, some := p.NextExpiry(t); some && (!ok || at.Before(next)) {
			next, ok = at, true
		}
	}
	return next, ok
}

// ExpiredBetween are the allow rules that have expired after from, and not after to, as people
// know them.
func (c *Common) ExpiredBetween(from, to time.Time) (all []string) {
	for p := range c.policies() {
		for r := range p.Rules() {
			if end := r.Expires.AddDate(0, 0, 1); !r.Deny && !r.Expires.IsZero() && end.After(from) && !end.After(to) {
				place := fmt.Sprintf("line %d", r.Line)
				if r.Source != "" {
					place += " of " + r.Source
				}
				all = append(all, fmt.Sprintf("%s %s, valid through %s", place, r.Text, r.Expires.Format(time.DateOnly)))
			}
		}
	}
	return all
}
