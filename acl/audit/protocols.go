package audit

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/sluiceproxy/sluice/acl"
)

// A ProtocolChange is a region of targets that two policies allow both, and where they want tunnels to
// carry something else. It is made like a [Change].
type ProtocolChange struct {
	Old, New acl.Decision // on Target
	// OldWants and NewWants are what a tunnel to Target has to carry, as [Wants] has it.
	OldWants, NewWants string
	Others             Side // whose decision is one of several: by other names
	Ports              []acl.PortRange
	Target             Target // one of the region
}

// Loosened reports whether something may go through the tunnel that was ended before.
func (c *ProtocolChange) Loosened() bool { return carried(c.NewWants)&^carried(c.OldWants) != 0 }

// A ProtocolDiff is what two policies want of tunnels otherwise.
type ProtocolDiff struct {
	// Changes are in the order of the rules of the new policy, then of the old one.
	Changes []ProtocolChange
	Why     string // what made the question too large, when not all were found; "" when Changes are all
}

// Complete reports whether all changes were found.
func (d *ProtocolDiff) Complete() bool { return d.Why == "" }

// Loosened reports whether something may go through a tunnel that was ended before.
func (d *ProtocolDiff) Loosened() bool {
	return slices.ContainsFunc(d.Changes, func(c ProtocolChange) bool { return c.Loosened() })
}

// Wants is what a tunnel has to carry that p admits by its decision d to a port: "tls", which it is at
// 443 when the rule does not say, "http", "ssh", or "any". It is "" for whatever a client likes, but a
// ClientHello must name the target.
func Wants(p *acl.Policy, d acl.Decision, port uint16) string {
	return wants(p.Protocol(d), port)
}

func wants(protocol string, port uint16) string {
	if protocol == "" && port == 443 {
		return "tls"
	}
	return protocol
}

// carried is a set of what a tunnel may carry: TLS to the name that it was asked for by, HTTP, SSH,
// whatever else, TLS to any name.
func carried(wants string) uint8 {
	switch wants {
	case "tls":
		return 1
	case "http":
		return 2
	case "ssh":
		return 4
	case "":
		return 1 | 2 | 4 | 8
	}
	return 1 | 2 | 4 | 8 | 16
}

// CompareProtocols finds all that two policies want of tunnels otherwise where both allow them, over
// every name, address and port.
func CompareProtocols(old, now *acl.Policy, o Options) ProtocolDiff {
	return newPair(old, now, o).compareProtocols()
}

func (p *pair) compareProtocols() ProtocolDiff {
	a, b := p.old, p.now
	r := protocolRegions{budget: p.budget, found: map[protocolKey]int{}}
	if !a.saysProtocol() && !b.saysProtocol() {
		return ProtocolDiff{}
	}
	s, narrow := newScope(a, b, true)
	for _, on := range []ports{tlsPort, otherPorts} {
		was, is := a.wanted(on), b.wanted(on)
		if len(was) == 0 || len(is) == 0 || len(was) == 1 && slices.Equal(was, is) {
			continue
		}
		find := func(names *scope, addrs func(netip.Addr) bool) {
			p.prepare()
			q := *p
			// Addresses of the gateway are denied to both, or to one, and not compared here.
			q.own, q.on = true, on
			there := q.classes(names, addrs)
			there.addrs = filter(there.addrs, func(c class) bool { return !c.oldG && !c.nowG })
			r.cross(there, was, is)
		}
		switch {
		case !narrow:
			find(nil, nil)
		default:
			if s.byName() {
				find(s, nil)
			}
			if s.byAddr() {
				find(nil, s.addr)
			}
		}
	}
	return r.diff(a.p, b.p)
}

// saysProtocol reports whether a rule wants something of tunnels.
func (l *list) saysProtocol() bool {
	return slices.ContainsFunc(l.rules, func(r acl.Rule) bool { return !r.Deny && !r.Expired && r.Protocol != "" })
}

// wanted are what rules want of tunnels on ports, sorted.
func (l *list) wanted(on ports) (out []string) {
	for i := range l.rules {
		if w := l.wantOf(int32(i), on); !l.rules[i].Deny && !l.rules[i].Expired && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

// wantOf is what a rule wants on ports.
func (l *list) wantOf(rule int32, on ports) string {
	if on == tlsPort {
		return wants(l.rules[rule].Protocol, 443)
	}
	return l.rules[rule].Protocol
}

// picking is the list in which the rules that want something on ports are looked for.
func (l *list) picking(want string, on ports, no bool) *list {
	out := *l
	out.pickedNo = no
	out.picked = make([]bool, len(l.rules))
	for i := range l.rules {
		out.picked[i] = !l.rules[i].Deny && l.wantOf(int32(i), on) == want
	}
	return &out
}

// protocolRegions collects changes.
type protocolRegions struct {
	budget *budget
	found  map[protocolKey]int // index in list
	list   []protocolRegion
}

type protocolKey struct {
	old, now int32 // 0 of a side that decides by one of several names
	side     Side
	was, is  string
}

type protocolRegion struct {
	old, now int32 // of the target
	side     Side
	was, is  string
	ports    []acl.PortRange
	target   Target
}

// cross finds what wants of the one list meet which of the other.
func (r *protocolRegions) cross(p *pair, all, now []string) {
	for _, was := range all {
		for _, is := range now {
			if was == is {
				continue
			}
			q := *p
			q.old, q.now = p.old.picking(was, p.on, false), p.now.picking(is, p.on, true)
			q.crossAll(func(n, a *class, from, to int32) bool {
				return r.add(&q, n, a, from, to, was, is)
			})
		}
	}
}

func (r *protocolRegions) add(p *pair, n, a *class, from, to int32, was, is string) bool {
	if r.budget.spent("protocols: what differs has many parts") {
		return false
	}
	if p.on == otherPorts && from == 443 && to == 443 {
		return true
	}
	one := protocolRegion{old: min(n.old, a.old), now: min(n.now, a.now), was: was, is: is}
	k := protocolKey{old: one.old, now: one.now, was: was, is: is}
	switch oldName, nowName := a.old >= n.old, a.now >= n.now; {
	case oldName && !nowName:
		k.side, k.old = OldSide, 0
	case nowName && !oldName:
		k.side, k.now = NewSide, 0
	}
	i, ok := r.found[k]
	if !ok {
		if i = len(r.list); i >= r.budget.regions {
			r.budget.give("protocols: what differs has more regions than the limit")
			return false
		}
		r.found[k] = i
		one.side, one.target = k.side, p.target(n, a, from, to)
		r.list = append(r.list, one)
	}
	to16 := &r.list[i].ports
	if p.on == otherPorts && from <= 443 && to >= 443 {
		if from < 443 {
			*to16 = append(*to16, acl.PortRange{From: uint16(from), To: 442})
		}
		from = 444
	}
	if from <= to {
		*to16 = append(*to16, acl.PortRange{From: uint16(from), To: uint16(to)})
	}
	return true
}

// diff returns what was found, each region replayed on the engine.
func (r *protocolRegions) diff(old, now *acl.Policy) ProtocolDiff {
	slices.SortStableFunc(r.list, func(a, b protocolRegion) int {
		return cmp.Or(cmp.Compare(a.now, b.now), cmp.Compare(a.old, b.old), cmp.Compare(a.is, b.is), cmp.Compare(a.was, b.was))
	})
	d := ProtocolDiff{Why: r.budget.why}
	for i := range r.list {
		one := &r.list[i]
		c := ProtocolChange{Others: one.side, Ports: joinPorts(one.ports), Target: one.target}
		c.Old, c.New = c.Target.Decide(old), c.Target.Decide(now)
		c.OldWants, c.NewWants = Wants(old, c.Old, c.Target.Port), Wants(now, c.New, c.Target.Port)
		if c.Old.Verdict != acl.Allow || c.New.Verdict != acl.Allow || c.OldWants != one.was || c.NewWants != one.is {
			d.Why = "a fault of the program: " + c.Target.String() + " was said to want another protocol, and does not; please report it"
			continue
		}
		d.Changes = append(d.Changes, c)
	}
	return d
}
