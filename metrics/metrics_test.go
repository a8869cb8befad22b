package metrics

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

// touched is a registry in which every metric has a value.
func touched() (*prometheus.Registry, *Metrics) {
	reg := prometheus.NewRegistry()
	m := New(reg, "v1")
	m.Ended(Connect, true, ReasonRule, "connection_refused", 1, 2, time.Second)
	m.DNS.Query("answered", true, time.Millisecond)
	m.DNS.Lookup("hit")
	NewKube(reg, "v1", func() Directory { return Directory{} })
	hold := NewHold(reg, func() []Held {
		return []Held{{Group: "192-0-2-10", Mode: "owner", Holding: true, Ours: true, AckAge: time.Second}}
	})
	hold.Happened("192-0-2-10", "took")
	hold.Requested("update", "leases", "200")
	NewSources(reg, func(yield func(string, bool)) { yield("192.0.2.10", true) })
	tcp := NewTCP(reg)
	tcp.Listener("5432").SetUp(true)
	tcp.Destination("5432", "db.test:5432").Connected(time.Millisecond)
	NewTenants(reg, func(f func(Tenant)) {
		f(Tenant{Name: "shop", Open: 1, Allowed: 2, Denied: 3, OverConnections: 4, OverRate: 5, Received: 6, Sent: 7})
	})
	NewShadow(reg, func(f func(ShadowLine)) { f(ShadowLine{Tenant: "shop", Line: 7, WouldDeny: 1, WouldAllow: 2}) })
	NewParents(reg, func(f func(Parent)) {
		f(Parent{Tenant: "shop", URL: "http://proxy.test:3128", Up: true, Outcomes: map[string]uint64{"opened": 1}})
	})
	NewPolicy(reg, func() (uint64, string) { return 3, "0123456789ab" }, func() (time.Duration, bool) { return time.Hour, true }, func() int { return 1 })
	NewLearning(reg, func() bool { return true })
	NewDirectory(reg, func() float64 { return 1 }, func() float64 { return 2 })
	return reg, m
}

func TestLint(t *testing.T) {
	reg, _ := touched()
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

// The table in README.md lists what there is, and nothing else.
func TestReadme(t *testing.T) {
	reg, _ := touched()
	families, err := reg.Gather()
	require.NoError(t, err)
	var have, listed []string
	for _, f := range families {
		have = append(have, f.GetName())
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?m)^\\| `(sluice_[a-z_]+)`").FindAllStringSubmatch(string(readme), -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	assert.Equal(t, have, listed)
}

// Labels are bounded: whatever clients do, the number of series has an end.
func TestLabels(t *testing.T) {
	reg, _ := touched()
	families, err := reg.Gather()
	require.NoError(t, err)
	allowed := []string{"mode", "verdict", "reason", "class", "limit", "source", "outcome", "result", "listener", "destination", "cause", "state", "tenant", "parent", "group", "event", "verb", "resource", "code", "version", "goversion", "file", "line", "generation", "policy"}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				assert.Contains(t, allowed, l.GetName(), f.GetName())
			}
		}
	}
}

func TestCounts(t *testing.T) {
	reg, m := touched()
	m.Ended(Forward, false, ReasonGuard, "", 0, 10, time.Millisecond)
	m.Refused(TooManyFromClient)
	m.Reloaded(true, 7, time.Unix(1000, 0))
	m.Reloaded(false, 0, time.Time{})
	want := `# HELP sluice_config_last_reload_successful 1 when the last reload put a new configuration in force, 0 when it was refused.
# TYPE sluice_config_last_reload_successful gauge
sluice_config_last_reload_successful 0
# HELP sluice_rules Rules in force.
# TYPE sluice_rules gauge
sluice_rules 7
`
	assert.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(want), "sluice_config_last_reload_successful", "sluice_rules"))
	assert.EqualValues(t, 1, testutil.ToFloat64(m.requests[Connect][1][ReasonRule]))
	assert.EqualValues(t, 1, testutil.ToFloat64(m.requests[Forward][0][ReasonGuard]))
	assert.EqualValues(t, 1, testutil.ToFloat64(m.refused[TooManyFromClient]))
	assert.EqualValues(t, 10, testutil.ToFloat64(m.sent[Forward]))
}

func TestReasonOf(t *testing.T) {
	assert.Equal(t, ReasonDefault, ReasonOf(acl.Decision{}))
	assert.Equal(t, ReasonRule, ReasonOf(acl.Decision{Kind: acl.ReasonRule}))
	assert.Equal(t, ReasonGuard, ReasonOf(acl.Decision{Kind: acl.ReasonGuard}))
}

func TestCountingAllocatesNothing(t *testing.T) {
	_, m := touched()
	assert.Zero(t, testing.AllocsPerRun(100, func() { m.Ended(Connect, true, ReasonRule, "", 1, 2, time.Second) }))
}

func TestTenants(t *testing.T) {
	reg, _ := touched()
	want := `# HELP sluice_tenant_limited_total Requests of the tenant that were refused by one of its limits.
# TYPE sluice_tenant_limited_total counter
sluice_tenant_limited_total{limit="connections",tenant="shop"} 4
sluice_tenant_limited_total{limit="requests",tenant="shop"} 5
# HELP sluice_tenant_open Requests and tunnels of the tenant that are under way.
# TYPE sluice_tenant_open gauge
sluice_tenant_open{tenant="shop"} 1
# HELP sluice_tenant_requests_total Requests and tunnels of the tenant, counted at their end.
# TYPE sluice_tenant_requests_total counter
sluice_tenant_requests_total{tenant="shop",verdict="allow"} 2
sluice_tenant_requests_total{tenant="shop",verdict="deny"} 3
# HELP sluice_tenant_client_received_bytes_total Bytes of bodies and tunnels received from the tenant's clients.
# TYPE sluice_tenant_client_received_bytes_total counter
sluice_tenant_client_received_bytes_total{tenant="shop"} 6
# HELP sluice_tenant_client_sent_bytes_total Bytes of answers and tunnels sent to the tenant's clients.
# TYPE sluice_tenant_client_sent_bytes_total counter
sluice_tenant_client_sent_bytes_total{tenant="shop"} 7
`
	assert.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(want), "sluice_tenant_limited_total", "sluice_tenant_open",
		"sluice_tenant_requests_total", "sluice_tenant_client_received_bytes_total", "sluice_tenant_client_sent_bytes_total"))
}

// Who holds, who owns the Lease, and since when that was acknowledged are each their own.
func TestHold(t *testing.T) {
	reg := prometheus.NewRegistry()
	NewHold(reg, func() []Held {
		return []Held{{Group: "a", Holding: true, Ours: true, AckAge: 1500 * time.Millisecond}, {Group: "b", Ours: true}, {Group: "c"}}
	})
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string][]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got[f.GetName()] = append(got[f.GetName()], m.GetGauge().GetValue())
		}
	}
	assert.Equal(t, map[string][]float64{
		"sluice_hold_holding": {1, 0, 0}, "sluice_hold_lease_owner": {1, 1, 0}, "sluice_hold_ack_age_seconds": {1.5, 0, 0},
		"sluice_hold_netsetup_reached": {0},
	}, got)
}
