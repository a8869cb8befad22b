package directory

import (
	"iter"
	"net/netip"

	"github.com/gaissmai/bart"
)

// Table is who has which address, at one moment. It is never changed; nil has nobody.
type Table struct {
	pods bart.Fast[*Pod]
}

// Lookup is the pod that has an address. It takes no lock, and allocates nothing.
func (t *Table) Lookup(addr netip.Addr) (Pod, bool) {
	if p := t.find(addr); p != nil {
		return *p, true
	}
	return Pod{}, false
}

// Len is the number of addresses.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return t.pods.Size()
}

// All are the addresses with their pods, in no order.
func (t *Table) All() iter.Seq2[netip.Addr, Pod] {
	return func(yield func(netip.Addr, Pod) bool) {
		if t == nil {
			return
		}
		for p, pod := range t.pods.All() {
			if !yield(p.Addr(), *pod) {
				return
			}
		}
	}
}

func (t *Table) find(addr netip.Addr) *Pod {
	if t == nil || !addr.IsValid() {
		return nil
	}
	p, _ := t.pods.Lookup(addr.Unmap().WithZone(""))
	return p
}

// with is the table with a change made; t stays as it is.
func (t *Table) with(addr netip.Addr, p *Pod) *Table {
	host := netip.PrefixFrom(addr, addr.BitLen())
	if p == nil {
		return &Table{pods: *t.pods.DeletePersist(host)}
	}
	return &Table{pods: *t.pods.InsertPersist(host, p)}
}

// set changes a table that nobody else has yet.
func (t *Table) set(addr netip.Addr, p *Pod) {
	t.pods.Insert(netip.PrefixFrom(addr, addr.BitLen()), p)
}
