package fence

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

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
