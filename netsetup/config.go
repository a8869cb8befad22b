package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Mode is what EGRESS_ROUTER_MODE asks for. The zero Mode asks for nothing and is
// refused by [NewPlan].
type Mode uint8

// The modes of the egress router.
const (
	NoMode    Mode = iota
	Init           // set up the network and the redirect rules, then exit
	Legacy         // the same, then wait for SIGTERM
	HTTPProxy      // set up the network only
	DNSProxy       // the same
	UnitTest       // print the NAT rules that Init would load
)

var modeNames = [...]string{"", "init", "legacy", "http-proxy", "dns-proxy", "unit-test"}

// String is the mode's word in EGRESS_ROUTER_MODE.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "Mode(" + strconv.Itoa(int(m)) + ")"
}

// ParseMode takes the words of EGRESS_ROUTER_MODE. They are case-sensitive.
func ParseMode(s string) (Mode, error) {
	if i := slices.Index(modeNames[1:], s); i >= 0 {
		return Mode(i + 1), nil
	}
	return NoMode, fmt.Errorf("Unrecognized EGRESS_ROUTER_MODE '%s': it is one of %s", printable(s), strings.Join(modeNames[1:], ", "))
}

// Redirects reports whether the mode has redirect rules, and EGRESS_DESTINATION
// is needed.
func (m Mode) Redirects() bool { return m == Init || m == Legacy || m == UnitTest }

// ClusterInterface is the pod's interface in the cluster: redirected connections
// arrive there.
const ClusterInterface = "eth0"

// DefaultInterface is the egress interface's name when nothing else is said.
const DefaultInterface = "macvlan0"

// Source is one egress source address.
type Source struct {
	// Prefix is the address and, as its length, what is on the link. A single
	// address has nothing but its gateway there.
	Prefix netip.Prefix
	// Gateway is the way out for what is sent from the address; of its family.
	Gateway netip.Addr
	// Interface carries the address; "": [NewPlan] looks for it.
	Interface string
}

// Addr is the address alone.
func (s Source) Addr() netip.Addr { return s.Prefix.Addr() }

// Config is what to set up. Make it by the Parse functions, or check it yourself
// by [Config.Check].
type Config struct {
	Mode Mode
	// Sources are the egress addresses. The first of each family is the one that
	// unbound sockets and redirected connections leave from.
	Sources []Source
	// Master is the parent of a macvlan interface to be made when there is no
	// egress interface; "": none is made.
	Master string
	// Destinations are the redirect rules in their order; used by modes that
	// [Mode.Redirects].
	Destinations []Destination
	// KeepRoutes are networks that go on leaving by the default route that the pod
	// came with: those of the cluster that no other route leads to.
	KeepRoutes []netip.Prefix
	// Nameservers are the pod's own, of its resolv.conf; they keep their way as well.
	Nameservers []netip.Addr
	// Service is a service of the cluster, of its API for one, by which a plan can
	// say what loses its way; not valid: none is known.
	Service netip.Addr
	// Hold says that the addresses come and go: they are brought by who holds them, and
	// no route needs them.
	Hold bool
	// SkipProbe leaves out the question whether somebody else has the address. It
	// is for networks whose router answers for every address (proxy ARP).
	SkipProbe bool
}

// Problem is one thing that is wrong with a text.
type Problem struct {
	Line int    // in the text, from 1
	Msg  string // what is wrong, and how to mend it
}

// MaxSources is the greatest number of sources: each has a routing table.
const MaxSources = 64

// Check reports what the parts of c, each right by itself, make wrong together.
func (c *Config) Check() []Problem {
	var ps []Problem
	report := func(format string, args ...any) { ps = append(ps, Problem{Msg: fmt.Sprintf(format, args...)}) }
	if len(c.Sources) == 0 {
		report("EGRESS_SOURCE unspecified or invalid: name the address to send from")
	}
	if len(c.Sources) > MaxSources {
		report("EGRESS_SOURCE unspecified or invalid: %d addresses, of at most %d", len(c.Sources), MaxSources)
	}
	for _, s := range c.Sources {
		if !s.Gateway.IsValid() || s.Gateway.Is4() != s.Addr().Is4() {
			report("EGRESS_GATEWAY unspecified or invalid: no gateway for EGRESS_SOURCE %s; name one of its family", s.Addr())
		}
	}
	c.checkKeepRoutes(report)
	if !c.Mode.Redirects() || len(c.Sources) == 0 {
		return ps
	}
	for _, d := range c.Destinations {
		if !c.hasFamily(d.To) {
			report("EGRESS_DESTINATION value '%s' is invalid: there is no EGRESS_SOURCE of its family, %s, to send from", d, family(d.To))
		}
	}
	return ps
}

// hasFamily reports whether one of the sources is of the family of a.
func (c *Config) hasFamily(a netip.Addr) bool {
	return slices.ContainsFunc(c.Sources, func(s Source) bool { return s.Addr().Is4() == a.Is4() })
}

// family is the name of the family of a.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// printable is s for a message: as it is, less what would disturb a terminal or a
// log.
func printable(s string) string {
	q := strconv.Quote(s)
	q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	return strings.ReplaceAll(q, `\\`, `\`)
}
