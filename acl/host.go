package acl

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Host is a normalised host name or IP address: lower case, without trailing
// dot, brackets or zone, an IPv4-mapped IPv6 address as its IPv4 address. Hosts
// are comparable, and two spellings of one host are equal.
//
// The zero Host is invalid and is denied by every policy.
type Host struct {
	name string
	addr netip.Addr
}

// ErrUserInfo is in the chain of the error for a target with user information
// (`user@host`, RFC 3986 section 3.2.1), which is refused.
var ErrUserInfo = errors.New("user information is refused; write only the host and port")

// ParseHost reads the host of a request: a name, an IPv4 address, or an IPv6
// address with or without brackets. It refuses what no URI can hold (RFC 3986
// section 3.2.2; so a Unicode name must come as its A-labels), zones, and
// numbers that a resolver might take for an address: `127.1`, `0x7f000001`.
// A canonical host costs no allocation: the Host keeps s itself.
func ParseHost(s string) (Host, error) {
	h, msg := parseHost(s)
	if msg != "" {
		return Host{}, targetError("host", s, msg)
	}
	return h, nil
}

func parseHost(s string) (Host, string) {
	if n := len(s); n >= 2 && s[0] == '[' && s[n-1] == ']' {
		s = s[1 : n-1]
		if strings.IndexByte(s, ':') < 0 {
			return Host{}, msgBrackets
		}
	}
	if strings.IndexByte(s, ':') >= 0 {
		addr, msg := parseIPv6(s)
		return Host{addr: addr}, msg
	}
	name, addr, msg := normalise(s, false)
	return Host{name: name, addr: addr}, msg
}

// HostFromAddr returns the Host of an address. An address with a zone, or the
// zero Addr, gives the zero Host.
func HostFromAddr(a netip.Addr) Host {
	if !a.IsValid() || a.Zone() != "" {
		return Host{}
	}
	return Host{addr: a.Unmap()}
}

// IsValid reports whether h is a host at all: the zero Host is not.
func (h Host) IsValid() bool { return h.name != "" || h.addr.IsValid() }

// IsAddr reports whether h is an IP address.
func (h Host) IsAddr() bool { return h.addr.IsValid() }

// IsName reports whether h is a name that would have to be resolved.
func (h Host) IsName() bool { return h.name != "" }

// Name returns the normalised name, "" when h is an address.
func (h Host) Name() string { return h.name }

// Addr returns the address, the zero Addr when h is a name.
func (h Host) Addr() netip.Addr { return h.addr }

// String returns the name or address, IPv6 without brackets; "" for the zero
// Host. ParseHost reads it back.
func (h Host) String() string {
	if h.addr.IsValid() {
		return h.addr.String()
	}
	return h.name
}

// A Target is what a client wants to reach. The zero Target, and one whose
// Port is 0, is denied by every policy.
type Target struct {
	Host Host
	Port uint16
}

// ParseTarget reads a host with its port, the authority-form of RFC 9112
// section 3.2.3: `example.com:443`, `[2001:db8::1]:443`. The port is required,
// from 1 to 65535, without leading zeros. The host is read as by [ParseHost],
// but IPv6 needs its brackets. User information is refused with
// [ErrUserInfo]. A canonical target costs no allocation.
func ParseTarget(hostport string) (Target, error) {
	return parseTarget(hostport, 0, true)
}

// ParseTargetDefault reads the authority of a URI (RFC 3986 section 3.2) whose
// port may be left out or empty: `example.com`, `example.com:`,
// `[2001:db8::1]`; then the port is defaultPort. Otherwise it is
// [ParseTarget].
func ParseTargetDefault(hostport string, defaultPort uint16) (Target, error) {
	return parseTarget(hostport, defaultPort, false)
}

func parseTarget(s string, defaultPort uint16, needPort bool) (Target, error) {
	if strings.IndexByte(s, '@') >= 0 {
		return Target{}, fmt.Errorf("bad target %s: %w", quote(s), ErrUserInfo)
	}
	host, port, msg := splitTarget(s)
	if msg != "" {
		return Target{}, targetError("target", s, msg)
	}
	t := Target{Port: defaultPort}
	if port != "" || needPort {
		if t.Port, msg = parsePort(port); msg != "" {
			return Target{}, targetError("target", s, msg)
		}
	}
	if t.Port == 0 {
		return Target{}, targetError("target", s, msgNoPort)
	}
	if t.Host, msg = parseHost(host); msg != "" {
		return Target{}, targetError("target", s, msg)
	}
	return t, nil
}

// splitTarget parts a target at its port; IPv6 stays in brackets.
func splitTarget(s string) (host, port, msg string) {
	end := 0
	if strings.HasPrefix(s, "[") {
		if end = strings.IndexByte(s, ']') + 1; end == 0 {
			return "", "", msgOpenBracket
		}
		if strings.IndexByte(s[:end], ':') < 0 {
			return "", "", msgBrackets
		}
		if end < len(s) && s[end] != ':' {
			return "", "", msgAfterBracket
		}
	}
	colon := strings.IndexByte(s[end:], ':')
	if colon < 0 {
		return s, "", ""
	}
	colon += end
	if strings.IndexByte(s[colon+1:], ':') >= 0 {
		return "", "", msgBareIPv6
	}
	return s[:colon], s[colon+1:], ""
}

// parsePort reads one port number, from 1 to 65535.
func parsePort(s string) (uint16, string) {
	if s == "" {
		return 0, msgNoPort
	}
	n := 0
	for i := 0; i < len(s); i++ {
		c := s[i] - '0'
		if c > 9 {
			return 0, msgBadPort
		}
		if n = n*10 + int(c); n > 65535 {
			return 0, msgBigPort
		}
	}
	switch {
	case n == 0:
		return 0, msgPortZero
	case s[0] == '0':
		return 0, msgPortZeros
	}
	return uint16(n), ""
}

// String returns the canonical host:port, with brackets around IPv6; "" when t
// is invalid. ParseTarget reads it back.
func (t Target) String() string {
	if !t.valid() {
		return ""
	}
	return string(t.AppendTo(nil))
}

// AppendTo appends [Target.String] to b, without an allocation of its own.
func (t Target) AppendTo(b []byte) []byte {
	switch {
	case !t.valid():
		return b
	case t.Host.addr.Is6():
		b = append(b, '[')
		b = t.Host.addr.AppendTo(b)
		b = append(b, ']')
	case t.Host.addr.IsValid():
		b = t.Host.addr.AppendTo(b)
	default:
		b = append(b, t.Host.name...)
	}
	b = append(b, ':')
	return strconv.AppendUint(b, uint64(t.Port), 10)
}

func (t Target) valid() bool { return t.Port != 0 && t.Host.IsValid() }

func targetError(what, s, msg string) error {
	return fmt.Errorf("bad %s %s: %s", what, quote(s), msg)
}
