package door

import "github.com/sluiceproxy/sluice/proxy/policy"

// grounds are why a life was revoked. Those of an earlier life are nobody's.
type grounds struct {
	of Lease
	policy.Revocation
}

// Revoke ends the requests and tunnels that judge gives a reason for, by what they have asked
// for and the address in use, and returns how many those are. What has no server yet is for
// its front door to admit again, by what is in force when it has.
func (d *Door) Revoke(judge func(*Open) *policy.Revocation) (n int) {
	d.Each(func(m Member) {
		if revoke(m, m.entry().Look(), judge) {
			n++
		}
	})
	return n
}

func revoke(m Member, of Lease, judge func(*Open) *policy.Revocation) bool {
	return m.CutIf(func(o *Open) bool {
		if o.State == Waiting || !o.Connected() {
			return false
		}
		why := judge(o)
		if why != nil {
			m.entry().grounds.Store(&grounds{of, *why})
		}
		return why != nil
	}, Revoked)
}

// RevokeNow ends that life of m for the reason, if it goes on.
func RevokeNow(m Member, of Lease, why policy.Revocation) {
	m.entry().grounds.Store(&grounds{of, why})
	m.Cut(of, Revoked)
}

// Revocation is why this life was revoked; nil when it was not, or not that way.
func (e *Entry) Revocation() *policy.Revocation {
	g := e.grounds.Load()
	if now := e.Look(); g == nil || Why(now%perLife) != Revoked || g.of != now-now%perLife {
		return nil
	}
	return &g.Revocation
}
