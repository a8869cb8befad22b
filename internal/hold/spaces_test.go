package hold

// space is what one exploration covers.
type space struct {
	name  string
	rules *rules
	large bool // only with -large
}

// all are the faults of a gateway that goes by its rules; keep, settings and clocks that
// differ are beside them.
const all = ^faultKind(0)

func keeping(faults int, kinds faultKind) *rules {
	r := alike(2, short, faults, kinds)
	r.blind = false
	for i := range r.set {
		r.set[i].Keep, r.set[i].Grace = true, 3*tick
	}
	return r
}

// differing has A with a longer V than B's, and a longer L; as in a rolling update. Nobody may
// write the Lease by hand then, unless L was raised before: see TestExhaustiveLimit and raised.
func differing(faults int, kinds faultKind) *rules { return differingOf(2, faults, kinds) }

func differingOf(replicas, faults int, kinds faultKind) *rules {
	r := alike(replicas, shortest, faults, kinds)
	r.set[0], r.alike = short, false
	return r
}

// patient has both look for the gateway a second time before they give a renewal up.
func patient(faults int, kinds faultKind) *rules {
	r := alike(2, short, faults, kinds)
	for i := range r.set {
		r.set[i].GatewayMisses = 2
	}
	return r
}

// raised is differing, but that L was made long enough for both before.
func raised(faults int, kinds faultKind) *rules {
	r := differing(faults, kinds)
	r.set[1].Lease = short.Lease
	return r
}

// fine tells apart what coarse joins.
func fine(faults int, kinds faultKind) *rules {
	s := shortest
	s.Renew = tick
	r := alike(2, s, faults, kinds)
	r.coarse = false
	return r
}

func fresh(r *rules) *rules {
	r.fresh = true
	return r
}

func spaces() []space {
	return []space{
		{"two", alike(2, short, 0, 0), false},
		{"two, started just now", fresh(alike(2, shortest, 0, 0)), false},
		{"sluice-kube restarts", alike(2, shortest, 1, restart), false},
		{"sluice-netsetup restarts", alike(2, shortest, 1, restart2), false},
		{"answers do not come, or late", alike(2, shortest, 2, timeout), false},
		{"calls are done twice", alike(2, shortest, 1, double), false},
		{"a stranger writes the Lease", alike(2, shortest, 1, stranger), false},
		{"the Lease is deleted", alike(2, shortest, 1, deleted), false},
		{"no gateway, no proxy, another MAC", alike(2, shortest, 1, noGateway|proxyGone|heard), false},
		{"the gateway is missed, and looked for again", patient(2, noGateway), false},
		{"settings that differ, L raised before, the Lease is deleted", raised(1, deleted), true},
		{"SIGTERM", alike(2, shortest, 1, sigterm), false},
		{"settings that differ", differing(1, restart), false},
		{"clocks apart by 10 %", apart(), false},
		{"keep", keeping(1, timeout), false},
		{"three", alike(3, shortest, 0, 0), false},

		{"settings that differ, one fault", differing(1, all&^(stranger|deleted)), true},
		{"keep, one fault", keeping(1, all&^heard), true},
		{"two, fine", fine(0, 0), true},
		{"any one fault", alike(2, short, 1, all), true},
		{"any two faults", alike(2, shortest, 2, all), true},
		{"restarts without end", alike(2, shortest, -1, restart|restart2), true},
		{"keep, two faults", keeping(2, timeout|restart|noGateway), true},
		{"settings that differ, L raised before, two faults by hand", raised(2, deleted|stranger|restart), true},
		{"settings that differ, two faults", differing(2, restart|restart2|timeout|double), true},
		{"any two faults, V longer", alike(2, short, 2, all), true},
		{"three, sluice-kube restarts", alike(3, shortest, 1, restart), true},
		{"three, sluice-netsetup restarts", alike(3, shortest, 1, restart2), true},
		{"three, answers do not come, or late", alike(3, shortest, 1, timeout), true},
		{"three, calls are done twice", alike(3, shortest, 1, double), true},
		{"three, a stranger writes the Lease, or deletes it", alike(3, shortest, 1, stranger|deleted), true},
		{"three, no gateway, no proxy, another MAC", alike(3, shortest, 1, noGateway|proxyGone|heard), true},
		{"three, SIGTERM", alike(3, shortest, 1, sigterm), true},
		{"three, settings that differ", differingOf(3, 0, 0), true},
		{"three, any one fault", alike(3, shortest, 1, all), true},
		{"three, any two faults", alike(3, shortest, 2, all), true},
	}
}

func exactRules() []*rules {
	three := alike(3, shortest, 1, timeout|double)
	return []*rules{alike(2, shortest, 0, 0), alike(2, short, 2, all), three, differing(1, restart|timeout), keeping(2, timeout), fine(1, all)}
}

// budget is how many states of a large space are looked at.
const budget = 60_000_000
