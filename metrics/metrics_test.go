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
	tcp := NewTCP(reg)
	tcp.Listener("5432").SetUp(true)
	tcp.Destination("5432", "db.test:5432").Connected(time.Millisecond)
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
	allowed := []string{"mode", "verdict", "reason", "class", "limit", "source", "outcome", "result", "listener", "destination", "cause", "state", "version", "goversion"}
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
