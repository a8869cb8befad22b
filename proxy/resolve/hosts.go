package resolve

import (
	"net/netip"
	"slices"
	"strings"
)

// ParseHosts reads the text of a hosts(5) file: an address, a name and its
// aliases on each line. Names are lower-cased and lose a trailing dot; an address
// loses its zone and its IPv4-mapped form. A name's addresses come in the order
// of the file, IPv4 first. A line that does not begin with an address is
// skipped, as every reader of that file does.
func ParseHosts(text []byte) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		addr = addr.Unmap().WithZone("")
		for _, name := range f[1:] {
			name = canonical(name)
			if name != "" && !slices.Contains(hosts[name], addr) {
				hosts[name] = append(hosts[name], addr)
			}
		}
	}
	for _, addrs := range hosts {
		slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	}
	return hosts
}
