package audit_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
)

// Lines that stand in a list again and again are told of one by one, each by the first, and in a time that grows
// with their number and no faster.
func TestLintOfLinesAlike(t *testing.T) {
	const n = 30_000
	for _, line := range []string{"a.test", "*.example.com:443", "a*.example.com", "!10.0.0.0/8", "127.0.0.1"} {
		lines := make([]string, n)
		for i := range lines {
			lines[i] = line
		}
		r := audit.Lint(parse(t, lines), audit.LintOptions{})
		require.True(t, r.Complete(), "%s: %s", line, r.Why)
		dead := 0
		for _, f := range r.Findings {
			if f.Kind == audit.NeverDecides {
				dead++
				require.Len(t, f.Lines, 1)
				require.Equal(t, 1, f.Lines[0].Pos)
				require.NotEqual(t, 1, f.Rule.Pos)
			}
		}
		require.Equal(t, n-1, dead, line)
	}
}

// Literals inside of what an earlier line allows are many where somebody wrote an inventory down; each may lift the
// guard, and that is asked of each.
func TestLintOfLiteralsInARange(t *testing.T) {
	for _, prefix := range []string{"127.0.0.0/8", "10.0.0.0/8"} {
		lines := []string{prefix}
		base := netip.MustParsePrefix(prefix).Addr().As4()[0]
		for i := range 5000 {
			lines = append(lines, fmt.Sprintf("%d.%d.0.%d", base, i/250, 1+i%250))
		}
		r := audit.Lint(parse(t, lines), audit.LintOptions{})
		require.True(t, r.Complete(), "%s: %s", prefix, r.Why)
		dead := 0
		for _, f := range r.Findings {
			if f.Kind == audit.NeverDecides {
				dead++
				const lifts = "it still lifts the guard"
				if base == 127 { // where the first line does, and own addresses are not asked about
					require.NotContains(t, f.Msg, lifts)
				} else {
					require.Contains(t, f.Msg, lifts)
				}
			}
		}
		require.Equal(t, 5000, dead)
	}
}

func TestLiftsAsMuch(t *testing.T) {
	for _, tt := range []struct {
		q, r string
		want bool
	}{
		{"127.0.0.0/8", "127.0.0.1/32", true},
		{"127.0.0.0/8", "127.1.0.0/16", true},
		{"126.0.0.0/7", "127.0.0.1/32", false}, // wider than what is guarded
		{"10.0.0.0/8", "10.1.0.0/16", true},
		{"10.0.0.0/8", "10.1.0.1/32", false}, // which may be the host's own
		{"100.64.0.0/10", "100.100.100.200/32", false},
		{"100.64.0.0/10", "100.100.0.0/16", true}, // neither lifts it from what is in it
		{"fe80::/10", "fe80::1/128", false},       // not plain
		{"fe80::1/128", "fe80::1/128", true},
		{"127.0.0.1/32", "127.0.0.0/8", false},
	} {
		require.Equal(t, tt.want, acl.LiftsAsMuch(netip.MustParsePrefix(tt.q), netip.MustParsePrefix(tt.r)), "%s for %s", tt.q, tt.r)
	}
}
