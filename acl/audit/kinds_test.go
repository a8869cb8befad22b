package audit_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
)

// Whatever two policies decide differently about an address, they decide about one of the kinds, both.
func TestKindsJudgedByReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSubject(t), drawSubject(t)
		port := acltest.Port().Draw(t, "port")
		name := acltest.Name().Draw(t, "name")
		type pair struct{ a, b acltest.Answer }
		got := map[pair]netip.Addr{}
		for k := range acl.Kinds(a.p, b.p) {
			require.False(t, k.Is4In6())
			got[pair{a.ref.DecideAddr(name, port, k), b.ref.DecideAddr(name, port, k)}] = k
		}
		for _, x := range append(append(a.ref.Where(), b.ref.Where()...), rapid.SliceOfN(acltest.Addr(), 1, 50).Draw(t, "addrs")...) {
			want := pair{a.ref.DecideAddr(name, port, x), b.ref.DecideAddr(name, port, x)}
			if want.a.Verdict != want.b.Verdict {
				_, ok := got[want]
				require.True(t, ok, "%s: %+v", x, want)
			}
		}
	})
}
