package deploy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// migrated are the pods of docs/migrate.md: as they were, and as they become.
func migrated(t *testing.T) (before, after []object) {
	t.Helper()
	text, err := os.ReadFile("../docs/migrate.md")
	require.NoError(t, err)
	blocks := strings.Split(string(text), "```diff\n")[1:]
	require.Len(t, blocks, 4)
	side := func(block, not string) object {
		var lines []string
		for line := range strings.Lines(block) {
			if !strings.HasPrefix(line, not) {
				lines = append(lines, line[1:])
			}
		}
		return decode(t, []byte(strings.Join(lines, "")))[0]
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		before = append(before, side(block, "+"))
		after = append(after, side(block, "-"))
	}
	return before, after
}

// TestMigration: what the page shows are pods, and those with the new image are
// understood by its programs, chosen as the entry point chooses.
func TestMigration(t *testing.T) {
	before, after := migrated(t)
	for _, o := range append(slices.Clone(before), after...) {
		require.Empty(t, judge(o))
	}
	var commands []string
	for _, o := range after {
		p := pod{set: "docs/migrate.md", owner: o, spec: o.object("spec")}
		for _, c := range append(p.spec.list("initContainers"), p.spec.list("containers")...) {
			if c.text("image") != "localhost/sluice:dev" {
				continue
			}
			command := commandFor(p.environ(t, c))
			commands = append(commands, command)
			checkSettings(t, p, c, []string{command})
		}
	}
	require.Equal(t, []string{"/sluice-netsetup", "proxy", "/sluice-netsetup", "tcp", "/sluice-netsetup", "tcp"}, commands)
}

// commandFor is what the image runs without a command.
func commandFor(environ []string) string {
	for _, m := range []struct{ variable, command string }{
		{"EGRESS_ROUTER_MODE", "/sluice-netsetup"}, {"EGRESS_HTTP_PROXY_DESTINATION", "proxy"},
		{"EGRESS_DNS_PROXY_DESTINATION", "tcp"}, {"SERVICE_DEST", "tcp"},
	} {
		if slices.ContainsFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, m.variable+"=") }) {
			return m.command
		}
	}
	return ""
}

// TestCommunityImageIsNamed: the page says for each variable of the community image,
// its exporter and its template what takes its place.
func TestCommunityImageIsNamed(t *testing.T) {
	text, err := os.ReadFile("../docs/migrate.md")
	require.NoError(t, err)
	_, page, ok := strings.Cut(string(text), "\n## The community haproxy image\n")
	require.True(t, ok)
	page, _, _ = strings.Cut(page, "\n## ")
	for _, word := range []string{"SERVICE_NAME", "SERVICE_TCP_PORT", "SERVICE_DEST", "SERVICE_DEST_PORT", "STATS_PORT", "STATS_USER", "STATS_PASSWORD",
		"SYSLOG_ADDRESS", "LOGLEVEL", "DEBUG", "TZ", "DNS_SRV001", "DNS_SRV002", "CONFIG_FILE", "MOD_HEADERS", "haproxy_exporter", "server_lines", "add_headers"} {
		require.Contains(t, page, word)
	}
	metrics, err := os.ReadFile("../metrics/README.md")
	require.NoError(t, err)
	for _, successor := range []string{"sluice_tcp_up", "sluice_tcp_sessions", "sluice_tcp_sent_bytes_total", "sluice_tcp_received_bytes_total"} {
		require.Contains(t, page, "`"+successor+"`")
		require.Contains(t, string(metrics), "`"+successor+"`")
	}
}
