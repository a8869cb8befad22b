package acl_test

import (
	"encoding/csv"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
)

// registered is a row of a special-purpose registry.
type registered struct {
	block     netip.Prefix
	name      string
	reachable string // "True", "False", "N/A"
}

func registry(t *testing.T) (rows []registered) {
	t.Helper()
	for _, file := range []string{"testdata/iana-ipv4-special.csv", "testdata/iana-ipv6-special.csv"} {
		f, err := os.Open(file)
		require.NoError(t, err)
		defer f.Close()
		r := csv.NewReader(f)
		r.Comment, r.FieldsPerRecord = '#', 4
		all, err := r.ReadAll()
		require.NoError(t, err)
		for _, row := range all {
			require.Contains(t, row[2], "RFC")
			rows = append(rows, registered{netip.MustParsePrefix(row[0]), row[1], row[3]})
		}
	}
	return rows
}

// The strict guard is what the IANA registries say, the smallest block having the last
// word, and what the standard guard adds: multicast, site-local, metadata, and what
// addresses embed.
func TestStrictGuardIsTheRegistries(t *testing.T) {
	rows := registry(t)
	added := []netip.Prefix{
		netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fec0::/10"),
		netip.MustParsePrefix("168.63.129.16/32"),
	}
	reachable := func(a netip.Addr) bool {
		yes, bits := true, -1
		for _, r := range rows {
			// N/A says nothing: the block around has the word.
			if r.block.Contains(a) && r.block.Bits() > bits && r.reachable != "N/A" {
				yes, bits = r.reachable == "True", r.block.Bits()
			}
		}
		for _, p := range added {
			yes = yes && !p.Contains(a)
		}
		return yes
	}
	p := parse(t, "*").WithGuard(acl.Guard{Mode: acl.GuardStrict})
	seen := 0
	for _, r := range rows {
		for _, a := range acltest.Ends(r.block) {
			if !a.IsValid() || a.Is4In6() {
				continue
			}
			want := reachable(a)
			switch {
			case netip.MustParsePrefix("64:ff9b::/96").Contains(a), netip.MustParsePrefix("2002::/16").Contains(a),
				netip.MustParsePrefix("::/96").Contains(a):
				want = false // each end embeds 0.0.0.0, or 255.255.255.255, or stands next to loopback
			}
			d := p.DecideAddr(acl.Target{Host: acl.HostFromAddr(a), Port: 443}, a)
			require.Equal(t, want, d.Verdict == acl.Allow, "%v, an end of %v %s: %s", a, r.block, r.name, d.Reason())
			seen++
		}
	}
	require.Greater(t, seen, 150)
	for _, s := range []string{"64:ff9b::808:808", "2002:808:808::1", "8.8.8.8", "2606:4700::1111"} {
		a := netip.MustParseAddr(s)
		require.Equal(t, acl.Allow, p.DecideAddr(acl.Target{Host: acl.HostFromAddr(a), Port: 443}, a).Verdict, s)
	}
}
