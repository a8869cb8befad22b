package acl

import "strconv"

// A Verdict is what the rules say about a target.
//
// The zero Verdict denies.
type Verdict uint8

const (
	// Deny means: never connect.
	Deny Verdict = iota
	// Allow means: connect, to exactly the address that was judged.
	Allow
	// NeedAddr means that the addresses behind the name decide: resolve the
	// name, then ask [Policy.DecideAddr] about every address. Only
	// [Policy.DecideHost] gives it.
	NeedAddr
)

// String returns "deny", "allow" or "depends", the words of `sluice acl test`.
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case NeedAddr:
		return "depends"
	default:
		return "deny"
	}
}

// A ReasonKind is the class of what decided; it is fit for a metric label.
type ReasonKind uint8

const (
	// ReasonDefault means that no rule matched, or that the target, the
	// address or the policy was missing or invalid.
	ReasonDefault ReasonKind = iota
	// ReasonRule means that the rule in [Decision.Rule] decided.
	ReasonRule
	// ReasonGuard means that the guard denied what the rules allow.
	ReasonGuard
)

// String returns "default", "rule" or "guard".
func (k ReasonKind) String() string {
	switch k {
	case ReasonRule:
		return "rule"
	case ReasonGuard:
		return "guard"
	default:
		return "default"
	}
}

// A Decision is a verdict with its reason as data. It is a comparable value;
// its only references, Text and Source, are parts of the policy's texts.
//
// The zero Decision denies by default.
type Decision struct {
	// Verdict is the answer.
	Verdict Verdict
	// Kind says what class of thing decided. When Verdict is NeedAddr, it and
	// the fields below tell what decides for those addresses that no earlier
	// address rule matches.
	Kind ReasonKind
	// Rule is the position of the rule among the rules, from 1; 0 when no rule
	// decided.
	Rule int
	// Line is the line of the rule in its text, from 1; 0 when no rule decided.
	Line int
	// Text is the rule as written, without comment and surrounding white
	// space; "" when no rule decided. It holds no control bytes, but may hold
	// other than ASCII.
	Text string
	// Source is the name of the text that Line counts in, where the policy was
	// made of several ([ParseTexts]); "" when of one, or when no rule decided. It
	// holds no control bytes, but may hold other than ASCII.
	Source string
	// Guard is the guarded range that denied, GuardNone otherwise.
	Guard GuardRange
	// ByAddr is true when an address rule or the guard decided, rather than
	// the name, `*` or the default.
	ByAddr bool
}

// Reason returns the reason for people: "line 3 !*.example.com" (of
// several texts "line 3 of b.txt !*.example.com"), "default" or "guard loopback".
func (d Decision) Reason() string {
	if d.Kind == ReasonDefault {
		return "default"
	}
	return string(d.AppendReason(nil))
}

// AppendReason appends [Decision.Reason] to b, without an allocation of its own.
func (d Decision) AppendReason(b []byte) []byte {
	switch d.Kind {
	case ReasonRule:
		b = append(b, "line "...)
		b = strconv.AppendInt(b, int64(d.Line), 10)
		if d.Source != "" {
			b = append(b, " of "...)
			b = append(b, d.Source...)
		}
		b = append(b, ' ')
		return append(b, d.Text...)
	case ReasonGuard:
		b = append(b, "guard "...)
		return append(b, d.Guard.String()...)
	default:
		return append(b, "default"...)
	}
}
