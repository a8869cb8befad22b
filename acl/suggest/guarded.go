package suggest

import (
	"fmt"
	"net/netip"

	"github.com/sluiceproxy/sluice/acl"
)

// reached is what was reached, but for addresses that were asked for as such and that the guard stops:
// a rule for one would unlock it, also for names that lead there. Those are locked.
func (l *Log) reached(mode acl.GuardMode) (all map[acl.Target]*use, locked []Beside) {
	guard := (&Suggestion{Rules: []Rule{{Text: "*"}}}).policy(mode)
	all = map[acl.Target]*use{}
	for t, u := range l.outcomes[Reached] {
		if t.Host.IsAddr() {
			if d := guard.DecideHost(t); d.Verdict != acl.Allow {
				locked = append(locked, besideGuard(t, u, d, t.Host.Addr()))
				continue
			}
		}
		all[t] = u
	}
	return all, locked
}

// besideGuard is what was reached at an address that the guard stops.
func besideGuard(t acl.Target, u *use, d acl.Decision, at netip.Addr) Beside {
	return Beside{t, fmt.Sprintf("%s: it was reached at %s, which wants a rule of its own", d.Reason(), at), u.Use}
}

// guarded are what was reached, and would not be by p: at addresses that the rules then in force had
// unlocked.
func guarded(reached map[acl.Target]*use, p *acl.Policy) (all []Beside) {
	for t, u := range reached {
		for _, a := range u.addrs {
			if d := p.DecideAddr(t, a); d.Verdict != acl.Allow {
				all = append(all, besideGuard(t, u, d, a))
			}
		}
	}
	return all
}
