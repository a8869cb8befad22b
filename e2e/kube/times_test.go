//go:build linux

package kube

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	strict      = flag.Bool("strict", false, "hold the times without service against what must be reached, not against three times that: for a machine that does nothing else meanwhile")
	updateTimes = flag.Bool("update", false, "write the table of times of docs/failover.md from what was measured")
)

// event is something that a client may notice, who connects every 50 ms: a row of the table in
// docs/failover.md.
type event struct {
	name string
	most time.Duration // without service
}

// nothing is how long a client may go without an answer that notices nothing: some of its turns.
const nothing = 300 * time.Millisecond

// events are those that are measured.
//
// Source: failover.md, "It must reach".
var events = []event{
	{"the holder's pod killed", 5 * time.Second},
	{"all of it frozen (`SIGSTOP`)", 5 * time.Second},
	{"`sluice-kube` killed", 5 * time.Second},
	{"`sluice-kube` frozen", 5 * time.Second},
	{"`sluice-netsetup` killed", 5 * time.Second},
	{"the holder cut from the API server", 5 * time.Second},
	{"the holder refused by the API server", 5 * time.Second},
	{"the holder cut from the gateway, its interface up", 5 * time.Second},
	{"the node's cable out", 5 * time.Second},
	{"the pod's interface down", 5 * time.Second},
	{"the holder's pod killed, a gateway that heeds announcements only", 5 * time.Second},
	{"the holder's pod killed, both processors busy", 5 * time.Second},
	{"the holder's pod killed, clocks set back and forth", 5 * time.Second},
	{"`sluice` killed, and not back", 11 * time.Second},
	{"told to end, as by a drain of its node", time.Second},
	{"rolling update of both pods, `maxUnavailable: 1`", time.Second},
	{"rolling update of both pods, `maxSurge: 1`", time.Second},
	{"rolling update of both pods, before Kubernetes 1.29", time.Second},
	{"Lease deleted", 5 * time.Second},
	{"Lease overwritten by a stranger", 5 * time.Second},
	{"Lease emptied by a stranger", 5 * time.Second},
	{"Lease with a time of writing long ago, or to come", nothing},
	{"Lease whose labels an upgrade changes", nothing},
	{"clocks set back and forth", nothing},
	{"API server away for 3 s, `release`", 4 * time.Second},
	{"API server away for 3 s, `keep`", nothing},
	{"API server away for 6 s, `release`", 7 * time.Second},
	{"API server away for 6 s, `keep`", nothing},
	{"API server away for a minute, `release`", 61 * time.Second},
	{"API server away for a minute, `keep`", nothing},
	{"API server restarted, `release`", 7 * time.Second}, // it takes 3 to 5 s
}

var times struct {
	sync.Mutex
	of map[string][]time.Duration // by events
}

// measured takes down how long an event has left a client without service.
func measured(t *testing.T, name string, took time.Duration) {
	t.Helper()
	t.Logf("%-64s %5.2f s without service", name, took.Seconds())
	for _, e := range events {
		if e.name == name {
			times.Lock()
			if times.of == nil {
				times.of = map[string][]time.Duration{}
			}
			times.of[name] = append(times.of[name], took)
			times.Unlock()
			atMost(t, e.most, took)
			return
		}
	}
	assert.Fail(t, "no event: "+name)
}

// atMost requires that a time without service is what must be reached.
func atMost(t *testing.T, most, took time.Duration) {
	t.Helper()
	if !*strict {
		most *= 3
	}
	assert.Less(t, took, most)
}

// row is one of the table.
func (e event) row(measured string) string {
	most := "nothing"
	if e.most > nothing {
		most = fmt.Sprintf("%g s", e.most.Seconds())
	}
	return fmt.Sprintf("| %s | %s | %s |", e.name, most, measured)
}

// spanOf is what was measured, in words.
func spanOf(all []time.Duration) string {
	least, most := all[0], all[0]
	for _, d := range all {
		least, most = min(least, d), max(most, d)
	}
	a, b := fmt.Sprintf("%.1f", least.Seconds()), fmt.Sprintf("%.1f", most.Seconds())
	switch {
	case most <= nothing:
		return "nothing"
	case a == b:
		return a + " s"
	}
	return a + "–" + b + " s"
}

var (
	timesPage  = filepath.Join("..", "..", "docs", "failover.md")
	timesTable = regexp.MustCompile(`(?s)(<!-- times: [^\n]* -->\n)(.*?)(<!-- /times -->)`)
)

const timesHead = "| event | at most | without service |\n| --- | --- | --- |\n"

// loadTable is the one of what many clients saw.
var loadTable = regexp.MustCompile(`(?s)(<!-- load: [^\n]* -->\n)(.*?)(<!-- /load -->)`)

// writeTimes writes the tables. All events must have been measured, and the load.
func writeTimes() error {
	var load strings.Builder
	load.WriteString(loadHead)
	for _, r := range loadRows {
		load.WriteString(r.String() + "\n")
	}
	if len(loadRows) != 4 {
		return fmt.Errorf("the load was not measured")
	}
	var b strings.Builder
	b.WriteString(timesHead)
	for _, e := range events {
		all := times.of[e.name]
		if len(all) == 0 {
			return fmt.Errorf("not measured: %s", e.name)
		}
		b.WriteString(e.row(spanOf(all)) + "\n")
	}
	text, err := os.ReadFile(timesPage)
	if err != nil {
		return err
	}
	if !timesTable.Match(text) || !loadTable.Match(text) {
		return fmt.Errorf("%s has no table of times, or of the load", timesPage)
	}
	text = timesTable.ReplaceAll(text, []byte("${1}"+b.String()+"${3}"))
	return os.WriteFile(timesPage, loadTable.ReplaceAll(text, []byte("${1}"+load.String()+"${3}")), 0o644)
}

// The table of the documentation has events that are measured, in their order, and no time that is longer than
// what must be reached.
func TestTimesTable(t *testing.T) {
	if *updateTimes {
		t.Skip("it is about to be written")
	}
	text, err := os.ReadFile(timesPage)
	require.NoError(t, err)
	m := timesTable.FindSubmatch(text)
	require.NotNil(t, m)
	rows := strings.Split(strings.TrimSuffix(strings.TrimPrefix(string(m[2]), timesHead), "\n"), "\n")
	require.NotEmpty(t, rows[0])
	left := events
	for _, row := range rows {
		cells := strings.Split(row, " | ")
		require.Len(t, cells, 3, row)
		i := slices.IndexFunc(left, func(e event) bool { return "| "+e.name == cells[0] })
		require.GreaterOrEqual(t, i, 0, "no event, or not in their order: %s", row)
		e := left[i]
		left = left[i+1:]
		said := strings.TrimSuffix(cells[2], " |")
		assert.Equal(t, e.row(said), row)
		if said == "nothing" {
			continue
		}
		var most float64
		_, longest, ok := strings.Cut(said, "–")
		if !ok {
			longest = said
		}
		_, err := fmt.Sscanf(longest, "%g s", &most)
		assert.NoError(t, err, said)
		assert.LessOrEqual(t, most, e.most.Seconds(), row)
	}
	m = loadTable.FindSubmatch(text)
	require.NotNil(t, m)
	for row := range strings.Lines(strings.TrimPrefix(string(m[2]), loadHead)) {
		assert.True(t, strings.HasSuffix(row, "| 1000 | 0 |\n"), row)
	}
}
