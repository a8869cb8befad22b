package audit

import (
	"fmt"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// A Stage is what two policies decide differently from a moment on. What an earlier stage has said
// already, of the same lines on the same ports, is not said again.
type Stage struct {
	// From is when it begins: the end of the last day of some rule; zero is the moment asked about.
	From      time.Time
	Diff      Diff
	Protocols ProtocolDiff
}

// CourseOptions are how policies go on. The zero time is for policies of no time, in which nothing expires.
type CourseOptions struct {
	Options
	At               time.Time
	KeepOld, KeepNew bool // expired rules of the one, or the other, stay in force
}

// Course compares two policies as they are at a moment, and after each expiry of a rule of either behind
// it: nothing else changes with time. A stage without a difference is left out, but for the first.
// The bound of o is for all of them together; what is not Complete in one is not known of those behind it.
func Course(old, now *acl.Policy, o CourseOptions) (stages []Stage) {
	b := o.budget()
	said := map[string]bool{}
	for at, first := o.At, true; ; first = false {
		s := Stage{}
		if !first {
			s.From = at
		}
		was, is := inForce(old, at, o.KeepOld), inForce(now, at, o.KeepNew)
		left := o.Options
		left.Limit = max(time.Until(b.end), time.Nanosecond)
		p := newPair(was, is, left)
		if s.Diff = p.compare(); s.Diff.Complete() {
			s.Protocols = p.compareProtocols()
		}
		s.Diff.Changes = unsaid(s.Diff.Changes, said, func(c *Change) string {
			say := sayOf(c.Old, c.New, c.Others, c.Ports) + fmt.Sprint(c.Opened(), c.Target.Own.IsValid())
			if c.Others != OldSide && c.Old.Guard != acl.GuardNone || c.Others != NewSide && c.New.Guard != acl.GuardNone {
				say += fmt.Sprint(c.key) // for no decision of the guard says for which addresses it is
			}
			return say
		})
		s.Protocols.Changes = unsaid(s.Protocols.Changes, said, func(c *ProtocolChange) string {
			return sayOf(c.Old, c.New, c.Others, c.Ports) + c.OldWants + "," + c.NewWants
		})
		known := s.Diff.Complete() && s.Protocols.Complete()
		if first || !known || len(s.Diff.Changes)+len(s.Protocols.Changes) > 0 {
			stages = append(stages, s)
		}
		next, ok := nextExpiry(old, now, at, o)
		switch {
		case !known || !ok || first && o.KeepOld == o.KeepNew && sameCourse(old, now):
			return stages
		case time.Now().After(b.end):
			return append(stages, Stage{From: next, Diff: Diff{Why: "rules expire on many days: the time is over"}})
		}
		at = next
	}
}

// inForce is p at a time, with what has expired if that stays.
func inForce(p *acl.Policy, at time.Time, keep bool) *acl.Policy {
	if keep {
		return p.At(time.Time{})
	}
	return p.At(at)
}

// nextExpiry is when the first rule of either expires after a time; at no time, none does.
func nextExpiry(old, now *acl.Policy, at time.Time, o CourseOptions) (next time.Time, ok bool) {
	if at.IsZero() {
		return next, false
	}
	if !o.KeepOld {
		next, ok = old.NextExpiry(at)
	}
	if !o.KeepNew {
		if t, some := now.NextExpiry(at); some && (!ok || t.Before(next)) {
			next, ok = t, true
		}
	}
	return next, ok
}

// sameCourse reports whether two policies are alike on every day: rule by rule, with their days.
func sameCourse(old, now *acl.Policy) bool {
	if old.Len() != now.Len() || !old.SameGuard(now) {
		return false
	}
	for i := 1; i <= old.Len(); i++ {
		a, b := old.Rule(i), now.Rule(i)
		if !a.Expires.Equal(b.Expires) || a.Protocol != b.Protocol || a.Canonical() != b.Canonical() {
			return false
		}
	}
	return true
}

// unsaid are the changes whose key is new.
func unsaid[C any](cs []C, said map[string]bool, key func(*C) string) (out []C) {
	for i := range cs {
		if k := key(&cs[i]); !said[k] {
			said[k] = true
			out = append(out, cs[i])
		}
	}
	return out
}

// sayOf is a key of what decides, without the side that is one of several.
func sayOf(old, now acl.Decision, others Side, ports []acl.PortRange) string {
	switch others {
	case OldSide:
		old = acl.Decision{Verdict: old.Verdict}
	case NewSide:
		now = acl.Decision{Verdict: now.Verdict}
	}
	return fmt.Sprint(old.Rule, old.Kind, now.Rule, now.Kind, others, ports)
}
