package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/internal/source"
)

// parseListen takes ":PORT", "ADDR:PORT" or "[ADDR]:PORT".
func parseListen(s string) (string, error) {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			return fmt.Sprintf(":%d", n), nil
		}
	} else if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.String(), nil
	}
	return "", fmt.Errorf("%q is no address to listen at; write :PORT, ADDR:PORT or [ADDR]:PORT, ADDR without a name", s)
}

// portOf is the port of what parseListen made.
func portOf(listen string) string { return listen[strings.LastIndexByte(listen, ':')+1:] }

// parseAdmin is parseListen, or "" for "off".
func parseAdmin(s string) (string, error) {
	if s == "off" {
		return "", nil
	}
	return parseListen(s)
}

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

// parseLevel takes a level's name, in any case.
func parseLevel(s string) (slog.Level, error) {
	name, err := settings.Choice("debug", "info", "warn", "error")(strings.ToLower(s))
	if err != nil {
		return 0, err
	}
	var level slog.Level
	err = level.UnmarshalText([]byte(name))
	return level, err
}
