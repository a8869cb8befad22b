package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Names of what is loaded: the original's, so that what people look at is where
// they expect it.
const (
	natTable         = "nat"
	chainPrerouting  = "prerouting"
	chainPostrouting = "postrouting"
	chainForward     = "forward"
)

// Chain is a chain of ours in the nat table of a family.
type Chain struct {
	V6    bool
	Name  string
	Rules []NATRule

	kind     nftables.ChainType
	hook     nftables.ChainHook
	priority nftables.ChainPriority
	drop     bool // the chain's policy
}

// NATRule is a rule: what it matches, and what happens then. Every rule counts.
type NATRule struct {
	Match   string // in the words of nft
	Verdict string // the same
	Comment string // says which setting made it; counters are known by it

	exprs []expr.Any
}

func familyWord(v6 bool) string {
	if v6 {
		return "ip6"
	}
	return "ip"
}

// wantChains are the chains of redirect mode, for the families that have a source:
// what comes in by eth0 goes where the rules say, what leaves by an egress
// interface leaves from the first source, and nothing else is passed on.
func wantChains(c Config, links []string) []Chain {
	var all []Chain
	for _, v6 := range []bool{false, true} {
		pre := Chain{V6: v6, Name: chainPrerouting, kind: nftables.ChainTypeNAT,
			hook: *nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityNATDest}
		post := Chain{V6: v6, Name: chainPostrouting, kind: nftables.ChainTypeNAT,
			hook: *nftables.ChainHookPostrouting, priority: *nftables.ChainPriorityNATSource}
		pass := Chain{V6: v6, Name: chainForward, kind: nftables.ChainTypeFilter, drop: true,
			hook: *nftables.ChainHookForward, priority: *nftables.ChainPriorityFilter}
		post.Rules = leaving(c.Sources, links, v6)
		if len(post.Rules) == 0 {
			continue
		}
		for _, d := range c.Destinations {
			if d.To.Is6() == v6 {
				pre.Rules = append(pre.Rules, redirect(d))
			}
		}
		pass.Rules = []NATRule{
			{"ct status dnat", "accept", "redirected", slices.Concat(ctStatusDNAT(), count(), verdict(expr.VerdictAccept))},
			{"", "drop", "refused", slices.Concat(count(), verdict(expr.VerdictDrop))},
		}
		all = append(all, pre, post, pass)
	}
	return all
}

// redirect is the rule of one destination.
func redirect(d Destination) NATRule {
	r := NATRule{Match: fmt.Sprintf("iifname %q", ClusterInterface), Verdict: "dnat to " + d.To.String(), Comment: d.String()}
	r.exprs = ifname(expr.MetaKeyIIFNAME, ClusterInterface)
	if d.Port != 0 {
		r.Match += fmt.Sprintf(" %s dport %d", d.Proto, d.Port)
		r.exprs = append(r.exprs,
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(d.Proto)}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: be16(d.Port)})
	}
	if d.RemotePort != 0 {
		r.Verdict = "dnat to " + netip.AddrPortFrom(d.To, d.RemotePort).String()
	}
	r.exprs = append(append(r.exprs, count()...), translate(expr.NATTypeDestNAT, d.To, d.RemotePort)...)
	return r
}

// leaving are the rules for what leaves, for the sources of a family. What a
// program here sends from another of the sources keeps it: it has a gateway of its
// own.
func leaving(sources []Source, links []string, v6 bool) []NATRule {
	var keep, from []NATRule
	var first netip.Addr
	for i, s := range sources {
		a := s.Addr()
		if a.Is6() != v6 {
			continue
		}
		if !first.IsValid() {
			first = a
		} else {
			keep = append(keep, NATRule{
				fmt.Sprintf("oifname %q %s saddr %s", links[i], familyWord(v6), a), "accept", "keep source " + a.String(),
				slices.Concat(ifname(expr.MetaKeyOIFNAME, links[i]), saddr(a), count(), verdict(expr.VerdictAccept)),
			})
		}
		match := fmt.Sprintf("oifname %q", links[i])
		if !slices.ContainsFunc(from, func(r NATRule) bool { return r.Match == match }) {
			from = append(from, NATRule{
				match, "snat to " + first.String(), "source " + first.String() + " by " + links[i],
				slices.Concat(ifname(expr.MetaKeyOIFNAME, links[i]), count(), translate(expr.NATTypeSourceNAT, first, 0)),
			})
		}
	}
	return append(keep, from...)
}

// UnitTestRules are the NAT rules of c as the original prints them: a line each,
// as nft takes them, without counters. A source without an interface counts as one
// of macvlan0.
func UnitTestRules(c Config) string {
	links := make([]string, len(c.Sources))
	for i, s := range c.Sources {
		if links[i] = s.Interface; s.Interface == "" {
			links[i] = DefaultInterface
		}
	}
	var b strings.Builder
	for _, chain := range wantChains(c, links) {
		for _, r := range chain.Rules {
			if chain.kind == nftables.ChainTypeNAT {
				fmt.Fprintf(&b, "add rule %s %s %s %s %s\n", familyWord(chain.V6), natTable, chain.Name, r.Match, r.Verdict)
			}
		}
	}
	return b.String()
}

// loadText is what NATLoad does, for nft -f.
func loadText(want, gone []Chain) string {
	var b strings.Builder
	for _, v6 := range []bool{false, true} {
		family := familyWord(v6)
		if slices.ContainsFunc(slices.Concat(want, gone), func(c Chain) bool { return c.V6 == v6 }) {
			fmt.Fprintf(&b, "add table %s %s\n", family, natTable)
		}
		for _, c := range gone {
			if c.V6 == v6 {
				fmt.Fprintf(&b, "flush chain %[1]s %[2]s %[3]s\ndelete chain %[1]s %[2]s %[3]s\n", family, natTable, c.Name)
			}
		}
		for _, c := range want {
			if c.V6 == v6 {
				fmt.Fprintf(&b, "add chain %[1]s %[2]s %[3]s { %[4]s }\nflush chain %[1]s %[2]s %[3]s\n", family, natTable, c.Name, c.definition())
			}
		}
		for _, c := range want {
			for _, r := range c.Rules {
				if c.V6 == v6 {
					match := r.Match
					if match != "" {
						match += " "
					}
					fmt.Fprintf(&b, "add rule %s %s %s %scounter %s comment %q\n", family, natTable, c.Name, match, r.Verdict, r.Comment)
				}
			}
		}
	}
	return b.String()
}

var priorityWords = map[nftables.ChainPriority]string{
	*nftables.ChainPriorityNATDest:   "dstnat",
	*nftables.ChainPriorityNATSource: "srcnat",
	*nftables.ChainPriorityFilter:    "filter",
}

var hookWords = map[nftables.ChainHook]string{
	*nftables.ChainHookPrerouting:  "prerouting",
	*nftables.ChainHookPostrouting: "postrouting",
	*nftables.ChainHookForward:     "forward",
}

// definition is the chain less its rules, as nft writes it.
func (c Chain) definition() string {
	policy := "accept"
	if c.drop {
		policy = "drop"
	}
	priority, ok := priorityWords[c.priority]
	if !ok {
		priority = fmt.Sprint(int32(c.priority))
	}
	hook, ok := hookWords[c.hook]
	if !ok {
		hook = fmt.Sprint(c.hook)
	}
	return fmt.Sprintf("type %s hook %s priority %s; policy %s;", c.kind, hook, priority, policy)
}

// fingerprint is equal for chains that do the same to every packet.
func (c Chain) fingerprint() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\n", familyWord(c.V6), c.Name, c.definition())
	for _, r := range c.Rules {
		for _, e := range r.exprs {
			if _, ok := e.(*expr.Counter); ok {
				e = &expr.Counter{}
			}
			fmt.Fprintf(&b, "%T%+v ", e, e)
		}
		fmt.Fprintf(&b, "# %s\n", r.Comment)
	}
	return b.String()
}

// diffChains is one NATLoad, or nothing when all chains are as they are to be.
func diffChains(have, want []Chain) []Change {
	equal := slices.EqualFunc(have, want, func(a, b Chain) bool { return a.fingerprint() == b.fingerprint() })
	if equal {
		return nil
	}
	var gone []Chain
	for _, h := range have {
		stays := func(w Chain) bool {
			return w.V6 == h.V6 && w.Name == h.Name && w.definition() == h.definition()
		}
		if !slices.ContainsFunc(want, stays) {
			gone = append(gone, h)
		}
	}
	return []Change{{Op: NATLoad, NAT: want, Gone: gone}}
}
