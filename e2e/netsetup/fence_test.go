//go:build linux

package netsetup

import (
	"maps"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The rules are flushed by somebody, or one of the tables is deleted: the addresses go with
// whatever is asked for next, the fence is there again, and so they can be held again.
func TestHoldFlushed(t *testing.T) {
	p := newPod(t)
	c := p.client()
	nft := nettest.Need(t, "nft")
	late := nonce()
	prepare := func() error { return c.Prepare(t.Context(), theGroup, nonce(), 20*time.Second) }
	commit := func() error { return c.Commit(t.Context(), theGroup, late, 20*time.Second, true) }
	for _, tt := range []struct {
		flush []string
		next  func() error
	}{
		{[]string{"flush", "ruleset"}, prepare},
		{[]string{"flush", "ruleset"}, commit},
		{[]string{"delete", "table", "inet", "sluice-hold-" + theGroup}, prepare},
		{[]string{"delete", "table", "netdev", "sluice-hold-" + theGroup}, commit},
		{[]string{"delete", "table", "arp", "sluice-hold-" + theGroup}, commit},
	} {
		c.hold(theGroup, 20*time.Second, false)
		require.Len(t, p.sources(), 2)
		late = nonce()
		require.NoError(t, c.Prepare(t.Context(), theGroup, late, 20*time.Second))
		in(t, p.Egress, func() { require.NoError(t, exec.Command(nft, tt.flush...).Run()) })
		_ = tt.next() // refused, unless the fence was looked at before
		nettest.Eventually(t, "the addresses are away", func() bool { return len(p.sources()) == 0 })
	}
	c.hold(theGroup, 20*time.Second, false)
	in(t, p.Egress, func() { require.NoError(t, exec.Command(nft, "flush", "ruleset").Run()) })
	require.NoError(t, c.LetGo(t.Context(), theGroup))
	require.Empty(t, p.sources())
	c.hold(theGroup, 20*time.Second, false)
	require.Contains(t, p.stderr.String(), "somebody has taken the fence away")
}

// Somebody takes a part of the fence away by which nothing that is asked for would fail: it is
// there again soon, though nobody asks, and what is held goes on.
func TestHoldFenceDamaged(t *testing.T) {
	p := newPod(t)
	p.serve()
	c := p.client()
	nft := nettest.Need(t, "nft")
	run := func(args ...string) string {
		t.Helper()
		var out []byte
		in(t, p.Egress, func() {
			var err error
			out, err = exec.Command(nft, args...).CombinedOutput()
			require.NoError(t, err, "%s: %s", args, out)
		})
		return string(out)
	}
	// is is how the fence is, by its chains and sets, but for what has a time or a number.
	is := func() map[string]string {
		blocks := map[string]string{}
		for _, family := range []string{"arp", "inet", "netdev"} {
			block := ""
			for line := range strings.Lines(run("--stateless", "list", "table", family, "sluice-hold-"+theGroup)) {
				if strings.HasSuffix(line, " {\n") {
					block = family + " " + strings.TrimSpace(line)
				}
				if !strings.Contains(line, "elements") || !strings.Contains(line, "timeout") {
					blocks[block] += strings.TrimSpace(line) + "\n"
				}
			}
			blocks[block] = strings.TrimSuffix(blocks[block], "}\n") // of the table
			for name, text := range blocks {
				blocks[name] = strings.TrimSpace(text)
			}
		}
		return blocks
	}
	c.hold(theGroup, 50*time.Second, false)
	whole := is()
	table := "sluice-hold-" + theGroup
	for i, damage := range [][]string{
		{"flush", "table", "arp", table},
		{"flush", "table", "inet", table},
		{"flush", "table", "netdev", table},
		{"flush", "chain", "inet", table, "postrouting"},
		{"flush", "set", "inet", table, "fenced6"},
		{"flush chain netdev " + table + " egress-macvlan0; delete chain netdev " + table + " egress-macvlan0"},
		{"insert", "rule", "arp", table, "output", "accept"},
	} {
		run(damage...)
		require.NotEqual(t, whole, is(), damage)
		nettest.Eventually(t, "the fence is whole", func() bool { return maps.Equal(is(), whole) })
		require.Len(t, p.sources(), 2, damage)
		require.NotZero(t, c.group(theGroup).Held, damage)
		if i%2 == 0 {
			c.hold(theGroup, 50*time.Second, true)
		}
	}
	v4, v6 := p.served()
	require.True(t, v4 && v6)

	// Fenced, with the addresses there, and nobody asks for anything.
	c.hold(theGroup, 300*time.Millisecond, true)
	require.Equal(t, theGroup, c.event(holding.Expired).Group)
	for _, family := range []string{"arp", "inet", "netdev"} {
		run("flush", "table", family, table)
	}
	nettest.Eventually(t, "nothing is let out", func() bool { return maps.Equal(is(), whole) })
	v4, v6 = p.served()
	require.False(t, v4 || v6)
	require.Len(t, p.sources(), 2)
	require.Contains(t, p.stderr.String(), `"what":"set fenced6 of table inet"`)
}
