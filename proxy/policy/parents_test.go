package policy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

func parentAt(t testing.TB, url, login string) *Parent {
	t.Helper()
	host, err := acl.ParseHost("p.test")
	require.NoError(t, err)
	return NewParent(url, host, 1, nil, "", login)
}

// The first entry that the name or an allowed address is for is the one, and only the addresses
// that it is for stay; an entry by name is for names alone, and nothing is looked up for it.
func TestWays(t *testing.T) {
	t.Parallel()
	a, b, c, d := parentAt(t, "http://a:1", ""), parentAt(t, "http://b:1", ""), parentAt(t, "http://c:1", ""), parentAt(t, "http://d:1", "")
	p, err := NewParents([]Way{
		{For: []string{"10.0.0.0/8", "*.a.test"}, Via: []*Parent{a}},
		{For: []string{"here.test", "192.0.2.0/24"}, Via: []*Parent{{Direct: true}}},
		{For: []string{"*.name.test", "172.16.0.0/12"}, Via: []*Parent{b}, ByName: true},
		{For: []string{"172.16.0.0/12:443", "x.name.test"}, Via: []*Parent{c}},
		{For: []string{"*:8443"}, Via: []*Parent{d}},
	})
	require.NoError(t, err)
	for _, tt := range []struct {
		want   string // the parent; "" direct
		target string
		addrs  string
		kept   string
	}{
		{"http://a:1", "x.a.test:443", "203.0.113.1 10.0.0.1", "203.0.113.1 10.0.0.1"},
		{"http://a:1", "y.test:443", "203.0.113.1 10.0.0.1", "10.0.0.1"},
		{"", "here.test:443", "203.0.113.1", "203.0.113.1"},
		{"http://a:1", "here.test:443", "203.0.113.1 10.0.0.1", "10.0.0.1"},
		{"", "y.test:443", "192.0.2.1 172.16.0.1", "192.0.2.1"},
		{"http://c:1", "y.test:443", "172.16.0.1", "172.16.0.1"}, // not by name: nobody asked for that
		{"http://b:1", "172.16.0.1:443", "172.16.0.1", "172.16.0.1"},
		{"http://d:1", "y.test:8443", "172.16.0.1", "172.16.0.1"},
		{"", "y.test:443", "203.0.113.1", "203.0.113.1"},
		{"http://a:1", "10.1.1.1:22", "10.1.1.1", "10.1.1.1"},
	} {
		target, err := acl.ParseTarget(tt.target)
		require.NoError(t, err)
		assert.Nil(t, p.ByName(target), tt.target)
		w, kept := p.Of(target, addrsOf(t, tt.addrs))
		assert.Equal(t, addrsOf(t, tt.kept), kept, "%s at %s", tt.target, tt.addrs)
		if tt.want == "" {
			assert.Nil(t, w, "%s at %s", tt.target, tt.addrs)
		} else if assert.NotNil(t, w, "%s at %s", tt.target, tt.addrs) {
			assert.Equal(t, tt.want, w.Via[0].URL, "%s at %s", tt.target, tt.addrs)
		}
	}
	target, _ := acl.ParseTarget("x.name.test:443")
	assert.True(t, p.ByName(target).ByName)
	assert.Nil(t, (*Parents)(nil).ByName(target))
}

func addrsOf(t testing.TB, s string) (all []netip.Addr) {
	t.Helper()
	for _, w := range strings.Fields(s) {
		all = append(all, netip.MustParseAddr(w))
	}
	return all
}

// Health is of a parent of a tenant, wherever it stands, and lives through reloads.
func TestHealthStays(t *testing.T) {
	t.Parallel()
	made := func() *Parents {
		p, err := NewParents([]Way{{For: []string{"a.test"}, Via: []*Parent{parentAt(t, "http://a:1", "x")}}, {Via: []*Parent{parentAt(t, "http://a:1", "y"), parentAt(t, "http://b:1", ""), {Direct: true}}}})
		require.NoError(t, err)
		return p
	}
	p, q := made(), made()
	p.All()[0].Via[0].Health.Ended(Unreachable)
	assert.False(t, p.All()[1].Via[0].Health.Up())
	assert.True(t, p.All()[1].Via[1].Health.Up())
	q.Keep(p)
	assert.False(t, q.All()[1].Via[0].Health.Up())
	n := 0
	q.Each(func(*Parent) { n++ })
	assert.Equal(t, 2, n)
	h := q.All()[0].Via[0].Health
	assert.False(t, h.Try())
	h.down.Store(1) // its time is over
	assert.True(t, h.Try())
	assert.False(t, h.Try(), "one request finds out")
	h.Ended(Opened)
	assert.True(t, h.Try())
	assert.True(t, h.Up())
	assert.NotEqual(t, p.All()[0].Via[0].Key(), p.All()[1].Via[0].Key())
}

// The hash says by whom requests go, and not with what.
func TestHashOfParents(t *testing.T) {
	t.Parallel()
	hash := func(ways ...Way) string {
		p, err := NewParents(ways)
		require.NoError(t, err)
		s := Set{Rest: Tenant{Parents: p}}
		return s.Hash()
	}
	base := hash(Way{For: []string{"A.test"}, Via: []*Parent{parentAt(t, "http://a:1", "x")}})
	assert.Equal(t, base, hash(Way{For: []string{"a.test"}, Via: []*Parent{parentAt(t, "http://a:1", "y")}}))
	assert.NotEqual(t, base, hash(Way{For: []string{"a.test"}, Via: []*Parent{parentAt(t, "http://a:1", "x")}, ByName: true}))
	assert.NotEqual(t, base, hash(Way{For: []string{"a.test"}, Via: []*Parent{parentAt(t, "http://b:1", "x")}}))
	assert.NotEqual(t, base, hash(Way{For: []string{"a.test:443"}, Via: []*Parent{parentAt(t, "http://a:1", "x")}}))
	assert.NotEqual(t, base, (&Set{}).Hash())
}
