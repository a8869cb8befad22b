package policy

import (
	"net/netip"
	"sync/atomic"

	"github.com/sluiceproxy/sluice/acl"
)

// Shadow is rules that are judged by beside those in force, and change nothing. It counts what
// they would change. But for that it is not changed once made; nil is none. Its methods may be
// called concurrently.
type Shadow struct {
	rules *acl.Policy
	lines []shadowLine // by the position of the rule; the first: no rule decided
}

// shadowLine is how many requests one rule would have decided otherwise.
type shadowLine struct{ wouldDeny, wouldAllow atomic.Uint64 }

// NewShadow returns the shadow of rules, with the guard that they have; nil: none.
func NewShadow(rules *acl.Policy) *Shadow {
	if rules == nil {
		return nil
	}
	return &Shadow{rules: rules, lines: make([]shadowLine, rules.Len()+1)}
}

// Rules are what s judges by; nil of a nil Shadow.
func (s *Shadow) Rules() *acl.Policy {
	if s == nil {
		return nil
	}
	return s.rules
}

// Shadowed is what a shadow says otherwise than the rules in force. The zero Shadowed is no
// difference. It keeps no rules.
type Shadowed struct {
	Differs bool
	// Verdict is the shadow's: NeedAddr where that depends on addresses which nobody has asked
	// for, since the rules in force deny without.
	Verdict acl.Verdict
	Rule    int32  // position of the rule that decides, from 1; 0: none does
	Line    int32  // of that
	Source  string // of that, where there are several texts
}

// Judge says whether s decides about t otherwise than was decided. addrs are those that its name
// has resolved to, if it was resolved: nothing is for s. It allocates nothing.
func (s *Shadow) Judge(t acl.Target, addrs []netip.Addr, decided acl.Verdict) Shadowed {
	if s == nil {
		return Shadowed{}
	}
	d := s.rules.DecideHost(t)
	if d.Verdict == acl.NeedAddr && len(addrs) > 0 {
		d = s.rules.DecideAddr(t, addrs[0])
		for _, a := range addrs[1:] {
			if d.Verdict == acl.Allow {
				break
			}
			if other := s.rules.DecideAddr(t, a); other.Verdict == acl.Allow {
				d = other
			}
		}
	}
	return differs(d, decided)
}

// JudgeName is Judge for a name that nobody here resolves.
func (s *Shadow) JudgeName(t acl.Target, decided acl.Verdict) Shadowed {
	if s == nil {
		return Shadowed{}
	}
	return differs(s.rules.DecideName(t), decided)
}

func differs(d acl.Decision, decided acl.Verdict) Shadowed {
	if d.Verdict == decided {
		return Shadowed{}
	}
	return Shadowed{Differs: true, Verdict: d.Verdict, Rule: int32(d.Rule), Line: int32(d.Line), Source: d.Source}
}

// Count counts a request that has ended.
func (s *Shadow) Count(x Shadowed) {
	if s == nil || !x.Differs || int(x.Rule) >= len(s.lines) {
		return
	}
	switch x.Verdict {
	case acl.Deny:
		s.lines[x.Rule].wouldDeny.Add(1)
	case acl.Allow:
		s.lines[x.Rule].wouldAllow.Add(1)
	}
}

// ShadowLine is how many requests a rule of a shadow would have decided otherwise.
type ShadowLine struct {
	Line                  int    // 0: those that no rule decides
	Source                string // where there are several texts
	Text                  string
	WouldDeny, WouldAllow uint64
}

// Lines are those that have decided something otherwise, in their order, the default last.
func (s *Shadow) Lines() (all []ShadowLine) {
	if s == nil {
		return nil
	}
	for i := range s.lines {
		at := (i + 1) % len(s.lines)
		l := ShadowLine{WouldDeny: s.lines[at].wouldDeny.Load(), WouldAllow: s.lines[at].wouldAllow.Load()}
		if l.WouldDeny+l.WouldAllow == 0 {
			continue
		}
		if at > 0 {
			r := s.rules.Rule(at)
			l.Line, l.Source, l.Text = r.Line, r.Source, r.Text
		}
		all = append(all, l)
	}
	return all
}

// Keep has s go on counting where before was, if it judges by the same text.
func (s *Shadow) Keep(before *Shadow) {
	if s == nil || before == nil || len(s.lines) != len(before.lines) || !s.rules.SameText(before.rules) {
		return
	}
	s.lines = before.lines
}
