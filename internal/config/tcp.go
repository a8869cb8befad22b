package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// TCP is the configuration of "sluice tcp". All of it has been checked.
type TCP struct {
	// Common has a policy that allows the destinations and nothing else; addresses among
	// them unlock the guard.
	Common

	Listeners []TCPListener // never empty

	MaxConns int // open client connections; 0: as many as the descriptor limit allows

	HeadTimeout    time.Duration // for a client to send a PROXY header or a TLS ClientHello
	ConnectTimeout time.Duration // for each address tried
	IdleTimeout    time.Duration // of a connection without bytes; 0: for ever

	defaults TCPListener  // what flags say for every listener
	bind     []netip.Addr // where PORT alone listens; none: everywhere
}

// TCPListener is one port and where its connections go.
type TCPListener struct {
	Name        string // SERVICE_NAME, or the file's; "" for none
	Listen      string // "HOST:PORT" with a literal address or no HOST
	Balance     string // "round-robin", "least-connections" or "source-hash"
	SendProxy   string // "v1" or "v2", "" for no PROXY header
	AcceptProxy []netip.Prefix
	Check       TCPCheck
	Tenant      string // whose sources and guard it has; "": the top level's

	Routes       []TCPRoute   // by TLS server name; none: TLS is not looked at
	Destinations []acl.Target // for all other connections; empty only with Routes: they are refused

	at settings.Value // for problems
}

// TCPRoute is where connections for some TLS server names go.
type TCPRoute struct {
	Names        []string // "name", or "*.domain": that name and every one below it
	Destinations []acl.Target
}

// TCPCheck are active connect checks; with Interval 0 there are none.
type TCPCheck struct {
	Interval   time.Duration
	Rise, Fall int
}

// TCPSettings describes every setting of "sluice tcp", in the order of the help.
func TCPSettings() []settings.Setting { return new(TCP).settings() }

// Fixed is what c says that only a restart puts in force.
func (c *TCP) Fixed() settings.Fixed { return settings.FixedOf(c.settings()) }

// NeedRestart names what is not as at the start, and wants a restart, as the user wrote it.
func (c *TCP) NeedRestart(start settings.Fixed) []string {
	return c.Written.NeedRestart(start, c.settings())
}

// LoadTCP makes the configuration of "sluice tcp". The error is [settings.Problems] with
// everything that is wrong; there is no configuration then.
func LoadTCP(in settings.Input) (*TCP, error) {
	c := &TCP{}
	all := c.settings()
	l := settings.NewLoader(in, all)
	l.Load()
	if c.AccessLog == "" && l.Env(debugVariable) != "" && len(l.Values(settings.Pick(all, "access-log"))) == 0 {
		c.AccessLog = "-"
	}
	c.tenants(l, Tenant{Guard: c.Guard})
	for _, t := range c.Tenants {
		if t.direct {
			l.FileProblem(t.line, fmt.Sprintf("tenant %s has \"parents\", which are for sluice proxy: sluice tcp goes to its destinations directly; leave them out", t.Name))
		}
	}
	d := destinations{nodes: nodes{l}, c: c}
	d.load(all)
	if err := l.Err(); err != nil {
		return nil, err
	}
	c.loaded(l)
	return c, nil
}

// policyOf allows exactly the targets. It can't fail for what acl has parsed, and
// were it to, nothing would be allowed.
func policyOf(listeners []TCPListener) *acl.Policy {
	var rules []string
	add := func(targets []acl.Target) {
		for _, t := range targets {
			rule := net.JoinHostPort(t.Host.String(), strconv.Itoa(int(t.Port)))
			if !slices.Contains(rules, rule) {
				rules = append(rules, rule)
			}
		}
	}
	for _, li := range listeners {
		add(li.Destinations)
		for _, r := range li.Routes {
			add(r.Destinations)
		}
	}
	p, _ := acl.Parse(strings.Join(rules, "\n"))
	return p
}

// settings is the table of c's settings.
func (c *TCP) settings() []settings.Setting {
	return settings.Table(
		settings.Group{Title: "Destinations", Settings: c.destinationSettings()},
		settings.Group{Title: "Listening", Settings: append(c.listenSettings(), c.adminSettings()...)},
		settings.Group{Title: "Health", Settings: c.checkSettings()},
		settings.Group{Title: "Outbound", Settings: append(c.outboundSettings(),
			c.guardSetting("names may not lead to loopback, link-local and own addresses (default), any special range (strict), or anywhere (off)"),
			c.revokeSetting("keep"))},
		settings.Group{Title: "Time-outs and limits", Settings: c.limitSettings()},
		settings.Group{Title: "Logs", Settings: []settings.Setting{
			c.accessLogSetting("off", "write a line for each connection to this file, - for standard output, or off (EGRESS_DNS_PROXY_DEBUG, set to anything, means -)"),
			c.logLevelSetting(),
		}},
	)
}

func (c *TCP) destinationSettings() []settings.Setting {
	return []settings.Setting{
		settings.ConfigFile(),
		{Flag: "destination", Egress: destinationVariable, Key: "destinations", Value: "LINE", List: true, Change: live,
			Help: "PORT HOST [REMOTEPORT]: that port here to that host; several, or one a line"},
		{Key: "tcp", Value: "LIST", Block: true, Change: live,
			Help: "the same with several destinations for a port, TLS server names, checks …"},
		tenantsSetting(),
		{Flag: "balance", Key: "balance", Default: "round-robin", Value: "HOW", Change: live,
			Help: "choose among addresses: round-robin, least-connections or source-hash",
			Into: settings.One(&c.defaults.Balance, parseBalance)},
		{Flag: "send-proxy", Key: "sendProxy", Default: "off", Value: "VERSION", Change: live,
			Help: "begin each connection with a PROXY protocol header, v1 or v2, or off",
			Into: settings.One(&c.defaults.SendProxy, parseSendProxy)},
	}
}

func (c *TCP) listenSettings() []settings.Setting {
	return []settings.Setting{
		{Flag: "bind", Key: "bind", Value: "ADDR", List: true, Change: live,
			Help: "listen at these addresses only, not at all of this host",
			Into: settings.Many(&c.bind, parseBind)},
		{Flag: "accept-proxy", Key: "acceptProxy", Value: "CIDR", List: true, Change: live,
			Help: "take the client's address from the PROXY header that these load balancers must send",
			Into: settings.Many(&c.defaults.AcceptProxy, parsePrefix)},
	}
}

func (c *TCP) checkSettings() []settings.Setting {
	return []settings.Setting{
		{Flag: "check-interval", Key: "checkInterval", Default: "0s", Value: "DURATION", Change: live,
			Help: "connect to every address so often to see whether it answers; 0: only to those that have failed",
			Into: settings.One(&c.defaults.Check.Interval, parseCheckInterval)},
		count("check-rise", "checkRise", "2", live, "checks in a row that must succeed before an address is used again",
			1, 100, &c.defaults.Check.Rise),
		count("check-fall", "checkFall", "3", live, "checks in a row that must fail before an address is left out",
			1, 100, &c.defaults.Check.Fall),
	}
}

func (c *TCP) limitSettings() []settings.Setting {
	all := []settings.Setting{
		within("head-timeout", "headTimeout", "10s", live, "time for a client to send a PROXY header or a TLS ClientHello",
			moment, time.Hour, &c.HeadTimeout),
		within("connect-timeout", "connectTimeout", "10s", live, "time to connect to one address",
			moment, 10*time.Minute, &c.ConnectTimeout),
		c.dnsSetting(),
		within("idle-timeout", "idleTimeout", "0s", live, "end a connection that carried nothing for so long; 0: never",
			0, 30*day, &c.IdleTimeout),
	}
	return append(append(all, c.endSettings()...),
		count("max-conns", "maxConns", "0", live, "greatest number of open client connections; 0: what the descriptor limit allows",
			0, 1<<20, &c.MaxConns))
}
