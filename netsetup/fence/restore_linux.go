package fence

import (
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
)

// Damage is what somebody has taken of a fence. The zero Damage is none.
type Damage struct {
	What string // in words of nft; "": nothing
	// Held says that what is held went with it, in a family at least.
	Held bool
}

// Damage looks whether the fence is as it was put up: tables, chains, rules and what it is
// about. Whoever flushes a table takes the rules alone, and no transaction would fail by that.
func (f *Fence) Damage() (Damage, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return Damage{}, f.failed("look at it", err)
	}
	defer conn.CloseLasting()
	links, err := interfaces()
	if err != nil {
		return Damage{}, f.failed("list interfaces", err)
	}
	f.mu.Lock() // so that no transaction of ours is half seen
	defer f.mu.Unlock()
	maps.DeleteFunc(links, func(index int, _ string) bool { return !slices.Contains(f.covered, index) })
	d, err := f.damage(conn, links)
	if err != nil {
		return Damage{}, f.failed("look at it", err)
	}
	return d, nil
}

func (f *Fence) damage(conn *nftables.Conn, links map[int]string) (Damage, error) {
	for _, family := range families(f.Weak) {
		there, err := conn.ListTablesOfFamily(family)
		if err != nil {
			return Damage{}, err
		}
		if !slices.ContainsFunc(there, func(t *nftables.Table) bool { return t.Name == prefix+f.group.Name }) {
			return Damage{"table " + words[family], true}, nil
		}
	}
	for _, family := range families(f.Weak) {
		table := tables(f.group.Name)[family]
		what, err := damagedChain(conn, table, chainsOf(family, links))
		if err == nil && what == "" {
			what, err = f.damagedSet(conn, table)
		}
		if err != nil || what != "" {
			return Damage{What: what}, err
		}
	}
	return Damage{}, nil
}

var words = map[nftables.TableFamily]string{arp: "arp", inet: "inet", netdev: "netdev"}

// chainsOf are the rules that chains of a family's table have.
func chainsOf(family nftables.TableFamily, links map[int]string) map[string][]rule {
	switch family {
	case arp:
		return map[string][]rule{chainOutput: arpRules()}
	case inet:
		return map[string][]rule{chainOutput: inetRules(), chainPostrouting: inetRules()}
	}
	all := map[string][]rule{}
	for _, name := range links {
		all[chainEgress+name] = netdevRules()
	}
	return all
}

// damagedChain names a chain of a table that is not there, or has not the rules that it is to
// have, by their comments.
func damagedChain(conn *nftables.Conn, table *nftables.Table, want map[string][]rule) (string, error) {
	chains, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return "", err
	}
	there := map[string]bool{}
	for _, c := range chains {
		there[c.Name] = there[c.Name] || c.Table.Name == table.Name && c.Hooknum != nil
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !there[name] {
			return fmt.Sprintf("chain %s of table %s", name, words[table.Family]), nil
		}
		rules, err := conn.GetRules(table, &nftables.Chain{Name: name})
		if err != nil {
			return "", err
		}
		same := slices.EqualFunc(rules, want[name], func(is *nftables.Rule, w rule) bool {
			comment, _ := userdata.GetString(is.UserData, userdata.TypeComment)
			return comment == w.comment
		})
		if !same {
			return fmt.Sprintf("rules of chain %s of table %s", name, words[table.Family]), nil
		}
	}
	return "", nil
}

// damagedSet names a set of what a table fences that has not all of it.
func (f *Fence) damagedSet(conn *nftables.Conn, table *nftables.Table) (string, error) {
	for name, size := range map[string]int{fenced4: addr4, fenced6: addr6} {
		if table.Family == arp && size == addr6 {
			continue
		}
		elements, err := conn.GetSetElements(&nftables.Set{Table: table, Name: name})
		if err != nil {
			return "", err
		}
		for _, a := range f.group.Addrs {
			if len(a.AsSlice()) == size && !slices.ContainsFunc(elements, func(e nftables.SetElement) bool { return string(e.Key) == string(a.AsSlice()) }) {
				return fmt.Sprintf("set %s of table %s", name, words[table.Family]), nil
			}
		}
	}
	return "", nil
}

// Restore puts the fence up again if somebody has taken something of it away, with nothing held
// by a table that is new, and says what it was.
func (f *Fence) Restore() (Damage, error) {
	d, err := f.Damage()
	if err != nil || d.What == "" {
		return d, err
	}
	conn, err := nftables.New()
	if err != nil {
		return d, f.failed("restore", err)
	}
	links, err := interfaces()
	if err != nil {
		return d, f.failed("list interfaces", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := addTables(conn, f.group, nil, links, f.Weak); err != nil {
		return d, f.failed("restore", err)
	}
	if err := conn.Flush(); err != nil {
		return d, f.failed("restore", err)
	}
	if !f.Weak {
		f.covered = slices.Sorted(maps.Keys(links))
	}
	return d, nil
}
