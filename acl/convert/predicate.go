package convert

// predicate is what a line's acl matches. What lies in must always matches, what lies outside
// may never does; where they differ, why tells.
type predicate struct {
	must, may []term
	why       string
}

var (
	everywhere = []term{{ports: allPorts}}
	always1    = predicate{must: everywhere, may: everywhere}
	never      = predicate{}
)

func unknown(why string) predicate { return predicate{may: everywhere, why: why} }

func exactly(ts []term) predicate { return predicate{must: ts, may: ts} }

// not is the opposite, where rules can say it: of ports alone.
func (p predicate) not() (predicate, bool) {
	must, ok1 := portsOf(p.must)
	may, ok2 := portsOf(p.may)
	if !ok1 || !ok2 {
		return p, false
	}
	return predicate{must: onPorts(may.not()), may: onPorts(must.not()), why: p.why}, true
}

// portsOf are the ports of terms that are for anything on some ports.
func portsOf(ts []term) (p ports, ok bool) {
	for _, t := range ts {
		if t.kind != anything || len(t.not) > 0 {
			return nil, false
		}
		p = p.or(t.ports)
	}
	return p, true
}

func onPorts(p ports) []term {
	if p == nil {
		return nil
	}
	return []term{{ports: p}}
}
