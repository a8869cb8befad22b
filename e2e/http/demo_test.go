//go:build linux

package http

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The demo checks each of its calls by itself; it names network namespaces, so it
// takes root.
func TestDemo(t *testing.T) {
	ids, err := os.ReadFile("/proc/self/uid_map")
	require.NoError(t, err)
	if os.Geteuid() != 0 || !strings.Contains(string(ids), "4294967295") {
		t.Skip("the demo makes named network namespaces: run as root of the machine, not of a user namespace")
	}
	nettest.NewNetns(t, "probe") // skips where root may not make any
	for _, name := range []string{"bash", "ip", "python3", "openssl"} {
		nettest.Need(t, name)
	}
	before := leftovers(t)
	got := program.Command(t, nil, []string{"SLUICE=" + program.Racy(t)}, "bash", "../../deploy/demo.sh")
	require.Equal(t, 0, got.Status, got.Out+got.Err)
	assert.Contains(t, got.Out, "  www.example.com saw 198.51.100.50\n")
	assert.Contains(t, got.Out, "  www.example.com saw 2001:db8:1::50\n")
	assert.Contains(t, got.Out, "www.example.com had 3 requests, telemetry.example.com had 0.\n")
	assert.Contains(t, got.Out, "  deny  403  telemetry.example.com:443        line 5 !telemetry.example.com\n")

	failed := program.Command(t, nil, []string{"SLUICE=/bin/false"}, "bash", "../../deploy/demo.sh")
	assert.Equal(t, 1, failed.Status, failed.Out+failed.Err)
	assert.Equal(t, before, leftovers(t), "it cleans up after itself, also when it fails")
}

func leftovers(t testing.TB) string {
	t.Helper()
	return succeed(t, nil, "ip", "netns", "list")
}
