package policy

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// Parents say by which other proxies a tenant's requests go. It is not changed once it was made,
// but for the health of its parents; nil: all go directly.
type Parents struct {
	ways     []Way
	names    wayIndex // of names
	addrs    wayIndex // of addresses, for who asks for one
	resolved wayIndex // the same for who asks for a name: without those of ways by name
}

// Way is by which parents requests for some destinations go.
type Way struct {
	For []string // forms of [acl], without `!`; none: every destination
	// Via are tried in their order; the last may be Direct.
	Via []*Parent
	// ByName says that parents are asked for names, which are not resolved here: no rule for
	// addresses holds for them.
	ByName bool
}

// direct reports whether w leads by no parent.
func (w *Way) direct() bool { return len(w.Via) == 1 && w.Via[0].Direct }

// Parent is a proxy that requests go by, or none: Direct. It holds a secret: nothing shows it.
type Parent struct {
	Direct bool
	URL    string // http://HOST:PORT or https://…, as it is shown
	Host   acl.Host
	Port   uint16
	TLS    *tls.Config // nil: it is spoken to in plain
	// Problem is why there is nothing to show it, although there should be; nil: there is, or it
	// asks for nothing.
	Problem error
	Health  *Health // shared by the generations; set by NewParents

	login string // of Proxy-Authorization; "": none
	key   string
}

// NewParent is a parent of that URL, whose certificates of CAs are ca, "" for none; login is the
// value of Proxy-Authorization that it is shown, "" for none.
func NewParent(url string, host acl.Host, port uint16, config *tls.Config, ca, login string) *Parent {
	b := acl.AppendFrame(acl.AppendFrame(acl.AppendFrame(nil, url), ca), login)
	sum := sha256.Sum256(b)
	return &Parent{URL: url, Host: host, Port: port, TLS: config, login: login, key: string(sum[:])}
}

// String is "direct", or the URL.
func (p *Parent) String() string {
	if p.Direct {
		return "direct"
	}
	return p.URL
}

// Key is another for another parent, or another credential for it, without showing that.
func (p *Parent) Key() string { return p.key }

// AppendLogin appends the field by which the gateway shows the parent who it is, as a line of a
// head; nothing if there is none.
func (p *Parent) AppendLogin(b []byte) []byte {
	if p.login == "" {
		return b
	}
	return append(append(append(b, "Proxy-Authorization: "...), p.login...), "\r\n"...)
}

// NewParents makes ways, of which the first that is for a target is the one. The error says which
// form is none.
func NewParents(ways []Way) (*Parents, error) {
	p := &Parents{ways: ways}
	var names, addrs, resolved listedForms
	health := map[string]*Health{} // of a parent, wherever it stands
	for i := range ways {
		forms := ways[i].For
		if len(forms) == 0 {
			forms = []string{"*"}
		}
		for _, text := range forms {
			one, err := acl.Parse(text)
			rule := one.Rule(1)
			if err != nil || one.Len() != 1 || rule.Deny {
				return nil, fmt.Errorf("%q is not the form of a destination: write a name, *.name, an address, a prefix or *, and ports behind it or none", text)
			}
			if rule.Form != acl.FormAddr {
				names.add(rule, i)
			}
			if rule.Form == acl.FormAddr || rule.Form == acl.FormStar {
				addrs.add(rule, i)
				if !ways[i].ByName {
					resolved.add(rule, i)
				}
			}
		}
		for _, via := range ways[i].Via {
			if health[via.URL] == nil {
				health[via.URL] = new(Health)
			}
			via.Health = health[via.URL]
		}
	}
	for from, to := range map[*listedForms]*wayIndex{&names: &p.names, &addrs: &p.addrs, &resolved: &p.resolved} {
		rules, err := unguarded(from.text.String())
		if err != nil {
			return nil, err
		}
		*to = wayIndex{rules, from.at}
	}
	return p, nil
}

// wayIndex finds the first way that something is for.
type wayIndex struct {
	rules *acl.Policy
	at    []int // the way that a rule is of
}

// of is the way of what a rule has decided; -1: none.
func (x *wayIndex) of(d acl.Decision) int {
	if d.Verdict != acl.Allow {
		return -1
	}
	return x.at[d.Rule-1]
}

// listedForms are what an index is made of.
type listedForms struct {
	text strings.Builder
	at   []int
}

func (l *listedForms) add(r acl.Rule, way int) {
	l.text.WriteString(r.Canonical() + "\n")
	l.at = append(l.at, way)
}

// All are the ways, in their order, for who shows them. They are not changed.
func (p *Parents) All() []Way {
	if p == nil {
		return nil
	}
	return p.ways
}

// named is the first way that is for the name that t has; -1: none, or t has none.
func (p *Parents) named(t acl.Target) int {
	if t.Host.IsAddr() {
		return -1
	}
	return p.names.of(p.names.rules.DecideHost(t))
}

// ByName returns the way of a request that goes by the name of its target, which is not
// resolved; nil: it does not. It may be asked of nil.
func (p *Parents) ByName(t acl.Target) *Way {
	if p == nil {
		return nil
	}
	if i := p.named(t); i >= 0 && p.ways[i].ByName {
		return &p.ways[i]
	}
	return nil
}

// Of returns the way of a request to one of those addresses of its target, in their order, which
// is the first that is for one of them or for the target's name, and leaves of them those that it
// is for. nil: it goes directly. A name that ByName has a way for is none of its. It writes to addrs.
func (p *Parents) Of(t acl.Target, addrs []netip.Addr) (*Way, []netip.Addr) {
	none, named, index := len(p.ways), p.named(t), &p.resolved
	if t.Host.IsAddr() {
		index = &p.addrs
	}
	of := func(a netip.Addr) int {
		at := none
		if named >= 0 {
			at = named
		}
		if i := index.of(index.rules.DecideAddr(t, a)); i >= 0 {
			at = min(at, i)
		}
		return at
	}
	best := none
	for _, a := range addrs {
		best = min(best, of(a))
	}
	kept := addrs[:0]
	for _, a := range addrs {
		if of(a) == best {
			kept = append(kept, a)
		}
	}
	if best == none || p.ways[best].direct() {
		return nil, kept
	}
	return &p.ways[best], kept
}

// Keep has parents of p that q has too be as healthy as those.
func (p *Parents) Keep(q *Parents) {
	if p == nil || q == nil {
		return
	}
	before := map[string]*Health{}
	for i := range q.ways {
		for _, via := range q.ways[i].Via {
			before[via.URL] = via.Health
		}
	}
	for i := range p.ways {
		for _, via := range p.ways[i].Via {
			if h := before[via.URL]; h != nil {
				via.Health = h
			}
		}
	}
}

// Each calls f once for each parent that is one, in the order of the list.
func (p *Parents) Each(f func(*Parent)) {
	seen := map[*Health]bool{}
	for _, w := range p.All() {
		for _, via := range w.Via {
			if !via.Direct && !seen[via.Health] {
				seen[via.Health] = true
				f(via)
			}
		}
	}
}
