package audit

import (
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// A class is the targets whose name, or whose address, two lists treat alike on some ports: which
// rule of each is the first for it.
type class struct {
	old, now   int32 // rules, or none
	oldG, nowG bool  // of addresses: the guard denies what the rules allow
	from, to   int32 // ports
	rep        int32 // index of an example
}

func (c *class) everyPort() bool { return c.from == 1 && c.to == 65535 }

// An addrRep is an example of an address.
type addrRep struct {
	addr netip.Addr
	own  netip.Addr // when it is valid, the gateway's own address that makes the difference
}

// A pair is two lists that are compared.
type pair struct {
	old, now *list
	budget   *budget
	// own says that the own addresses of the gateway are those of the guards; otherwise any
	// address may be one.
	own   bool
	named bool // examples are of names, where a literal would do
	next  bool // now is the second rule of the list, not the first of another
	on    ports

	nameReps []string // "" is a literal
	addrReps []addrRep
	names    []class
	addrs    []class
	cutBuf   []int32
	tree     *names          // of both lists, made before; nil: it is made where it is needed
	kinds    []netip.Addr    // of addresses of both lists, found before; nil: they are looked for where they are needed
	seen     map[class]int32 // index in names or addrs, by all but rep
}

// newPair is two lists, with a budget of their own.
func newPair(old, now *acl.Policy, o Options) *pair {
	return &pair{old: newList(old), now: newList(now), budget: o.budget(), own: o.Own}
}

// prepare makes what names and addresses are looked for in, once for all questions.
func (p *pair) prepare() {
	if p.tree == nil {
		p.tree = newNames(p.budget, p.old, p.now)
		p.kinds = []netip.Addr{}
		policies := []*acl.Policy{p.old.p, p.now.p}
		if p.old.p == p.now.p {
			policies = policies[:1]
		}
		for a := range acl.Kinds(policies...) {
			if p.budget.spent("addresses") {
				break
			}
			p.kinds = append(p.kinds, a)
		}
	}
}

// classes is p with the classes of the names and addresses in scopes; nil is all.
func (p *pair) classes(names *scope, addrs func(netip.Addr) bool) *pair {
	p.prepare()
	q := *p
	q.findNames(names)
	q.findAddrs(addrs)
	return &q
}

// first is the rule of the second list.
func (p *pair) first(rules []int32, port uint16) int32 {
	if p.next {
		return p.now.second(rules, port)
	}
	return p.now.first(rules, port)
}

// A budget bounds what a question may cost.
type budget struct {
	end     time.Time
	regions int
	checks  int
	why     string // when it is used up: what made the question large
}

// spent reports whether the time is over; it looks at the clock now and then, and lets others run: a
// proxy asks beside its requests.
func (b *budget) spent(why string) bool {
	if b.why != "" {
		return true
	}
	if b.checks++; b.checks&0x3ff == 0 {
		if time.Now().After(b.end) {
			b.why = why + ": the time is over"
		}
		runtime.Gosched()
	}
	return b.why != ""
}

// over is spent where each step takes long: it looks at the clock each time.
func (b *budget) over(why string) bool {
	if b.why == "" && time.Now().After(b.end) {
		b.why = why + ": the time is over"
	}
	return b.why != ""
}

func (b *budget) give(why string) {
	if b.why == "" {
		b.why = why
	}
}

// ports are which ports a pair looks at.
type ports uint8

const (
	everyPort  ports = iota
	tlsPort          // 443 only, where a tunnel has to carry TLS when nothing else is said
	otherPorts       // all but that one; ranges may seem to hold it
)

// spans cuts the ports 1..65535 at cuts, and calls f for each range.
func (p *pair) spans(f func(from, to int32)) {
	if p.on == tlsPort {
		f(443, 443)
		return
	}
	slices.Sort(p.cutBuf)
	from := int32(1)
	for _, c := range p.cutBuf {
		if c > from && c <= 65535 {
			if p.on != otherPorts || from != 443 || c != 444 {
				f(from, c-1)
			}
			from = c
		}
	}
	f(from, 65535)
}

// add adds a class to those of names or addresses, unless there is one like it.
func (p *pair) add(to *[]class, c class) bool {
	key := c
	key.rep = 0
	if _, ok := p.seen[key]; ok {
		return false
	}
	p.seen[key] = int32(len(*to))
	*to = append(*to, c)
	return true
}

// maxNames is how many kinds of names are looked at: some hundred bytes each.
const maxNames = 3_000_000

// findNames fills in the classes of the names in a scope, and, when that is nil, of literals.
func (p *pair) findNames(s *scope) {
	p.findNamesOf(s, func(string) bool { return true })
	if s == nil {
		new(nameEval).add(p, "")
	}
}

// findLiterals fills in the classes of literals, as far as names go.
func (p *pair) findLiterals() {
	p.seen = map[class]int32{}
	new(nameEval).add(p, "")
}

// findNamesOf fills in the classes of the names in a scope that are meant. What more lists tell
// apart is looked at too.
func (p *pair) findNamesOf(s *scope, meant func(name string) bool, more ...*list) {
	p.seen = map[class]int32{}
	n := p.tree
	if n == nil {
		n = newNames(p.budget, p.old, p.now)
	}
	n.again(more...)
	n.scope = s
	e := new(nameEval)
	err := n.all(func(name string) {
		if !p.budget.spent("names") && meant(name) {
			e.add(p, name)
		}
	})
	if err != nil {
		p.budget.give("names: patterns with * below one domain multiply")
	}
}

// A nameEval finds the classes of a name.
type nameEval struct{ oldBuf, nowBuf []int32 }

func (e *nameEval) add(p *pair, name string) {
	e.oldBuf, e.nowBuf = p.old.ofName(name, e.oldBuf), p.now.ofName(name, e.nowBuf)
	p.cutBuf = p.now.cuts(p.old.cuts(p.cutBuf[:0], e.oldBuf, !p.next), e.nowBuf, true)
	rep, used := int32(len(p.nameReps)), false
	prev := class{from: -1}
	flush := func() {
		if prev.from >= 0 && p.add(&p.names, prev) {
			used = true
		}
	}
	p.spans(func(from, to int32) {
		c := class{old: p.old.first(e.oldBuf, uint16(from)), now: p.first(e.nowBuf, uint16(from)), from: from, to: to, rep: rep}
		if prev.from >= 0 && prev.old == c.old && prev.now == c.now {
			prev.to = to
			return
		}
		flush()
		prev = c
	})
	if flush(); used {
		p.nameReps = append(p.nameReps, name)
	}
}

// findAddrs fills in the classes of addresses.
func (p *pair) findAddrs(scope func(a netip.Addr) bool, more ...*acl.Policy) {
	p.seen = map[class]int32{}
	e := addrEval{pair: p}
	kinds := slices.Values(p.kinds)
	if p.kinds == nil || len(more) > 0 {
		kinds = acl.Kinds(append([]*acl.Policy{p.old.p, p.now.p}, more...)...)
	}
	for a := range kinds {
		if p.budget.spent("addresses") {
			return
		}
		if scope == nil || scope(a) {
			e.add(a)
		}
	}
}

// An addrEval finds the classes of an address.
type addrEval struct {
	*pair
	oldBuf, nowBuf []int32
}

func (e *addrEval) add(a netip.Addr) {
	embedded := acl.Embedded(a)
	e.oldBuf, e.nowBuf = e.old.ofAddr(a, embedded, e.oldBuf), e.now.ofAddr(a, embedded, e.nowBuf)
	e.cutBuf = e.now.cuts(e.old.cuts(e.cutBuf[:0], e.oldBuf, false), e.nowBuf, false)
	for _, v := range embedded { // what unlocks the guard for v is no rule for a
		for _, l := range []*list{e.old, e.now} {
			for _, rules := range l.addrs.Supernets(netip.PrefixFrom(v, 32)) {
				e.cutBuf = l.cuts(e.cutBuf, rules, false)
			}
		}
	}
	e.under(a, netip.Addr{})
	if e.own {
		return
	}
	e.under(a, a)
	for _, v := range embedded {
		e.under(a, v)
	}
}

// under adds the classes of a where own, when it is valid, is an address of the gateway: only those
// that differ from the ones without.
func (e *addrEval) under(a, own netip.Addr) {
	rep, used := int32(len(e.addrReps)), false
	prev := class{from: -1}
	flush := func() {
		if prev.from >= 0 && e.pair.add(&e.addrs, prev) {
			used = true
		}
		prev.from = -1
	}
	e.spans(func(from, to int32) {
		port := uint16(from)
		c := class{old: e.old.first(e.oldBuf, port), now: e.first(e.nowBuf, port), from: from, to: to, rep: rep,
			oldG: e.old.p.Guarded(a, port, own) != acl.GuardNone, nowG: e.now.p.Guarded(a, port, own) != acl.GuardNone}
		if own.IsValid() && (c.oldG == c.nowG || c.oldG == (e.old.p.Guarded(a, port, netip.Addr{}) != acl.GuardNone) &&
			c.nowG == (e.now.p.Guarded(a, port, netip.Addr{}) != acl.GuardNone)) {
			flush()
			return // it tells nothing
		}
		if prev.from >= 0 && prev.old == c.old && prev.now == c.now && prev.oldG == c.oldG && prev.nowG == c.nowG {
			prev.to = to
			return
		}
		flush()
		prev = c
	})
	flush()
	if used {
		e.addrReps = append(e.addrReps, addrRep{a, own})
	}
}
