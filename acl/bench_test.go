package acl_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/acl"
)

// list writes n rules: 70 % host names, 15 % domains, 15 % CIDRs, of which one
// in three is IPv6. Every tenth denies. Rule i is told by mixed(i), so that the
// first and last of each kind can be asked for.
func list(n int) string {
	var b strings.Builder
	b.Grow(n * 28)
	for i := range n {
		if i%10 == 9 {
			b.WriteByte('!')
		}
		switch k := i % 20; {
		case k < 14:
			fmt.Fprintf(&b, "h%d.z%d.example.com\n", i, i%1000)
		case k < 17:
			fmt.Fprintf(&b, "*.d%d.example.org\n", i)
		case k < 19:
			fmt.Fprintf(&b, "%s/24\n", addr4(i))
		default:
			fmt.Fprintf(&b, "%s/48\n", addr6(i))
		}
	}
	return b.String()
}

// addr4 and addr6 spread the networks over what is globally reachable.
func addr4(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{11 + byte(i>>16)%80, byte(i >> 8), byte(i), 0})
}

func addr6(i int) netip.Addr {
	b := [16]byte{0x24, 0x00}
	binary.BigEndian.PutUint32(b[2:], uint32(i)*2654435761)
	return netip.AddrFrom16(b)
}

var sizes = []int{10, 1000, 100_000, 1_000_000}

func sizeName(n int) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%dM", n/1_000_000)
	case n >= 1000:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}

// BenchmarkDecide measures a decision that the first rule of its kind gives,
// that only the very last rule of the list gives, and that no rule gives.
func BenchmarkDecide(b *testing.B) {
	for _, n := range sizes {
		head := "first.example.net\n1.2.3.0/24\n2a00:1::/32\n"
		for _, kind := range []string{"name", "IPv4", "IPv6"} {
			last, first, hit, miss := caseOf(kind)
			p, err := acl.Parse(head + list(n-4) + last)
			if err != nil {
				b.Fatal(err)
			}
			for _, c := range []struct {
				name, host string
				rule       int
			}{{"first", first, 1}, {"last", hit, n}, {"miss", miss, 0}} {
				b.Run(fmt.Sprintf("rules=%s/%s/%s", sizeName(n), c.name, kind), func(b *testing.B) {
					decide(b, p, c.host, c.rule)
				})
			}
		}
	}
}

func caseOf(kind string) (last, first, hit, miss string) {
	switch kind {
	case "IPv4":
		return "93.184.0.0/16", "1.2.3.4", "93.184.216.34", "5.6.7.8"
	case "IPv6":
		return "2606:2800::/32", "2a00:1::5", "2606:2800:220:1::1", "2620:1::1"
	}
	return "*.last.example.net", "first.example.net", "www.shop.last.example.net", "www.shop.other.example.net"
}

// decide asks for the host, and an address no rule knows when it is a name. A
// name costs both stages.
func decide(b *testing.B, p *acl.Policy, host string, rule int) {
	h, err := acl.ParseHost(host)
	if err != nil {
		b.Fatal(err)
	}
	t, a := acl.Target{Host: h, Port: 443}, h.Addr()
	if h.IsName() {
		a = netip.MustParseAddr("8.8.8.8")
	}
	d := p.DecideAddr(t, a)
	if rule == 1 && d.Rule == 0 || rule != 1 && d.Rule != rule {
		b.Fatalf("decided by rule %d, not %d", d.Rule, rule)
	}
	b.ReportAllocs()
	for b.Loop() {
		d = p.DecideAddr(t, a)
	}
}

// BenchmarkDecideHost measures the stage before the look-up.
func BenchmarkDecideHost(b *testing.B) {
	for _, n := range sizes {
		p, err := acl.Parse(list(n))
		if err != nil {
			b.Fatal(err)
		}
		t, err := acl.ParseTarget("www.shop.other.example.net:443")
		if err != nil {
			b.Fatal(err)
		}
		b.Run("rules="+sizeName(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.DecideHost(t)
			}
		})
	}
}

// BenchmarkDecideSpread asks for ever other names, so that the caches of the
// processor help as little as they do in a busy proxy.
func BenchmarkDecideSpread(b *testing.B) {
	for _, n := range sizes {
		p, err := acl.Parse(list(n))
		if err != nil {
			b.Fatal(err)
		}
		var targets []acl.Target
		for i := range 50_000 {
			k := i * 7919 % n
			h, err := acl.ParseHost(fmt.Sprintf("h%d.z%d.example.com", k, k%1000))
			if err != nil {
				b.Fatal(err)
			}
			targets = append(targets, acl.Target{Host: h, Port: 443})
		}
		a := netip.MustParseAddr("8.8.8.8")
		b.Run("rules="+sizeName(n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				p.DecideAddr(targets[i], a)
				if i++; i == len(targets) {
					i = 0
				}
			}
		})
	}
}

// BenchmarkParse measures the compilation, and reports the live memory of the
// policy with its text.
func BenchmarkParse(b *testing.B) {
	for _, n := range sizes {
		b.Run("rules="+sizeName(n), func(b *testing.B) {
			var p *acl.Policy
			before := live()
			text := list(n)
			for b.Loop() {
				p = nil
				var err error
				if p, err = acl.Parse(text); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(live()-before)/float64(n), "live-B/rule")
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/parse")
			runtime.KeepAlive(p)
			runtime.KeepAlive(text)
		})
	}
}

func live() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkWithGuard measures what a new address of the host costs.
func BenchmarkWithGuard(b *testing.B) {
	p, err := acl.Parse(list(1_000_000))
	if err != nil {
		b.Fatal(err)
	}
	for _, mode := range []acl.GuardMode{acl.GuardDefault, acl.GuardStrict} {
		b.Run(mode.String(), func(b *testing.B) {
			g := acl.Guard{Mode: mode, Own: []netip.Addr{netip.MustParseAddr("10.0.0.5")}}
			for b.Loop() {
				p.WithGuard(g)
			}
		})
	}
}

func BenchmarkParseTarget(b *testing.B) {
	for _, s := range []string{"www.example.com:443", "WWW.Example.com.:443", "192.0.2.1:443", "[2001:db8::1]:443"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := acl.ParseTarget(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGlobs measures a name against a thousand globs that end alike, none
// of which matches: the walk that remains.
func BenchmarkGlobs(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "api%d-*.example.com\n", i)
	}
	p, err := acl.Parse(text.String())
	if err != nil {
		b.Fatal(err)
	}
	t, err := acl.ParseTarget("api-x.example.com:443")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.DecideHost(t)
	}
}
