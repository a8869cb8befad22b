package hold

// space is what one exploration covers.
type space struct {
	name  string
	rules *rules
	size  size
}

type size int

const (
	small   size = iota
	huge         // only with -large, and whole: up to 133 million worlds, in a quarter of an hour
	endless      // only with -large, as far as time and memory go
)

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
	r.set[0] = short
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
		{"two", alike(2, short, 0, 0), small},
		{"two, started just now", fresh(alike(2, shortest, 0, 0)), small},
		{"sluice-kube restarts", alike(2, shortest, 1, restart), small},
		{"sluice-netsetup restarts", alike(2, shortest, 1, restart2), small},
		{"answers do not come, or late", alike(2, shortest, 2, timeout), small},
		{"calls are done twice", alike(2, shortest, 1, double), small},
		{"a stranger writes the Lease", alike(2, shortest, 1, stranger), small},
		{"the Lease is deleted", alike(2, shortest, 1, deleted), small},
		{"no gateway, no proxy, another MAC", alike(2, shortest, 1, noGateway|proxyGone|heard), small},
		{"the gateway is missed, and looked for again", patient(2, noGateway), small},
		{"settings that differ, L raised before, the Lease is deleted", raised(1, deleted), small},
		{"SIGTERM", alike(2, shortest, 1, sigterm), small},
		{"settings that differ", differing(1, restart), small},
		{"clocks apart by 10 %", apart(2), small},
		{"keep", keeping(1, timeout), small},
		{"two, fine", fine(0, 0), small},
		{"restarts without end", alike(2, shortest, -1, restart|restart2), small},
		{"three", alike(3, shortest, 0, 0), small},

		{"settings that differ, one fault", differing(1, all&^(stranger|deleted)), huge},
		{"keep, one fault", keeping(1, all&^heard), huge},
		{"any one fault", alike(2, short, 1, all), huge},
		{"any two faults", alike(2, shortest, 2, all), huge},
		{"keep, two faults", keeping(2, timeout|restart|noGateway), huge},
		{"settings that differ, L raised before, two faults by hand", raised(2, deleted|stranger|restart), huge},
		{"settings that differ, two faults", differing(2, restart|restart2|timeout|double), huge},
		{"three, sluice-kube restarts", alike(3, shortest, 1, restart), huge},
		{"three, sluice-netsetup restarts", alike(3, shortest, 1, restart2), huge},
		{"three, answers do not come, or late", alike(3, shortest, 1, timeout), huge},
		{"three, calls are done twice", alike(3, shortest, 1, double), huge},
		{"three, a stranger writes the Lease, or deletes it", alike(3, shortest, 1, stranger|deleted), huge},
		{"three, no gateway, no proxy, another MAC", alike(3, shortest, 1, noGateway|proxyGone|heard), huge},
		{"three, SIGTERM", alike(3, shortest, 1, sigterm), huge},
		{"three, settings that differ", differingOf(3, 0, 0), huge},
		{"three, clocks apart by 10 %", apart(3), huge},
		{"any two faults, V longer", alike(2, short, 2, all), endless},
		{"three, any one fault", alike(3, shortest, 1, all), endless},
		{"three, any two faults", alike(3, shortest, 2, all), endless},
	}
}

func exactRules() []*rules {
	held := func(r *rules) *rules { r.holding = true; return r }
	return []*rules{
		alike(2, shortest, 0, 0), alike(2, short, 2, all), alike(2, shortest, 2, timeout), alike(2, shortest, 1, heard|sigterm),
		alike(3, shortest, 1, timeout|double), differing(1, restart|timeout), held(differingOf(3, 1, all)), apart(3),
		keeping(2, timeout), held(keeping(2, all)), held(patient(2, noGateway|timeout)), fresh(raised(2, all)), fine(1, all),
		alike(2, shortest, -1, restart|restart2),
	}
}
