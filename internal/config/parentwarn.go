package config

import (
	"fmt"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// warnParents says what is not as one may think: of whom rules for addresses hold not, and who
// has no parents beside those who have.
func (p *Proxy) warnParents(l *settings.Loader) {
	warn := func(tenant string, line int, parents *policy.Parents, rules *acl.Policy) {
		for _, w := range parents.All() {
			if !w.ByName {
				continue
			}
			of := ""
			if tenant != "" {
				of = "tenant " + tenant + ": "
			}
			l.Warn(settings.Problem{Source: l.Path, Line: line, Msg: fmt.Sprintf("%sconnect: name has parents resolve the names of %s: nobody judges addresses there, so the guard%s do not hold for them",
				of, waysFor(w), addressRules(rules))})
		}
	}
	line := 0
	if n := l.Block(parentsSetting()); n != nil {
		line = n.Line
	}
	warn("", line, p.Parents, p.Policy)
	for _, t := range p.Tenants {
		warn(t.Name, t.line, t.Parents, t.Policy)
		if p.Parents != nil && t.Parents == nil && !t.direct {
			l.Warn(settings.Problem{Source: l.Path, Line: t.line, Msg: fmt.Sprintf(`tenant %s has no "parents" and goes directly: those of the gateway are not a tenant's; give it its own, or write parents: [] if that is meant`, t.Name)})
		}
	}
}

// waysFor are the destinations that w is for, for people.
func waysFor(w policy.Way) string {
	if len(w.For) == 0 {
		return "every destination"
	}
	return strings.Join(w.For, ", ")
}

// addressRules names the rules for addresses among rules.
func addressRules(rules *acl.Policy) string {
	var first acl.Rule
	n := 0
	for r := range rules.Rules() {
		if r.Form != acl.FormAddr {
			continue
		}
		if n++; n == 1 {
			first = r
		}
	}
	switch n {
	case 0:
		return " and rules for addresses"
	case 1:
		return fmt.Sprintf(" and the rule in line %d (%s)", first.Line, first.Text)
	}
	return fmt.Sprintf(" and %d rules for addresses, the first in line %d (%s),", n, first.Line, first.Text)
}
