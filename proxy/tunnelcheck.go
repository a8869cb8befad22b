package proxy

import (
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tunnel"
)

// firstTime is how long what a client sends first may take to come whole.
const firstTime = 10 * time.Second

// firstDue is when what comes first must have been judged; 0: no time is set before something
// has come. set is what was set before; 0: nothing was.
func (o *openTunnel) firstDue(set int64) int64 {
	switch {
	case !o.check.Wants():
		return 0
	case set > 0:
		return set
	}
	return max(1, int64(o.srv.door.Now()+o.srv.checkTime))
}

// checks say how a problem is counted and logged.
var checks = [outbound.Problems]metrics.Check{0: metrics.CheckPassed, outbound.OtherName: metrics.CheckOtherName,
	outbound.NoName: metrics.CheckNoName, outbound.OtherProtocol: metrics.CheckOtherProtocol,
	outbound.TooLong: metrics.CheckTooLong, outbound.TooSlow: metrics.CheckTooSlow}

// lasts are what the tunnel says, as the gate takes it.
var lasts = [...]outbound.Last{tunnel.MayCome: outbound.MayCome, tunnel.Ended: outbound.Ended, tunnel.Late: outbound.Late, tunnel.Full: outbound.Full}

// accessDenied is the alert of RFC 8446 section 6.2 that a client of TLS is told.
var accessDenied = []byte{21, 3, 3, 0, 2, 2, 49}

// judgeOther keeps what the client asks the server for, by which the tunnel may be revoked; and
// judges it by what has come in force since.
func (o *openTunnel) judgeOther(f *outbound.Found) {
	if f.Other == (acl.Target{}) {
		return
	}
	other := f.Other
	o.other = &other
	live := o.srv.live.Load()
	if live == o.check.Generation() || live.KeepsOpen() || live.TunnelCheck() != policy.CheckEnforce {
		return
	}
	r := outbound.Request{Client: o.rec.Client.Addr(), Target: other, Who: o.rec.Who}
	if why := o.srv.Gate.Revocation(live, &r, o.rec.Addr.Addr(), time.Now()); why != nil {
		f.Problem, f.Details = outbound.OtherName, "the server name "+other.Host.String()+" is not allowed any more"
	}
}

// Judge judges what the client has sent first. It is for the tunnel, whose lock is held.
func (o *openTunnel) Judge(first []byte, last tunnel.Last) tunnel.Judgement {
	f, over, least := o.check.Judge(first, lasts[last])
	if !over {
		if o.due.Load() == 0 {
			o.due.Store(max(1, int64(o.srv.door.Now()+o.srv.checkTime)))
		}
		return tunnel.Judgement{Least: least}
	}
	o.due.Store(0)
	o.judgeOther(&f)
	o.rec.Check = checks[f.Problem]
	o.srv.Metrics.Checked(o.rec.Check, f.ECH)
	refuse := f.Problem != 0 && o.check.Enforce
	if o.check = nil; f.Problem == 0 {
		return tunnel.Judgement{Over: true}
	}
	o.rec.Details = "the client's first bytes: " + f.Details
	j := tunnel.Judgement{Over: true, Refuse: refuse}
	if f.Hello {
		j.Say = accessDenied
	}
	return j
}
