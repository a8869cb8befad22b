package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	events "k8s.io/client-go/tools/record"

	"github.com/sluiceproxy/sluice/internal/hold"
	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/metrics"
)

// Whatever happens to a group has words of its own in the log and a metric, and but for what
// comes often an Event on the pod. Who else it was is said where that is known.
func TestNotes(t *testing.T) {
	reasons := map[string]bool{}
	often := []hold.NoteKind{hold.Late, hold.Keeping, hold.NoGateway, hold.InterfaceDown}
	for kind := hold.Took; kind.String() != "?"; kind++ {
		w, ok := words[kind]
		require.True(t, ok, kind)
		require.False(t, reasons[w.reason], w.reason)
		reasons[w.reason] = true
		reg := prometheus.NewRegistry()
		var out bytes.Buffer
		recorder := events.NewFakeRecorder(1)
		n := &notes{log: slog.New(slog.NewJSONHandler(&out, nil)), events: recorder, pod: &corev1.Pod{}}
		n.metrics = metrics.NewHold(reg, n.held)
		g := group{holding.Group{Name: "192-0-2-10", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.10")}}, "sluice"}
		n.say(g, hold.Note{Kind: kind, Who: "02:00:00:00:00:07"})

		var line struct{ Level, Msg, Group, Who string }
		require.NoError(t, json.Unmarshal(out.Bytes(), &line))
		assert.Equal(t, w.message, line.Msg)
		assert.Equal(t, map[bool]string{true: "WARN", false: "INFO"}[w.warning], line.Level)
		assert.Equal(t, []string{"192-0-2-10", "02:00:00:00:00:07"}, []string{line.Group, line.Who})
		count, err := testutil.GatherAndCount(reg, "sluice_hold_events_total")
		require.NoError(t, err)
		assert.Equal(t, 1, count)
		if slices.Contains(often, kind) {
			assert.Empty(t, recorder.Events, kind)
			continue
		}
		require.Len(t, recorder.Events, 1, kind)
		want := map[bool]string{true: "Warning ", false: "Normal "}[w.warning] + w.reason + " group 192-0-2-10: " + w.message + " (02:00:00:00:00:07)"
		assert.Equal(t, want, <-recorder.Events)
	}
}
