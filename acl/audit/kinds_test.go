package audit_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
	"github.com/sluiceproxy/sluice/acl/audit/audittest"
)

// Whatever two policies decide differently about an address, they decide about one of the kinds, both.
func TestKindsJudgedByReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := audittest.DrawSubject(t), audittest.DrawSubject(t)
		port := acltest.Port().Draw(t, "port")
		name := acltest.Name().Draw(t, "name")
		type pair struct{ a, b acltest.Answer }
		got := map[pair]netip.Addr{}
		for k := range acl.Kinds(a.Policy, b.Policy) {
			require.False(t, k.Is4In6())
			got[pair{a.Ref.DecideAddr(name, port, k), b.Ref.DecideAddr(name, port, k)}] = k
		}
		for _, x := range append(append(a.Ref.Where(), b.Ref.Where()...), rapid.SliceOfN(acltest.Addr(), 1, 50).Draw(t, "addrs")...) {
			want := pair{a.Ref.DecideAddr(name, port, x), b.Ref.DecideAddr(name, port, x)}
			if want.a.Verdict != want.b.Verdict {
				_, ok := got[want]
				require.True(t, ok, "%s: %+v", x, want)
			}
		}
	})
}
