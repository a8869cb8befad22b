package policy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/proxy/auth"
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// The first tenant that names a client takes it, however wide what it names is.
func TestFirstTakes(t *testing.T) {
	wide, narrow := Taker{Tenant: Tenant{Name: "wide"}, Clients: prefixes("10.0.0.0/8", "2001:db8::/32")}, Taker{Tenant: Tenant{Name: "narrow"}, Clients: prefixes("10.1.2.3/32", "10.1.0.0/16")}
	rest := Tenant{Name: DefaultName}
	for _, test := range []struct {
		want   string
		order  []Taker
		client string
	}{
		{"wide", []Taker{wide, narrow}, "10.1.2.3"},
		{"narrow", []Taker{narrow, wide}, "10.1.2.3"},
		{"narrow", []Taker{narrow, wide}, "10.1.9.9"},
		{"wide", []Taker{narrow, wide}, "10.2.0.0"},
		{"wide", []Taker{narrow, wide}, "2001:db8::1"},
		{"default", []Taker{narrow, wide}, "192.0.2.1"},
		{"default", nil, "10.1.2.3"},
	} {
		g := Set{Rest: rest, Tenants: test.order}.Generation()
		assert.Equal(t, test.want, g.Tenant(netip.MustParseAddr(test.client)).Name, "%s of %v", test.client, test.order)
		assert.Equal(t, test.want, g.Named(test.want).Name)
	}
	assert.Equal(t, DefaultName, Set{Rest: rest, Tenants: []Taker{wide}}.Generation().Named("").Name)
	gone := Set{Rest: rest, Tenants: []Taker{wide}}.Generation().Named("narrow")
	assert.Nil(t, gone.Rules, "nobody, whom everything is denied")
	assert.Same(t, &nobody, gone)
}

// Who shows something is taken by the first tenant that names it, or its address.
func TestShown(t *testing.T) {
	sel := func(user string) []auth.Selector {
		s, err := auth.ParseSelector(auth.ByUser, user)
		assert.NoError(t, err)
		return []auth.Selector{s}
	}
	byAddr := Taker{Tenant: Tenant{Name: "addr"}, Clients: prefixes("10.0.0.0/8")}
	byUser := Taker{Tenant: Tenant{Name: "user"}, Shown: sel("deploy")}
	again := Taker{Tenant: Tenant{Name: "again"}, Shown: sel("deploy")}
	for _, test := range []struct {
		want   string
		order  []Taker
		client string
		id     *auth.Identity
	}{
		{"user", []Taker{byUser, byAddr}, "10.0.0.1", auth.NewUser("deploy")},
		{"addr", []Taker{byAddr, byUser}, "10.0.0.1", auth.NewUser("deploy")},
		{"user", []Taker{byAddr, byUser, again}, "192.0.2.1", auth.NewUser("deploy")},
		{"again", []Taker{byAddr, again, byUser}, "192.0.2.1", auth.NewUser("deploy")},
		{"addr", []Taker{byUser, byAddr}, "10.0.0.1", auth.NewUser("other")},
		{"addr", []Taker{byUser, byAddr}, "10.0.0.1", nil},
		{"", []Taker{byUser, byAddr}, "192.0.2.1", nil},
	} {
		g := Set{Tenants: test.order}.Generation()
		assert.Equal(t, test.want, g.TenantOf(netip.MustParseAddr(test.client), Pod{}, test.id).Name, "%v", test)
	}
}

// Whose address is a pod's is taken by the first tenant that names its namespace, its service
// account or the address.
func TestPods(t *testing.T) {
	namespace := Taker{Tenant: Tenant{Name: "namespace"}, Pods: []PodSelector{{"shop", ""}}}
	account := Taker{Tenant: Tenant{Name: "account"}, Pods: []PodSelector{{"shop", "builder"}, {"ci", "builder"}}}
	addr := Taker{Tenant: Tenant{Name: "addr"}, Clients: prefixes("10.0.0.0/8")}
	for _, test := range []struct {
		want  string
		order []Taker
		pod   Pod
	}{
		{"namespace", []Taker{namespace, account, addr}, Pod{"shop", "builder", "p"}},
		{"account", []Taker{account, namespace, addr}, Pod{"shop", "builder", "p"}},
		{"namespace", []Taker{account, namespace, addr}, Pod{"shop", "other", "p"}},
		{"account", []Taker{namespace, account, addr}, Pod{"ci", "builder", "p"}},
		{"addr", []Taker{namespace, account, addr}, Pod{"ci", "other", "p"}},
		{"addr", []Taker{addr, namespace, account}, Pod{"shop", "builder", "p"}},
		{"addr", []Taker{namespace, account, addr}, Pod{}},
		{"", []Taker{namespace, account}, Pod{}},
	} {
		g := Set{Tenants: test.order}.Generation()
		assert.Equal(t, test.want, g.TenantOf(netip.MustParseAddr("10.0.0.1"), test.pod, nil).Name, "%v", test)
		assert.True(t, g.ByPod())
	}
}

// The table answers as going through the list does.
func TestTenantOfIsTheFirstOfTheList(t *testing.T) {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 3).Draw(t, "c")), byte(rapid.IntRange(0, 255).Draw(t, "d"))})
	})
	rapid.Check(t, func(t *rapid.T) {
		var s Set
		for i := range rapid.IntRange(0, 6).Draw(t, "tenants") {
			k := Taker{Tenant: Tenant{Name: fmt.Sprint(i)}}
			for range rapid.IntRange(1, 4).Draw(t, "prefixes") {
				k.Clients = append(k.Clients, netip.PrefixFrom(addr.Draw(t, "addr"), rapid.IntRange(20, 32).Draw(t, "bits")))
			}
			s.Tenants = append(s.Tenants, k)
		}
		g := s.Generation()
		for range 20 {
			a, want := addr.Draw(t, "client"), ""
			for i := len(s.Tenants) - 1; i >= 0; i-- {
				for _, p := range s.Tenants[i].Clients {
					if p.Contains(a) {
						want = s.Tenants[i].Name
					}
				}
			}
			assert.Equal(t, want, g.Tenant(a).Name, "%v", a)
		}
	})
}

func TestOwn(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("::1")}
	g := Set{Own: own}.Generation()
	for addr, want := range map[string]bool{"10.0.0.3": true, "127.0.0.1": false, "::1": false, "10.0.0.4": false} {
		assert.Equal(t, want, g.Own(netip.MustParseAddr(addr)), addr)
	}
	assert.False(t, (*Generation)(nil).Own(own[1]))
	assert.False(t, g.Own(netip.Addr{}))
}

// A burst at once, then the average rate; who has to wait is told for how long.
func TestRate(t *testing.T) {
	var u Usage
	l := Limits{RequestsPerSecond: 0.001, Burst: 3}
	for range 3 {
		_, ok := u.Request(&l)
		assert.True(t, ok)
	}
	wait, ok := u.Request(&l)
	assert.False(t, ok)
	assert.InDelta(t, 1000, wait.Seconds(), 100)
	assert.Equal(t, int64(1), u.OverRate.Load())
	u.due.Add(-int64(1001 * time.Second))
	_, ok = u.Request(&l)
	assert.True(t, ok, "one is due again")
	_, ok = u.Request(&l)
	assert.False(t, ok, "and one only")

	var free Usage
	for range 1000 {
		_, ok := free.Request(&Limits{})
		assert.True(t, ok)
	}
	var second Usage // without a burst: those of a second at once
	n := 0
	for range 100 {
		if _, ok := second.Request(&Limits{RequestsPerSecond: 0.5}); ok {
			n++
		}
	}
	assert.Equal(t, 1, n)
}

func TestHold(t *testing.T) {
	var u Usage
	l := Limits{Connections: 2}
	assert.True(t, u.Hold(&l))
	assert.True(t, u.Hold(&l))
	assert.False(t, u.Hold(&l))
	assert.Equal(t, []int64{2, 1}, []int64{u.Open(), u.OverConnections.Load()})
	u.Release()
	assert.True(t, u.Hold(&l))
	assert.True(t, new(Usage).Hold(&Limits{}), "no limit")
}

// A thousand tenants cost a look-up, and no allocation.
func BenchmarkTenant(b *testing.B) {
	for _, n := range []int{0, 1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s Set
			for i := range n {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
				s.Tenants = append(s.Tenants, Taker{Clients: []netip.Prefix{p}})
			}
			g, client := s.Generation(), netip.MustParseAddr("10.0.0.7")
			b.ReportAllocs()
			for b.Loop() {
				g.Tenant(client)
			}
		})
	}
}
