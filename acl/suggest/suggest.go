package suggest

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

// Options are how a list is made. The zero value folds from four names on.
type Options struct {
	// Fold is from how many names on that share a domain they become one rule, "*.domain"; 0: 4. What
	// was folded counts as one name further up.
	Fold int
	// Guard is the mode of the guard that the list is to stand in front of.
	Guard acl.GuardMode
}

// Use is how something was used.
type Use struct {
	Requests    int
	First, Last time.Time // zero: the log has no times
	// ShadowDenied are those of Requests that the shadow rules would have denied, or might have.
	ShadowDenied int
}

func (u *Use) add(o *Use) {
	u.Requests += o.Requests
	u.ShadowDenied += o.ShadowDenied
	if !o.First.IsZero() && (u.First.IsZero() || o.First.Before(u.First)) {
		u.First = o.First
	}
	if o.Last.After(u.Last) {
		u.Last = o.Last
	}
}

// A Rule allows something that was recorded.
type Rule struct {
	Text  string   // as [acl.Parse] takes it
	Names []string // that it is for, sorted; nil: an address
	Use
}

// Beside is something recorded that the list does not allow.
type Beside struct {
	Target acl.Target
	Why    string // as the log has it, of the last request
	Use
}

// A Suggestion is a list of rules that allows what was recorded, with what it does not.
type Suggestion struct {
	Rules []Rule // names by their domains, then addresses
	// Denied, Guarded and Failed are what the log says that of. Only of what is guarded some may be
	// allowed by Rules: at other addresses.
	Denied, Guarded, Failed []Beside
	Requests                int // in the log
	Unread                  int // of those, without a target that a rule could be for
}

// A Log gathers requests. The zero Log has none. It takes room for each target, not for each request. It
// is for one goroutine.
type Log struct {
	requests, unread int
	outcomes         [Failed + 1]map[acl.Target]*use
}

// use is a target's.
type use struct {
	Use
	why   string
	addrs []netip.Addr // that it was reached at, in their order; the first few
}

// maxAddrs bounds the addresses of a name that are held against the guard.
const maxAddrs = 32

// Add takes a request. It does not keep r.
func (l *Log) Add(r *Request) {
	l.requests++
	if r.Target == (acl.Target{}) {
		l.unread++
		return
	}
	m := l.outcomes[r.Outcome]
	if m == nil {
		m = map[acl.Target]*use{}
		l.outcomes[r.Outcome] = m
	}
	u := m[r.Target]
	if u == nil {
		u = new(use)
		m[r.Target] = u
	}
	if later := r.Time.Compare(u.Last); later > 0 || later == 0 && r.Why > u.why {
		u.why = r.Why
	}
	one := Use{Requests: 1, First: r.Time, Last: r.Time}
	if r.Outcome == Reached && r.Shadow != "" {
		one.ShadowDenied = 1
	}
	u.add(&one)
	if !r.Addr.IsValid() {
		return
	}
	if at, found := slices.BinarySearchFunc(u.addrs, r.Addr, netip.Addr.Compare); !found {
		u.addrs = slices.Insert(u.addrs, at, r.Addr)
		u.addrs = u.addrs[:min(len(u.addrs), maxAddrs)]
	}
}

// Suggest makes the list. It is deterministic.
func (l *Log) Suggest(o Options) *Suggestion {
	s := &Suggestion{Requests: l.requests, Unread: l.unread}
	reached, locked := l.reached(o.Guard)
	hosts, denied, trees := l.ports(reached), l.denied(), map[string]*node{}
	var items []Rule
	for host, h := range hosts {
		if host.IsAddr() {
			items = append(items, ruleOf(item{host.String(), nil, h.uses}, h.text))
			continue
		}
		if trees[h.text] == nil {
			trees[h.text] = &node{}
		}
		trees[h.text].add(host.Name(), h.uses)
	}
	for ports, tree := range trees {
		for _, i := range tree.fold(cmp.Or(o.Fold, 4), func(name string) bool { return denied[name].any(ports) }) {
			items = append(items, ruleOf(i, ports))
		}
	}
	slices.SortFunc(items, compareRules)
	s.Rules = items
	s.Denied, s.Failed = s.beside(l.outcomes[Denied]), s.beside(l.outcomes[Failed])
	s.Guarded = slices.Concat(s.besides(l.outcomes[Guarded]), locked, guarded(reached, s.policy(o.Guard)))
	slices.SortFunc(s.Guarded, compareBesides)
	return s
}

// host is how a host was used.
type host struct {
	ports []int
	text  string // of the ports, for a rule; "": all
	uses  []*use
}

// ports are the hosts that were reached, with the ports that are to stand in their rules: none for those
// of the web alone, unless another was denied.
func (l *Log) ports(reached map[acl.Target]*use) map[acl.Host]*host {
	all := map[acl.Host]*host{}
	for t, u := range reached {
		h := all[t.Host]
		if h == nil {
			h = new(host)
			all[t.Host] = h
		}
		h.ports, h.uses = append(h.ports, int(t.Port)), append(h.uses, u)
	}
	closed := map[acl.Host]bool{}
	for t := range l.outcomes[Denied] {
		closed[t.Host] = closed[t.Host] || reached[t] == nil
	}
	for of, h := range all {
		slices.Sort(h.ports)
		if !closed[of] && !slices.ContainsFunc(h.ports, func(p int) bool { return p != 80 && p != 443 }) {
			continue
		}
		for _, p := range h.ports {
			h.text += "," + strconv.Itoa(p)
		}
		h.text = h.text[1:]
	}
	return all
}

// deniedPorts are those of names that were denied, and never allowed.
type deniedPorts map[uint16]bool

// any reports whether a rule for those ports would allow something that was denied.
func (d deniedPorts) any(ports string) bool {
	if ports == "" {
		return len(d) > 0
	}
	for p := range strings.SplitSeq(ports, ",") {
		if n, _ := strconv.ParseUint(p, 10, 16); d[uint16(n)] {
			return true
		}
	}
	return false
}

// denied are, for each name, the ports of what was denied there or below.
func (l *Log) denied() map[string]deniedPorts {
	all := map[string]deniedPorts{}
	for t := range l.outcomes[Denied] {
		if l.outcomes[Reached][t] != nil {
			continue
		}
		for name, more := t.Host.Name(), true; name != "" && more; _, name, more = strings.Cut(name, ".") {
			if all[name] == nil {
				all[name] = deniedPorts{}
			}
			all[name][t.Port] = true
		}
	}
	return all
}

func ruleOf(i item, ports string) Rule {
	r := Rule{Text: i.rule, Names: i.names}
	if ports != "" {
		if strings.Contains(r.Text, ":") {
			r.Text = "[" + r.Text + "]"
		}
		r.Text += ":" + ports
	}
	slices.Sort(r.Names)
	for _, u := range i.uses {
		r.add(&u.Use)
	}
	return r
}

// compareRules orders names label by label from their ends, and addresses behind them.
func compareRules(a, b Rule) int {
	order := func(r *Rule) []string {
		if r.Names == nil {
			return []string{"~", r.Text}
		}
		name, ports, _ := strings.Cut(r.Text, ":")
		labels := strings.Split(name, ".")
		slices.Reverse(labels)
		return append(labels, ":"+ports)
	}
	return slices.Compare(order(&a), order(&b))
}

func compareBesides(a, b Beside) int {
	return cmp.Or(cmp.Compare(a.Target.String(), b.Target.String()), cmp.Compare(a.Why, b.Why))
}

// policy is the list as the engine reads it.
func (s *Suggestion) policy(guard acl.GuardMode) *acl.Policy {
	var b strings.Builder
	for _, r := range s.Rules {
		b.WriteString(r.Text + "\n")
	}
	p, err := acl.Parse(b.String())
	if err != nil { // what was a target is a rule
		panic(fmt.Sprintf("suggest: %v", err))
	}
	return p.WithGuard(acl.Guard{Mode: guard})
}

// besides are all of some uses.
func (s *Suggestion) besides(uses map[acl.Target]*use) (all []Beside) {
	for t, u := range uses {
		all = append(all, Beside{t, u.why, u.Use})
	}
	slices.SortFunc(all, compareBesides)
	return all
}

// beside are those that the list does not allow.
func (s *Suggestion) beside(uses map[acl.Target]*use) []Beside {
	p := s.policy(acl.GuardOff)
	return slices.DeleteFunc(s.besides(uses), func(b Beside) bool { return p.DecideHost(b.Target).Verdict == acl.Allow })
}
