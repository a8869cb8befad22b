package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// meantLine is what a line was probably meant to be whose host has its port behind
// a colon, "8443 example.com:443", or that begins with the host; "" for any other.
func meantLine(fields []string) string {
	if n := len(fields); n < 1 || n > 2 {
		return ""
	}
	host, port, err := net.SplitHostPort(fields[len(fields)-1])
	switch {
	case err == nil && isNumber(port) && len(fields) == 1:
		return port + " " + host
	case err == nil && isNumber(port) && isNumber(fields[0]):
		return fields[0] + " " + host + " " + port
	case len(fields) == 2 && !isNumber(fields[0]) && isNumber(fields[1]) && fields[0][0] != '-':
		return fields[1] + " " + fields[0]
	}
	return ""
}

func isNumber(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// parseDestinationHost takes a name or an address that can be connected to.
func parseDestinationHost(s string) (acl.Host, error) {
	h, err := acl.ParseHost(s)
	if err != nil {
		return acl.Host{}, reason(err)
	}
	return h, checkConnectable(h)
}

// parseTarget takes HOST or HOST:PORT of what can be connected to.
func parseTarget(s string, port uint16) (acl.Target, error) {
	t, err := acl.ParseTargetDefault(s, port)
	if err != nil {
		return t, reason(err)
	}
	return t, checkConnectable(t.Host)
}

// reason is err without "bad host 'x': ", since what is bad is quoted already.
func reason(err error) error {
	if _, why, ok := strings.Cut(err.Error(), "': "); ok {
		return errors.New(why)
	}
	return err
}

func checkConnectable(h acl.Host) error {
	if a := h.Addr(); a.IsValid() && (a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
		return fmt.Errorf("%s is no address of one host", a)
	}
	return nil
}

// parseBind takes an address to listen at.
func parseBind(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is no address to listen at", s)
	}
	return a.Unmap(), nil
}

// parsePrefix takes ADDR or ADDR/LEN.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither ADDR nor ADDR/LEN", s)
	}
	return p.Masked(), nil
}

var parseBalance = settings.Choice("round-robin", "least-connections", "source-hash")

// parseSendProxy takes v1, v2 or off, which becomes "".
func parseSendProxy(s string) (string, error) {
	if s == "off" {
		return "", nil
	}
	return settings.Choice("v1", "v2", "off")(s)
}

// parseCheckInterval takes 0 for no checks, else 100ms to an hour.
func parseCheckInterval(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && d == 0 {
		return 0, nil
	}
	return settings.Duration(100*time.Millisecond, time.Hour)(s)
}
