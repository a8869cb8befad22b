package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/source"
)

// portOf is the port of what settings.Listen made.
func portOf(listen string) string { return listen[strings.LastIndexByte(listen, ':')+1:] }

// parseHostName takes a name without a port, and makes it canonical.
func parseHostName(s string) (string, error) {
	h, err := acl.ParseHost(s)
	if err != nil || !h.IsName() {
		return "", fmt.Errorf("%q is no host name; write it without a port", s)
	}
	return h.Name(), nil
}

// parseSource takes a word of EGRESS_SOURCE; the length is the network set-up's business.
func parseSource(s string) (netip.Addr, error) {
	p, err := source.Parse(s, source.Bind)
	return p.Addr(), err
}

// parseResolver takes ADDR, ADDR:PORT or [ADDR]:PORT; the port is 53 when left out.
func parseResolver(s string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), 53), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is no DNS server; write ADDR or ADDR:PORT", s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
