package netsetup

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
)

var someCounters = []Counter{
	{false, chainPrerouting, "80 tcp 192.0.2.34", 7, 420},
	{false, chainPostrouting, "source 192.0.2.10 by macvlan0", 7, 420},
	{false, chainForward, "redirected", 1000, 500000},
	{false, chainForward, "refused", 1, 60},
	{true, chainPrerouting, "2001:db8::34", 2, 160},
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, WriteMetrics(&b, someCounters, true))
	golden(t, "metrics.prom", b.String())
	problems, err := promlint.New(&b).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	b.Reset()
	require.NoError(t, WriteCounters(&b, someCounters))
	golden(t, "counters.txt", b.String())
}

func TestMetricsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "sluice.prom")
	for _, reloaded := range []bool{true, false} {
		require.NoError(t, WriteMetricsFile(path, nil, reloaded))
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), "sluice_redirect_last_reload_successful 0\n")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1, "no temporary file is left")
	require.ErrorContains(t, WriteMetricsFile(filepath.Join(dir, "none", "x"), nil, true), "write metrics: ")
}
