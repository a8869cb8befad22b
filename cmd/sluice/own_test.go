package main

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// renewals is a mode that counts what it is given.
type renewals struct {
	mode[*config.Proxy]
	all     []*policy.Generation
	revoked int
}

func (m *renewals) tenants(*config.Proxy, *policy.Set, time.Time) {}

func (m *renewals) renew(gen *policy.Generation) { m.all = append(m.all, gen) }

func (m *renewals) revoke() { m.revoked++ }

// When this host has other addresses than were listed before, what is judged by is renewed,
// once, with the rules in force.
func TestOwnAddressesAreFollowed(t *testing.T) {
	c, err := config.LoadProxy(settings.Input{Environ: []string{"EGRESS_HTTP_PROXY_DESTINATION=*"}})
	require.NoError(t, err)
	m := &renewals{}
	d := &daemon[*config.Proxy]{running: &running{log: slog.New(slog.DiscardHandler)}, mode: m, config: c, own: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	d.refreshOwn()
	d.refreshOwn()
	require.Len(t, m.all, 1)
	assert.Equal(t, 1, m.revoked, "what is open is judged again")
	assert.EqualValues(t, 1, m.all[0].Name().Number)
	gone, err := acl.ParseTargetDefault("192.0.2.1", 80)
	require.NoError(t, err)
	assert.Equal(t, acl.Allow, m.all[0].Tenant(netip.Addr{}).Rules.DecideHost(gone).Verdict, "it is this host's no more")
	assert.Equal(t, acl.Deny, d.generation(c, []netip.Addr{gone.Host.Addr()}).Tenant(netip.Addr{}).Rules.DecideHost(gone).Verdict)
}
