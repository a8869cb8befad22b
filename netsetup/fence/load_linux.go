package fence

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink"
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

// PresentError is that an address was there before there was a fence for it.
type PresentError struct {
	Addr netip.Addr
	Link string
}

func (e *PresentError) Error() string {
	return fmt.Sprintf("EGRESS_SOURCE %s is on %s already, and no fence was there before it, so that two pods may answer for it; "+
		"Multus puts it there when the NetworkAttachmentDefinition has an ipam section, or the pod's annotation names an address (ips), "+
		"and so does sluice-netsetup without hold, in an init container: take that away, what is held is brought by sluice-netsetup hold", e.Addr, e.Link)
}

var groupName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)

// CheckName reports what is wrong with a group's name.
func CheckName(name string) error {
	if !groupName.MatchString(name) {
		return fmt.Errorf("%q is no name of a group: up to 63 letters, digits and hyphens", name)
	}
	return nil
}

// Load puts up the fences of all groups of this namespace, in one transaction, before any of
// their addresses is brought. An address that is there already is a [*PresentError], unless
// a fence of an earlier process was there before it; what that has held goes on being
// held, for as long as it was to be. Fences of groups that are no more are taken away when
// no address needs them. The fences are in the order of the groups.
func Load(groups []Group) ([]*Fence, error) {
	return load(groups, false)
}

// load does so; weak leaves out the egress hook although it may be there, for tests.
func load(groups []Group, weak bool) ([]*Fence, error) {
	for _, g := range groups {
		if err := CheckName(g.Name); err != nil {
			return nil, err
		}
		if len(g.Addrs) == 0 {
			return nil, fmt.Errorf("group %s has no address", g.Name)
		}
	}
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("load the fence: %w", err)
	}
	here, err := present()
	if err != nil {
		return nil, fmt.Errorf("load the fence: list addresses: %w", err)
	}
	before, err := known(conn)
	if err != nil {
		return nil, fmt.Errorf("load the fence: list tables: %w", err)
	}
	covered := slices.Concat(slices.Collect(maps.Values(before))...)
	for _, g := range groups {
		for _, a := range g.Addrs {
			if link, ok := here[a]; ok && !slices.Contains(covered, a) {
				return nil, &PresentError{a, link}
			}
		}
	}
	links, err := interfaces()
	if err != nil {
		return nil, fmt.Errorf("load the fence: list interfaces: %w", err)
	}
	put := func(weak bool) error {
		for _, g := range groups {
			// What an earlier setting fenced, and is still there, stays fenced.
			stay := slices.DeleteFunc(slices.Clone(before[g.Name]), func(a netip.Addr) bool { _, ok := here[a]; return !ok || slices.Contains(g.Addrs, a) })
			if err := addTables(conn, g, stay, links, weak); err != nil {
				return err
			}
		}
		return conn.Flush()
	}
	if !weak {
		err = put(false)
	}
	if weak || noHook(err) {
		weak = true
		err = put(true)
	}
	if err != nil {
		return nil, fmt.Errorf("load the fence: %w", err)
	}
	var all []*Fence
	for _, g := range groups {
		f := &Fence{group: g, Weak: weak}
		if !weak {
			f.covered = slices.Sorted(maps.Keys(links))
		}
		all = append(all, f)
	}
	return all, removeOld(conn, groups, before, here)
}

// noHook reports whether err is that this kernel has no egress hook, or no family netdev.
func noHook(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL)
}

// known are the addresses that fences of earlier processes are about, by group. One that is
// not whole is not there.
func known(conn *nftables.Conn) (map[string][]netip.Addr, error) {
	all := map[string][]netip.Addr{}
	there, err := conn.ListTablesOfFamily(inet)
	if err != nil {
		return nil, err
	}
	for _, t := range there {
		group, ours := strings.CutPrefix(t.Name, prefix)
		if !ours {
			continue
		}
		all[group] = []netip.Addr{}
		for _, name := range []string{fenced4, fenced6} {
			elements, err := conn.GetSetElements(&nftables.Set{Table: t, Name: name})
			if err != nil {
				return nil, err
			}
			for _, e := range elements {
				if a, ok := netip.AddrFromSlice(e.Key); ok {
					all[group] = append(all[group], a)
				}
			}
		}
	}
	return all, nil
}

// removeOld takes away the fences of groups that are no more, of whose addresses none is
// there that no other fence is about.
func removeOld(conn *nftables.Conn, groups []Group, before map[string][]netip.Addr, here map[netip.Addr]string) error {
	for name, addrs := range before {
		if slices.ContainsFunc(groups, func(g Group) bool { return g.Name == name }) {
			continue
		}
		needed := slices.ContainsFunc(addrs, func(a netip.Addr) bool {
			_, there := here[a]
			return there && !slices.ContainsFunc(groups, func(g Group) bool { return slices.Contains(g.Addrs, a) })
		})
		if needed {
			continue
		}
		if err := removeTables(conn, name); err != nil {
			return fmt.Errorf("remove the fence of group %s, which is no more: %w", name, err)
		}
	}
	return nil
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

// present are the addresses of this namespace, with their interfaces.
func present() (map[netip.Addr]string, error) {
	links, err := again(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addrs, err := again(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	all := map[netip.Addr]string{}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			all[addr.Unmap()] = names[a.LinkIndex]
		}
	}
	return all, nil
}

// interfaces are those of this namespace but lo, by index.
func interfaces() (map[int]string, error) {
	links, err := again(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	all := map[int]string{}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback == 0 {
			all[l.Attrs().Index] = l.Attrs().Name
		}
	}
	return all, nil
}

// again repeats a dump that the kernel says was disturbed.
func again[T any](dump func() ([]T, error)) (all []T, err error) {
	const tries = 5
	for range tries {
		if all, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, err
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

// Cover puts the fence on interfaces that came after it. It is called before an address is
// brought to one of them.
func (f *Fence) Cover() error {
	if f.Weak {
		return nil
	}
	links, err := interfaces()
	if err != nil {
		return f.failed("list interfaces", err)
	}
	now := slices.Sorted(maps.Keys(links))
	f.mu.Lock()
	same := slices.Equal(now, f.covered)
	before := f.covered
	f.mu.Unlock()
	if same {
		return nil
	}
	err = f.transaction("cover new interfaces", func(t *transaction) {
		for index, name := range links {
			if !slices.Contains(before, index) {
				t.egress(name)
			}
		}
	})
	if err == nil {
		f.mu.Lock()
		f.covered = now
		f.mu.Unlock()
	}
	return err
}

// ErrPresent is the error of a fence that stays, since an address of it is there.
var ErrPresent = errors.New("the fence stays, since there is an address of it")

// Close takes the fence away, unless one of its addresses is there: [ErrPresent].
func (f *Fence) Close() error {
	here, err := present()
	if err != nil {
		return f.failed("list addresses", err)
	}
	conn, err := nftables.New()
	if err != nil {
		return f.failed("close", err)
	}
	before, err := known(conn)
	if err != nil {
		return f.failed("close", err)
	}
	for _, a := range before[f.group.Name] {
		if link, ok := here[a]; ok {
			return f.failed(fmt.Sprintf("%s is on %s", a, link), ErrPresent)
		}
	}
	if err := removeTables(conn, f.group.Name); err != nil {
		return f.failed("close", err)
	}
	return nil
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
