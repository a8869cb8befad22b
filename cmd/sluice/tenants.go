package main

import (
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// tenantUsages keeps what tenants have in use while generations come and go. The metrics
// show it.
type tenantUsages struct {
	inForce atomic.Pointer[map[string]*policy.Usage]
	next    map[string]*policy.Usage // of the set that was made last, which may never be in force
}

// share gives each tenant of s, and the one of the rest, what it had before.
func (u *tenantUsages) share(s *policy.Set) {
	before, now := u.inForce.Load(), make(map[string]*policy.Usage, len(s.Tenants)+1)
	give := func(t *policy.Tenant) {
		if before != nil {
			t.Usage = (*before)[t.Name]
		}
		if t.Usage == nil {
			t.Usage = new(policy.Usage)
		}
		now[t.Name] = t.Usage
	}
	give(&s.Rest)
	for i := range s.Tenants {
		give(&s.Tenants[i].Tenant)
	}
	u.next = now
}

// commit is called when what was made last is in force.
func (u *tenantUsages) commit() {
	next := u.next
	u.inForce.Store(&next)
}

// each is what the metrics show.
func (u *tenantUsages) each(f func(metrics.Tenant)) {
	all := u.inForce.Load()
	if all == nil {
		return
	}
	for name, t := range *all {
		f(metrics.Tenant{
			Name: name, Open: t.Open(),
			Allowed: t.Allowed.Load(), Denied: t.Denied.Load(),
			OverConnections: t.OverConnections.Load(), OverRate: t.OverRate.Load(),
			Received: t.ReceivedBytes.Load(), Sent: t.SentBytes.Load(),
		})
	}
}

// show has the status page tell of the tenants of c.
func (u *tenantUsages) show(c *config.Proxy, st *admin.Status) {
	all := u.inForce.Load()
	for _, t := range c.Tenants {
		row := admin.Tenant{Name: t.Name, Clients: joined(t.Clients), Source: policy.NewSources(t.Sources).String(),
			Guard: t.Guard.String(), Rules: t.Policy.Len(), Origin: t.Rules.Source}
		if all != nil && (*all)[t.Name] != nil {
			row.Open = (*all)[t.Name].Open()
		}
		st.Tenants = append(st.Tenants, row)
	}
}

// joined lists prefixes, an address as that.
func joined(all []netip.Prefix) string {
	var words []string
	for _, p := range all {
		if p.IsSingleIP() {
			words = append(words, p.Addr().String())
		} else {
			words = append(words, p.String())
		}
	}
	return strings.Join(words, ", ")
}
