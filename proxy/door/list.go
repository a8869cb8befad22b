package door

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// State is what a client's connection is at.
type State uint8

const (
	Waiting State = iota // for a request, or for whatever must come before there is a server
	Request              // one is under way
	Tunnel
)

// String returns "waiting", "request" or "tunnel".
func (s State) String() string { return [...]string{"waiting", "request", "tunnel"}[s] }

// Open is one thing that is open.
type Open struct {
	State  State
	Client netip.AddrPort
	Who    policy.Who     // the client was found to be when it was admitted
	Tenant string         // "" for the default one, or when it is not known yet
	Target acl.Target     // asked for; the zero Target: nothing yet
	Other  *acl.Target    // what the client has asked the server for within the tunnel; nil: the same, or it is not known
	Asked  *policy.Asked  // what request rules have judged it by; nil: none have
	Addr   netip.AddrPort // of the server, in use; the zero AddrPort: none yet. Of one that a parent has by name the port alone is known
	Since  time.Time      // of the request or tunnel; of a connection that waits: the zero Time
	// Bytes of the tunnel, or of the bodies as far as they are counted by now, from the client
	// and to it.
	Received, Sent int64
}

// Connected reports whether it has a server.
func (o *Open) Connected() bool { return o.Addr != (netip.AddrPort{}) }

// List returns what is open, each client's connection once, in no order; and each request that is
// under way inside a tunnel beside that.
func (d *Door) List() []Open {
	all := make([]Open, 0, d.Len())
	at := make(map[netip.AddrPort]int, cap(all))
	d.Each(func(m Member) {
		var o Open
		if !m.Describe(&o) {
			return
		}
		if m.entry().beside {
			if o.State == Request {
				all = append(all, o)
			}
			return
		}
		if i, again := at[o.Client]; again && o.Client.IsValid() { // it has become a tunnel meanwhile
			all[i] = o
			return
		}
		at[o.Client] = len(all)
		all = append(all, o)
	})
	return all
}

// CutWhere ends what which says, and returns how many those are.
func (d *Door) CutWhere(which func(*Open) bool, why Why) (n int) {
	d.Each(func(m Member) {
		if m.CutIf(which, why) {
			n++
		}
	})
	return n
}
