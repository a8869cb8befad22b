package tcp

import (
	"fmt"
	"net/netip"
)

// DestinationStatus is what is known of a destination.
type DestinationStatus struct {
	Label     string
	Problem   string // why the last look-up gave nothing, "" if it did not fail
	Addresses []AddressStatus
}

// AddressStatus is what is known of an address.
type AddressStatus struct {
	Addr  netip.Addr
	State string // "up", "down", or "draining": it has left DNS
	Open  int64  // connections
}

func (d *destination) status() DestinationStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := DestinationStatus{Label: d.label, Problem: d.problem}
	for _, a := range *d.list.Load() {
		st.Addresses = append(st.Addresses, AddressStatus{a.addr, a.state(), a.open.Load()})
	}
	for _, a := range d.known {
		if a.cancel == nil {
			st.Addresses = append(st.Addresses, AddressStatus{a.addr, "draining", a.open.Load()})
		}
	}
	return st
}

// String says how things stand, in one line.
func (st DestinationStatus) String() string {
	s := st.Label
	for i, a := range st.Addresses {
		sep := ", "
		if i == 0 {
			sep = " at "
		}
		s += fmt.Sprintf("%s%s (%s, %d open)", sep, a.Addr, a.State, a.Open)
	}
	if len(st.Addresses) == 0 && st.Problem == "" {
		s += ": not resolved yet"
	}
	if st.Problem != "" {
		s += ": " + st.Problem
	}
	return s
}
