package fence

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// prefix is that of the tables' names.
const prefix = "sluice-hold-"

// Families of the tables.
const (
	arp    = nftables.TableFamilyARP
	inet   = nftables.TableFamilyINet
	netdev = nftables.TableFamilyNetdev
)

func families(weak bool) []nftables.TableFamily {
	if weak {
		return []nftables.TableFamily{arp, inet}
	}
	return []nftables.TableFamily{arp, inet, netdev}
}

// tables are the tables of a group by their families, whether they are there or not.
func tables(group string) map[nftables.TableFamily]*nftables.Table {
	all := map[nftables.TableFamily]*nftables.Table{}
	for _, family := range families(false) {
		all[family] = &nftables.Table{Family: family, Name: prefix + group}
	}
	return all
}

// addTables puts a group's tables into a batch, whatever is there of them: sets stay, and
// what they hold; rules are made anew, and so is the list of what is fenced.
func addTables(conn *nftables.Conn, g Group, also []netip.Addr, links map[int]string, weak bool) error {
	t := &transaction{conn: conn, tables: tables(g.Name), weak: weak}
	for _, family := range families(weak) {
		table := conn.AddTable(t.tables[family])
		t.fenced(table, fenced4, nftables.TypeIPAddr, g.Addrs, also)
		if family != arp {
			t.fenced(table, fenced6, nftables.TypeIP6Addr, g.Addrs, also)
		}
	}
	for _, set := range append(t.held(), t.pending()) {
		t.keep(conn.AddSet(set, nil))
	}
	t.chain(arp, nftables.Chain{Name: chainOutput, Hooknum: arpOutput, Priority: nftables.ChainPriorityFilter}, arpRules())
	t.chain(inet, nftables.Chain{Name: chainOutput, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter}, inetRules())
	// What is forwarded and translated does not pass the hook for output. Where there is
	// an egress hook, it goes there as well.
	t.chain(inet, nftables.Chain{Name: chainPostrouting, Hooknum: nftables.ChainHookPostrouting, Priority: lastPriority}, inetRules())
	if !weak {
		for _, name := range links {
			t.egress(name)
		}
	}
	return t.err
}

// fenced makes a set of what the fence is about.
func (t *transaction) fenced(table *nftables.Table, name string, key nftables.SetDatatype, addrs ...[]netip.Addr) {
	set := &nftables.Set{Table: table, Name: name, KeyType: key}
	t.keep(t.conn.AddSet(set, nil))
	t.conn.FlushSet(set)
	for _, a := range slices.Concat(addrs...) {
		if a.Is4() == (key.Bytes == addr4) {
			t.add(set, a.AsSlice(), 0)
		}
	}
}

// egress makes the chain of an interface.
func (t *transaction) egress(link string) {
	t.chain(netdev, nftables.Chain{Name: chainEgress + link, Hooknum: nftables.ChainHookEgress, Priority: nftables.ChainPriorityFilter, Device: link}, netdevRules())
}

func (t *transaction) chain(family nftables.TableFamily, c nftables.Chain, rules []rule) {
	accept := nftables.ChainPolicyAccept
	c.Table, c.Type, c.Policy = t.tables[family], nftables.ChainTypeFilter, &accept
	t.conn.AddChain(&c)
	t.conn.FlushChain(&c)
	for _, r := range rules {
		t.conn.AddRule(&nftables.Rule{Table: c.Table, Chain: &c, Exprs: r.exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, r.comment)})
	}
}

// removeTables takes away those of a group that are there.
func removeTables(conn *nftables.Conn, group string) error {
	for _, t := range tables(group) {
		conn.AddTable(t) // so that the next cannot fail
		conn.DelTable(t)
	}
	err := conn.Flush()
	if !errors.Is(err, unix.EAFNOSUPPORT) {
		return err
	}
	for family, t := range tables(group) {
		if family != netdev {
			conn.AddTable(t)
			conn.DelTable(t)
		}
	}
	return conn.Flush()
}

// dropped is what the rules of a table have counted.
func dropped(conn *nftables.Conn, table *nftables.Table) (packets uint64, err error) {
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, c := range chains {
		if c.Table.Name != table.Name {
			continue
		}
		rules, err := conn.GetRules(table, c)
		if err != nil {
			return 0, err
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if n, ok := e.(*expr.Counter); ok {
					packets += n.Packets
				}
			}
		}
	}
	return packets, nil
}
