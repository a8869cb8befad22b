package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Proto is a transport protocol, by its number in the IP header; 0 stands for all
// of them, and only in a fallback.
type Proto uint8

// The protocols that a local port can be redirected for.
const (
	TCP  Proto = 6
	UDP  Proto = 17
	SCTP Proto = 132
)

var protoNames = map[Proto]string{TCP: "tcp", UDP: "udp", SCTP: "sctp"}

// String is the protocol's word in EGRESS_DESTINATION.
func (p Proto) String() string { return protoNames[p] }

// Destination is one line of EGRESS_DESTINATION.
type Destination struct {
	Port       uint16 // local port; 0: everything else (the fallback)
	Proto      Proto  // 0 with the fallback only
	To         netip.Addr
	RemotePort uint16 // 0: the local port
}

// String is the line, in its one canonical spelling.
func (d Destination) String() string {
	switch {
	case d.Port == 0:
		return d.To.String()
	case d.RemotePort == 0:
		return fmt.Sprintf("%d %s %s", d.Port, d.Proto, d.To)
	}
	return fmt.Sprintf("%d %s %s %d", d.Port, d.Proto, d.To, d.RemotePort)
}

// FormatDestinations writes ds as EGRESS_DESTINATION, a line each.
// [ParseDestinations] of the result is ds.
func FormatDestinations(ds []Destination) string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// ParseDestinations takes EGRESS_DESTINATION:
//
//	PORT PROTO IP             that local port to the same port of IP
//	PORT PROTO IP REMOTEPORT  that local port to another port of IP
//	IP                        everything else to IP; last, one for each family
//
// Blank lines, and lines that begin with #, mean nothing. When there are problems,
// every wrong line is among them and there are no destinations.
func ParseDestinations(text string) ([]Destination, []Problem) {
	var p destinations
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			p.line = i + 1
			p.parse(line)
		}
	}
	if len(p.problems) > 0 {
		return nil, p.problems
	}
	return p.all, nil
}

// destinations is a text being parsed.
type destinations struct {
	all      []Destination
	line     int
	problems []Problem
}

func (p *destinations) report(format string, args ...any) {
	p.problems = append(p.problems, Problem{Line: p.line, Msg: fmt.Sprintf(format, args...)})
}

func (p *destinations) parse(line string) {
	d, err := parseDestination(line)
	if err != nil {
		p.report("%v", err)
		return
	}
	if p.follows(d) {
		p.report("EGRESS_DESTINATION fallback IP must be the last line")
		return
	}
	twice := func(o Destination) bool {
		return d.Port != 0 && o.Port == d.Port && o.Proto == d.Proto && o.To.Is4() == d.To.Is4()
	}
	if slices.ContainsFunc(p.all, twice) {
		p.report("EGRESS_DESTINATION localport %d is already used, must be unique for each destination", d.Port)
		return
	}
	p.all = append(p.all, d)
}

// follows reports whether a fallback stands before d that must not: nothing but
// the other family's fallback may follow.
func (p *destinations) follows(d Destination) bool {
	return slices.ContainsFunc(p.all, func(o Destination) bool {
		return o.Port == 0 && (d.Port != 0 || o.To.Is4() == d.To.Is4())
	})
}

func parseDestination(line string) (d Destination, err error) {
	invalid := func(why string) error {
		return fmt.Errorf("EGRESS_DESTINATION value '%s' is invalid: %s", printable(line), why)
	}
	fields := strings.Fields(line)
	switch len(fields) {
	case 1:
		if d.To, err = parseTo(fields[0]); err != nil {
			return d, invalid(err.Error())
		}
		return d, nil
	case 3, 4:
	default:
		return d, invalid("write PORT PROTO IP, PORT PROTO IP REMOTEPORT, or IP")
	}
	for proto, name := range protoNames {
		if name == fields[1] {
			d.Proto = proto
		}
	}
	switch {
	case !isNumber(fields[0]) || len(fields) == 4 && !isNumber(fields[3]):
		return d, invalid("write PORT PROTO IP, PORT PROTO IP REMOTEPORT, or IP")
	case d.Proto == 0:
		return d, invalid("PROTO is tcp, udp or sctp")
	}
	if ap, err := netip.ParseAddrPort(fields[2]); err == nil && len(fields) == 3 {
		return d, invalid(fmt.Sprintf("write PORT PROTO IP REMOTEPORT, as in: %s %s %s %d", fields[0], fields[1], ap.Addr(), ap.Port()))
	}
	if d.To, err = parseTo(fields[2]); err != nil {
		return d, invalid(err.Error())
	}
	if d.Port, err = parsePort(fields[0]); err == nil && len(fields) == 4 {
		d.RemotePort, err = parsePort(fields[3])
	}
	return d, err
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parsePort takes a number. Leading zeros are refused: the original takes them for
// octal, others for decimal.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' {
		return 0, fmt.Errorf("Invalid port: %s, must be in the range 1 to 65535", s)
	}
	return uint16(n), nil
}

// parseTo takes the address of a host elsewhere.
func parseTo(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("%q is no IP address", s)
	case a.Zone() != "" || a.Is4In6() || !sendable(a) || a.Is6() && a.IsLinkLocalUnicast():
		return a, fmt.Errorf("nothing can be redirected to %s", printable(s))
	}
	return a, nil
}
