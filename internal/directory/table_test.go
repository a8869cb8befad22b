package directory

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
)

// many is a table with n pods, 250 a namespace.
func many(n int) *Table {
	t := &Table{}
	for i := range n {
		p := Pod{Namespace: fmt.Sprintf("namespace-%d", i/250), ServiceAccount: "default", Name: fmt.Sprintf("deployment-%d-5d8f7c9b6d-%05d", i/10, i),
			UID: fmt.Sprintf("0e9f2f5a-3a64-4b1d-9d7e-%012d", i), Labels: Labels(fmt.Sprintf("app=deployment-%d,pod-template-hash=5d8f7c9b6d", i/10))}.Interned()
		t.set(nth(i), &p)
	}
	return t
}

func nth(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 128 + byte(i>>16), byte(i >> 8), byte(i)})
}

func TestTableIsNotChanged(t *testing.T) {
	p := pod("shop", "a", "1")
	before := (*Table)(&Table{}).with(ip("10.0.0.1"), &p)
	after := before.with(ip("10.0.0.1"), nil).with(ip("fd00::1"), &p)
	assert.Equal(t, "shop/a", at(before.Lookup, "10.0.0.1"))
	assert.Equal(t, "shop/a", at(before.Lookup, "::ffff:10.0.0.1"))
	assert.Empty(t, at(before.Lookup, "fd00::1"))
	assert.Empty(t, at(after.Lookup, "10.0.0.1"))
	assert.Equal(t, "shop/a", at(after.Lookup, "fd00::1"))
	assert.Equal(t, 1, after.Len())
	var none *Table
	assert.Empty(t, at(none.Lookup, "10.0.0.1"))
	assert.Zero(t, none.Len())
	_, ok := before.Lookup(netip.Addr{})
	assert.False(t, ok)
}

func TestAllocLookup(t *testing.T) {
	c := NewClient(Options{})
	c.table.Store(many(1000))
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if p, ok := c.Lookup(nth(7)); !ok || p.Namespace == "" {
			t.Error("not there")
		}
		c.Lookup(ip("fd00::1"))
	}))
}

func BenchmarkLookup(b *testing.B) {
	c := NewClient(Options{})
	c.table.Store(many(100_000))
	for _, bb := range []struct {
		name string
		addr func(i int) netip.Addr
	}{
		{"Hit", func(i int) netip.Addr { return nth(i * 7919 % 100_000) }},
		{"Miss", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.Lookup(bb.addr(i))
			}
		})
	}
}

// BenchmarkChange is one pod that comes and goes in a table of 100,000.
func BenchmarkChange(b *testing.B) {
	table := many(100_000)
	p := pod("shop", "a", "1")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.with(nth(i%100_000), &p)
	}
}

// BenchmarkMemory reports what a table of pods holds.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				t := many(n)
				b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
				runtime.KeepAlive(t)
			}
		})
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
