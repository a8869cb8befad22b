package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// A Breach is an assertion that does not hold, or of which that could not be decided.
type Breach struct {
	Assertion acl.Assertion
	Text      string // of the target of the assertion
	// Target breaks the assertion, by Decision. Both are zero when Why is not "".
	Target   Target
	Decision acl.Decision
	Why      string // what made the question too large
}

// Problem is the breach as a problem of the text, which names both lines.
func (b *Breach) Problem() acl.Problem {
	p := acl.Problem{Source: b.Assertion.Source, Line: b.Assertion.Line, Text: b.Assertion.Text}
	what := "'" + b.Assertion.Text + "'"
	if b.Why != "" {
		p.Msg = fmt.Sprintf("%s could not be decided for %s (%s); an assertion has to hold: write a smaller one, or fewer patterns", what, b.Text, b.Why)
		return p
	}
	on := ""
	if b.Target.Own.IsValid() {
		on = " on a gateway with the address " + b.Target.Own.String()
	}
	verdict := "denies"
	if b.Decision.Verdict == acl.Allow {
		verdict = "allows"
	}
	p.Msg = fmt.Sprintf("%s does not hold: %s %s %s%s", what, b.Decision.Reason(), verdict, b.Target, on)
	return p
}

// CheckAssertions decides the assertions of a policy, and returns those that do not hold: one target
// of each. The bound of o is for all of them together. Whether addresses are the gateway's own is not
// asked: what is denied elsewhere is denied there too.
func CheckAssertions(p *acl.Policy, o Options) (out []Breach) {
	if len(p.Assertions()) == 0 {
		return nil
	}
	q := newAsserted(p, o)
	for _, a := range p.Assertions() {
		for _, t := range a.Targets {
			b := Breach{Assertion: a, Text: t.Text}
			var found bool
			if !q.budget.over("assertions") {
				b.Target, found = q.breach(a.Allow, t)
			}
			switch {
			case found:
				b.Decision = b.Target.Decide(p)
			case q.budget.why != "":
				b.Why = q.budget.why
			default:
				continue
			}
			out = append(out, b)
			break // one of each is enough
		}
	}
	return out
}

// asserted is a list of which assertions are decided.
type asserted struct {
	list   *list
	budget *budget
	tree   *names
	// What all assertions about names ask: classes of all addresses, and of those that are globally reachable; nil: not
	// looked for yet.
	all, reachable *pair
}

func newAsserted(p *acl.Policy, o Options) *asserted {
	l, b := newList(p), o.budget()
	return &asserted{list: l, budget: b, tree: newNames(b, l)}
}

func (q *asserted) pair() *pair {
	return &pair{old: q.list, now: q.list, budget: q.budget, own: true, tree: q.tree}
}

// addrs gives p the classes of addresses in a scope, which are looked for once.
func (q *asserted) addrs(p *pair, kept **pair, scope func(netip.Addr) bool) {
	if *kept == nil {
		*kept = q.pair()
		(*kept).findAddrs(scope)
	}
	p.addrs, p.addrReps = (*kept).addrs, (*kept).addrReps
}

// breach looks for a target of t that is denied, or, unless allow, allowed.
func (q *asserted) breach(allow bool, t acl.AssertTarget) (Target, bool) {
	p := q.pair()
	form := acl.Rule{Form: t.Form, Prefix: t.Prefix, Name: t.Name}
	meant, err := acl.Parse(form.Canonical())
	if err != nil {
		q.budget.give(err.Error())
		return Target{}, false
	}
	only := newList(meant)
	// Which names: those of a name, and all, literals too, of a network.
	switch {
	case t.Form == acl.FormStar:
		p.findNames(nil)
	case t.Form == acl.FormAddr && allow:
		p.findLiterals()
	case t.Form == acl.FormAddr:
		p.findNames(nil)
	default:
		s := emptyScope()
		if !s.add(&form) {
			s = nil
		}
		p.named = true
		p.findNamesOf(s, func(name string) bool { return len(only.ofName(name, nil)) > 0 }, only)
	}
	// Which addresses.
	global := func(a netip.Addr) bool {
		return noRules.Guarded(a, 1, netip.Addr{}) == acl.GuardNone
	}
	switch {
	case t.Addrs != nil:
		p.seen = map[class]int32{}
		e := addrEval{pair: p}
		for _, a := range t.Addrs {
			e.add(a)
		}
	case t.Form == acl.FormAddr:
		p.findAddrs(func(a netip.Addr) bool {
			return t.Prefix.Contains(a) || !allow && slices.ContainsFunc(acl.Embedded(a), t.Prefix.Contains)
		}, closing(form))
	case allow:
		q.addrs(p, &q.reachable, global)
	default:
		q.addrs(p, &q.all, nil)
	}
	if q.budget.why != "" {
		return Target{}, false
	}
	return p.find(t.Ports, !allow)
}

// noRules guards all that is not globally reachable.
var noRules = func() *acl.Policy {
	p, _ := acl.Parse("")
	return p.WithGuard(acl.Guard{Mode: acl.GuardStrict})
}()

// closing is the policy of a deny rule.
func closing(r acl.Rule) *acl.Policy {
	r.Deny = true
	p, _ := acl.Parse(r.Canonical())
	return p
}

// find finds a target that is allowed, or denied, on some of the ports; nil is any.
func (p *pair) find(ports []acl.PortRange, allowed bool) (Target, bool) {
	if ports == nil {
		ports = []acl.PortRange{{From: 1, To: 65535}}
	}
	for i := range p.names {
		n := &p.names[i]
		for j := range p.addrs {
			a := &p.addrs[j]
			if p.budget.spent("names and addresses") {
				return Target{}, false
			}
			if (p.old.allows(min(n.old, a.old)) && !a.oldG) != allowed {
				continue
			}
			for _, r := range ports {
				from, to := max(n.from, a.from, int32(r.From)), min(n.to, a.to, int32(r.To))
				if from <= to {
					return p.target(n, a, from, to), true
				}
			}
		}
	}
	return Target{}, false
}

// Verify checks the assertions of a policy as it is at a time. expired are breaches that only the
// expiry of rules has made.
func Verify(p *acl.Policy, now time.Time, o Options) (wrong, expired []Breach) {
	at := p.At(now)
	found := CheckAssertions(at, o)
	if len(found) == 0 || at == p {
		return found, nil
	}
	before := CheckAssertions(p, o)
	for _, b := range found {
		same := func(c Breach) bool {
			return c.Assertion.Line == b.Assertion.Line && c.Assertion.Source == b.Assertion.Source
		}
		if slices.ContainsFunc(before, same) {
			wrong = append(wrong, b)
		} else {
			expired = append(expired, b)
		}
	}
	return wrong, expired
}
