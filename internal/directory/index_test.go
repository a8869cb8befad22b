package directory

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(texts ...string) (all []netip.Addr) {
	for _, s := range texts {
		all = append(all, ip(s))
	}
	return all
}

func pod(ns, name, uid string) Pod {
	return Pod{Namespace: ns, ServiceAccount: "default", Name: name, UID: uid}
}

// at is NAMESPACE/NAME of the pod with an address, or "".
func at(lookup func(netip.Addr) (Pod, bool), addr string) string {
	p, ok := lookup(ip(addr))
	if !ok {
		return ""
	}
	return p.Namespace + "/" + p.Name
}

func TestTwoLivingPodsOnOneAddressAreUnknown(t *testing.T) {
	x := NewIndex()
	x.Put(pod("shop", "a", "1"), addrs("10.0.0.1"))
	x.Put(pod("ci", "b", "2"), addrs("10.0.0.1", "fd00::2"))
	assert.Empty(t, at(x.Lookup, "10.0.0.1"))
	assert.Equal(t, "ci/b", at(x.Lookup, "fd00::2"), "the address that is not disputed")
	x.Put(pod("x", "c", "3"), addrs("10.0.0.1"))
	x.Remove("1")
	assert.Empty(t, at(x.Lookup, "10.0.0.1"), "two are left")
	x.Remove("3")
	assert.Equal(t, "ci/b", at(x.Lookup, "10.0.0.1"))
}

func TestAddressOfWhoLivesNoMore(t *testing.T) {
	x := NewIndex()
	x.Put(pod("shop", "done", "1"), addrs("10.0.0.1"))
	x.Put(pod("shop", "done", "1"), nil) // completed
	x.Put(pod("ci", "b", "2"), addrs("10.0.0.1"))
	assert.Equal(t, "ci/b", at(x.Lookup, "10.0.0.1"))
	pods, disputed := x.Counts()
	assert.Equal(t, []int{1, 0}, []int{pods, disputed})
}

func TestAddressForms(t *testing.T) {
	x := NewIndex()
	x.Put(pod("shop", "a", "1"), addrs("::ffff:10.0.0.1", "10.0.0.1"))
	assert.Equal(t, "shop/a", at(x.Lookup, "10.0.0.1"))
	assert.Equal(t, "shop/a", at(x.Lookup, "::ffff:10.0.0.1"))
}

func TestTooManyLabels(t *testing.T) {
	x := NewIndex()
	p := pod("shop", "a", "1")
	require.True(t, x.Put(p, addrs("10.0.0.1")))
	p.Labels = Labels(make([]byte, maxLabels+1))
	require.False(t, x.Put(p, addrs("10.0.0.1")))
	assert.Empty(t, at(x.Lookup, "10.0.0.1"))
	require.False(t, x.Put(pod("shop", "a", ""), addrs("10.0.0.1")), "without a UID")
}

func TestLabels(t *testing.T) {
	l := LabelsOf(map[string]string{"b": "2", "app": "shop", "empty": ""})
	assert.EqualValues(t, "app=shop,b=2,empty=", l)
	for key, want := range map[string]string{"app": "shop", "b": "2", "empty": ""} {
		v, ok := l.Get(key)
		assert.True(t, ok, key)
		assert.Equal(t, want, v, key)
	}
	for _, key := range []string{"", "ap", "app=shop", "2"} {
		_, ok := l.Get(key)
		assert.False(t, ok, key)
	}
	assert.Empty(t, LabelsOf(nil))
}

// Whatever happens to pods, an address is of the one living pod that has it, and who
// follows the changes knows the same as who asks.
func TestIndexModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := NewIndex()
		model := map[string][]netip.Addr{}
		table := &Table{}
		_, changes := x.subscribe()
		uid := rapid.SampledFrom([]string{"1", "2", "3", "4"})
		some := rapid.SliceOfNDistinct(rapid.SampledFrom(addrs("10.0.0.1", "10.0.0.2", "fd00::1")), 0, 3, rapid.ID)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			u := uid.Draw(t, "uid")
			if rapid.Bool().Draw(t, "remove") {
				x.Remove(u)
				delete(model, u)
			} else {
				as := some.Draw(t, "addrs")
				x.Put(pod("ns", "pod", u), as)
				model[u] = as
			}
		}
		cs, all := changes.take()
		require.True(t, all)
		for _, c := range cs {
			table = table.with(c.addr, c.pod)
		}
		for _, a := range addrs("10.0.0.1", "10.0.0.2", "fd00::1") {
			var of []string
			for u, as := range model {
				for _, b := range as {
					if a == b {
						of = append(of, u)
					}
				}
			}
			for who, lookup := range map[string]func(netip.Addr) (Pod, bool){"index": x.Lookup, "table": table.Lookup} {
				p, ok := lookup(a)
				require.Equal(t, len(of) == 1, ok, "%s: %s of %v", who, a, of)
				if ok {
					require.Equal(t, of[0], p.UID, who)
				}
			}
		}
	})
}
