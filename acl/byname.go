package acl

import "strings"

// DecideName decides by the name alone, for who lets somebody else resolve it: as though there
// were no rule for addresses. Of the guard that is left which names tell: localhost and the names
// below it (RFC 6761 section 6.3), and the metadata services of clouds. It never gives NeedAddr. For
// an address it is [Policy.DecideHost].
func (p *Policy) DecideName(t Target) Decision {
	if p == nil || !t.valid() {
		return Decision{}
	}
	if t.Host.IsAddr() {
		return p.decide(t, t.Host.addr)
	}
	d := p.set.decision(p.set.nameRule(t))
	if d.Verdict != Allow || p.mode == GuardOff {
		return d
	}
	switch name := t.Host.name; {
	case name == "localhost", strings.HasSuffix(name, ".localhost"):
		return Decision{Kind: ReasonGuard, Guard: GuardLoopback}
	case name == "metadata", name == "metadata.google.internal", name == "instance-data":
		return Decision{Kind: ReasonGuard, Guard: GuardMetadata}
	}
	return d
}
