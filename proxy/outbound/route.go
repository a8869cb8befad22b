package outbound

import (
	"net/netip"
	"slices"

	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Route is where an admitted request may go: the addresses that were allowed, in the order
// to try them, and the sources to do so from. Only a [Gate] makes one that leads anywhere:
// it is part of a [Ticket].
type Route struct {
	tenant  string // whose connections may be used
	addrs   []netip.Addr
	port    uint16
	sources policy.Sources
	// credential stands for what is put into the requests that go along it; "": nothing.
	credential string
	along      // parents; none for most

	room [8]netip.Addr // so that few addresses take no allocation
}

// begin makes r a route that does not lead anywhere yet.
func (r *Route) begin(t *policy.Tenant, port uint16) {
	r.tenant, r.addrs, r.port, r.sources = t.Name, r.room[:0], port, t.Sources
	r.credential = ""
	if r.way != nil {
		r.along = along{}
	}
}

// Len is how many addresses there are to try.
func (r *Route) Len() int { return len(r.addrs) }

// Addrs returns the addresses, which the caller may keep.
func (r *Route) Addrs() []netip.Addr { return slices.Clone(r.addrs) }

// Leads reports whether c could have been made by this route, with TLS to that server, or
// "" for a plain connection: only then a request that was admitted with r may go over it.
func (r *Route) Leads(c *Conn, server string) bool {
	if r.way != nil {
		return r.leadsVia(c, server)
	}
	return c.via == "" && c.server == server && c.tenant == r.tenant && c.credential == r.credential && c.Dst.Port() == r.port && slices.Contains(r.addrs, c.Dst.Addr()) &&
		slices.Contains(r.sources.For(c.Dst.Addr()), c.Source)
}

// StillLeads reports whether c, which another route has led to, could have been made by this one,
// too: what was put in force meanwhile may have made its client another tenant's, or have changed where
// its connections come from, by which parent they go, or what is put into its requests.
func (r *Route) StillLeads(c *Conn) bool { return r.Leads(c, c.server) }

// interleave orders addresses as RFC 8305 section 4 asks: IPv6 first, then the
// families in turn, each in the order in which the resolver gave it.
func interleave(addrs []netip.Addr) {
	var few [8]netip.Addr
	all := append(few[:0], addrs...)
	next := func(i int, six bool) int { // the first from i on of a family
		for i < len(all) && all[i].Is6() != six {
			i++
		}
		return i
	}
	six, four, want6 := next(0, true), next(0, false), true
	for i := range addrs {
		if four == len(all) || want6 && six < len(all) {
			addrs[i], six = all[six], next(six+1, true)
		} else {
			addrs[i], four = all[four], next(four+1, false)
		}
		want6 = addrs[i].Is4()
	}
}
