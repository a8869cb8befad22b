package fuzz

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sluiceproxy/sluice/netsetup"
)

// FuzzDestinations: what is accepted comes out of its own text again, in one
// spelling; each rule stands for a line of the text, ports are unique for their
// protocol and family, and nothing follows a fallback but the other family's. Of
// what is refused nothing is returned, and every problem can be shown.
func FuzzDestinations(f *testing.F) {
	for _, text := range []string{
		"203.0.113.3", "80 tcp 203.0.113.6\n8080 udp 203.0.113.9 80\n203.0.113.3\n2001:db8::3",
		"# nothing\n\n", "53 tcp 2001:DB8::0:53\r\n\t53  sctp\t2001:db8::53 1 ", "080 tcp 1.2.3.4", "80 tcp ::ffff:1.2.3.4",
		"80 tcp fe80::1%eth0", "1.2.3.4\n1.2.3.4", "65536 tcp 1.2.3.4", "80 tcp 1.2.3.4\n80 tcp 1.2.3.5", "x\x00\x1b'", "80 tcp 1.2.3.4 # x",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ds, problems := netsetup.ParseDestinations(text)
		if len(problems) > 0 {
			if ds != nil {
				t.Fatalf("refused, and yet %v", ds)
			}
			for _, p := range problems {
				if p.Line < 1 || p.Line > strings.Count(text, "\n")+1 || !utf8.ValidString(p.Msg) || strings.ContainsAny(p.Msg, "\r\n\x00\x1b") {
					t.Fatalf("problem %+v", p)
				}
			}
			return
		}
		canonical := netsetup.FormatDestinations(ds)
		again, problems := netsetup.ParseDestinations(canonical)
		if len(problems) > 0 || !slices.Equal(ds, again) || netsetup.FormatDestinations(again) != canonical {
			t.Fatalf("%q became %q: %v, %v", text, canonical, again, problems)
		}
		checkDestinations(t, ds)
	})
}

func checkDestinations(t *testing.T, ds []netsetup.Destination) {
	type port struct {
		proto netsetup.Proto
		port  uint16
		v4    bool
	}
	used := map[port]bool{}
	fallback := false
	for _, d := range ds {
		k := port{d.Proto, d.Port, d.To.Is4()}
		if used[k] || fallback && d.Port != 0 || !d.To.IsValid() || d.To.Zone() != "" || (d.Port == 0) != (d.Proto == 0) || d.Port == 0 && d.RemotePort != 0 {
			t.Fatalf("%+v of %v", d, ds)
		}
		used[k], fallback = true, fallback || d.Port == 0
	}
}

// FuzzSources: whatever the three texts are, each source that is accepted has an
// address, a gateway of its family, and no problem is lost.
func FuzzSources(f *testing.F) {
	f.Add("192.0.2.10/24, 2001:db8::a", "192.0.2.1 fe80::1@2001:db8::a", "net1")
	f.Add("192.0.2.10 192.0.2.11", "192.0.2.1@192.0.2.11", "net1@192.0.2.10 net2")
	f.Fuzz(func(t *testing.T, source, gateway, iface string) {
		sources, problems := netsetup.ParseSources(source)
		if len(problems) > 0 {
			return
		}
		problems = append(netsetup.ParseGateways(gateway, sources), netsetup.ParseInterfaces(iface, sources)...)
		if len(problems) > 0 {
			return
		}
		c := netsetup.Config{Mode: netsetup.HTTPProxy, Sources: sources}
		if ps := c.Check(); len(ps) > 0 && len(sources) <= netsetup.MaxSources {
			t.Fatalf("accepted one by one, and not together: %v", ps)
		}
		for _, s := range sources {
			if s.Gateway == s.Addr() || s.Gateway.Is4() != s.Addr().Is4() || s.Addr().Zone() != "" || s.Prefix.Bits() < 1 {
				t.Fatalf("%+v", s)
			}
		}
	})
}
