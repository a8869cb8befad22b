package netsetup

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink"
)

// Counter is what a rule has counted. A rule of the chains prerouting and
// postrouting sees the first packet of each connection only, so that Packets are
// connections there; those of the chain forward see every packet.
type Counter struct {
	V6      bool
	Chain   string
	Rule    string // the rule's comment: "8080 tcp 192.0.2.34 80", "source 192.0.2.10 by macvlan0" …
	Packets uint64
	Bytes   uint64
}

// Counters reads the counters of all rules of ours in the calling thread's
// namespace, in the order of the rules; none when no rules are loaded.
func (k *Kernel) Counters() ([]Counter, error) {
	chains, err := readChains()
	if err != nil {
		return nil, fmt.Errorf("list nat rules: %w", err)
	}
	return counters(chains), nil
}

func counters(chains []Chain) []Counter {
	var all []Counter
	for _, c := range chains {
		for _, r := range c.Rules {
			if n := r.counter(); n != nil {
				all = append(all, Counter{c.V6, c.Name, r.Comment, n.Packets, n.Bytes})
			}
		}
	}
	return all
}

// counter is the rule's counter, or nil.
func (r NATRule) counter() *expr.Counter {
	for _, e := range r.exprs {
		if n, ok := e.(*expr.Counter); ok {
			return n
		}
	}
	return nil
}

func nftFamily(v6 bool) nftables.TableFamily {
	if v6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}

// readChains reads our chains, in the order of wantChains.
func readChains() ([]Chain, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	var all []Chain
	for _, v6 := range []bool{false, true} {
		chains, err := conn.ListChainsOfTableFamily(nftFamily(v6))
		if v6 && noIPv6(netlink.FAMILY_V6, err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range []string{chainPrerouting, chainPostrouting, chainForward} {
			i := slices.IndexFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == natTable && c.Name == name })
			if i < 0 {
				continue
			}
			c, err := readChain(conn, chains[i], v6)
			if err != nil {
				return nil, fmt.Errorf("chain %s %s %s: %w", familyWord(v6), natTable, name, err)
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func readChain(conn *nftables.Conn, from *nftables.Chain, v6 bool) (Chain, error) {
	c := Chain{V6: v6, Name: from.Name, kind: from.Type}
	if from.Hooknum != nil && from.Priority != nil {
		c.hook, c.priority = *from.Hooknum, *from.Priority
	}
	c.drop = from.Policy != nil && *from.Policy == nftables.ChainPolicyDrop
	table := &nftables.Table{Family: nftFamily(v6), Name: natTable}
	rules, err := conn.GetRules(table, from)
	if err != nil {
		return c, err
	}
	for _, r := range rules {
		comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		c.Rules = append(c.Rules, NATRule{Comment: comment, exprs: r.Exprs})
	}
	return c, nil
}

// loadChains makes the chains what they are to be, in one transaction: all of it
// is in force afterwards, or nothing. Connections live on, since the kernel knows
// them by itself. What a rule has counted stays with the rule of the same comment.
func loadChains(want, gone []Chain) error {
	before, err := readChains()
	if err != nil {
		return err
	}
	counted := map[Counter]*expr.Counter{} // by all but the numbers
	for _, n := range counters(before) {
		counted[Counter{V6: n.V6, Chain: n.Chain, Rule: n.Rule}] = &expr.Counter{Packets: n.Packets, Bytes: n.Bytes}
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	tables := map[bool]*nftables.Table{}
	for _, c := range slices.Concat(want, gone) {
		if tables[c.V6] == nil {
			tables[c.V6] = conn.AddTable(&nftables.Table{Family: nftFamily(c.V6), Name: natTable})
		}
	}
	for _, c := range gone {
		chain := &nftables.Chain{Table: tables[c.V6], Name: c.Name}
		conn.FlushChain(chain)
		conn.DelChain(chain)
	}
	for _, c := range want {
		addChain(conn, tables[c.V6], c, counted)
	}
	return conn.Flush()
}

func addChain(conn *nftables.Conn, table *nftables.Table, c Chain, counted map[Counter]*expr.Counter) {
	policy := nftables.ChainPolicyAccept
	if c.drop {
		policy = nftables.ChainPolicyDrop
	}
	chain := conn.AddChain(&nftables.Chain{Table: table, Name: c.Name, Type: c.kind, Hooknum: &c.hook, Priority: &c.priority, Policy: &policy})
	conn.FlushChain(chain)
	for _, r := range c.Rules {
		exprs := slices.Clone(r.exprs)
		for i, e := range exprs {
			if _, ok := e.(*expr.Counter); !ok {
				continue
			}
			if n := counted[Counter{V6: c.V6, Chain: c.Name, Rule: r.Comment}]; n != nil {
				exprs[i] = n
			}
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, r.Comment)})
	}
}
