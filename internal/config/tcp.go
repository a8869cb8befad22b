package config

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sluiceproxy/sluice/acl"
)

// TCP is the configuration of "sluice tcp". All of it has been checked.
type TCP struct {
	Listeners []TCPListener // never empty

	Admin string // "HOST:PORT" with a literal address or no HOST; "": no admin port
	Pprof bool   // /debug/pprof on the admin port
	// AdminHosts are names that requests to the admin port may call it by.
	AdminHosts []string

	Guard  acl.GuardMode
	Policy *acl.Policy // allows the destinations and nothing else; addresses among them unlock the guard

	Sources   []netip.Addr     // to connect from; none: as the system chooses
	Resolvers []netip.AddrPort // none: those of resolv.conf

	MaxConns int // open client connections; 0: as many as the descriptor limit allows

	HeadTimeout    time.Duration // for a client to send a PROXY header or a TLS ClientHello
	ConnectTimeout time.Duration // for each address tried
	DNSTimeout     time.Duration // for a whole look-up
	IdleTimeout    time.Duration // of a connection without bytes; 0: for ever
	ShutdownDelay  time.Duration // that new connections are still taken for at the end, not ready; 0: none
	DrainTimeout   time.Duration // for open connections at the end; 0: none

	AccessLog string // path, "-" for standard output, "" for none
	LogLevel  slog.Level

	Origin   string   // where the destinations come from
	Watch    []string // files whose change calls for a reload
	Warnings Problems

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

	Routes       []TCPRoute   // by TLS server name; none: TLS is not looked at
	Destinations []acl.Target // for all other connections; empty only with Routes: they are refused

	at value // for problems
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

// AddTCPFlags registers the flags of "sluice tcp"; [Groups] makes their help.
// They hold text only: [LoadTCP] judges it.
func AddTCPFlags(fs *pflag.FlagSet) { addFlags(fs, TCPSettings()) }

// TCPSettings describes every setting of "sluice tcp", in the order of the help.
func TCPSettings() []Setting { return describe(tcpSettings()) }

// LoadTCP makes the configuration of "sluice tcp". The error is [Problems] with
// everything that is wrong; there is no configuration then.
func LoadTCP(in Input) (*TCP, error) {
	all := tcpSettings()
	l := newLoader(in, describe(all))
	c := &TCP{}
	load(l, all, c)
	if c.AccessLog == "" && l.env[debugVariable] != "" && len(l.values(pick(all, "access-log"))) == 0 {
		c.AccessLog = "-"
	}
	d := destinations{loader: l, c: c}
	d.load(all)
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	c.Watch, c.Warnings = l.watch, l.warnings
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

func tcpSettings() []setting[TCP] {
	var all []setting[TCP]
	for _, group := range []struct {
		title    string
		settings []setting[TCP]
	}{
		{"Destinations", tcpDestinationSettings()},
		{"Listening", tcpListenSettings()},
		{"Health", tcpCheckSettings()},
		{"Outbound", tcpOutboundSettings()},
		{"Time-outs and limits", tcpLimitSettings()},
		{"Logs", tcpLogSettings()},
	} {
		for _, s := range group.settings {
			s.Group = group.title
			s.Env = envName(s.Flag)
			all = append(all, s)
		}
	}
	return all
}

func tcpDestinationSettings() []setting[TCP] {
	return []setting[TCP]{
		{Setting: Setting{Flag: configFlag, Value: "FILE", Help: "read settings from this YAML file"}},
		{Setting: Setting{Flag: "destination", Egress: destinationVariable, FileKey: "destinations", Value: "LINE", List: true,
			Help: "PORT HOST [REMOTEPORT]: that port here to that host; several, or one a line"}},
		{Setting: Setting{FileKey: "tcp", Value: "LIST", Block: true,
			Help: "the same with several destinations for a port, TLS server names, checks …"}},
		{Setting{Flag: "balance", FileKey: "balance", Default: "round-robin", Value: "HOW",
			Help: "choose among addresses: round-robin, least-connections or source-hash"},
			one(func(c *TCP) *string { return &c.defaults.Balance }, parseBalance)},
		{Setting{Flag: "send-proxy", FileKey: "sendProxy", Default: "off", Value: "VERSION",
			Help: "begin each connection with a PROXY protocol header, v1 or v2, or off"},
			one(func(c *TCP) *string { return &c.defaults.SendProxy }, parseSendProxy)},
	}
}

func tcpListenSettings() []setting[TCP] {
	return []setting[TCP]{
		{Setting{Flag: "bind", FileKey: "bind", Value: "ADDR", List: true,
			Help: "listen at these addresses only, not at all of this host"},
			many(func(c *TCP) *[]netip.Addr { return &c.bind }, parseBind)},
		{Setting{Flag: "accept-proxy", FileKey: "acceptProxy", Value: "CIDR", List: true,
			Help: "take the client's address from the PROXY header that these load balancers must send"},
			many(func(c *TCP) *[]netip.Prefix { return &c.defaults.AcceptProxy }, parsePrefix)},
		{Setting{Flag: "admin", FileKey: "admin", Default: "127.0.0.1:9090", Value: "ADDR",
			Help: "serve health, metrics and status at this address, or off"},
			one(func(c *TCP) *string { return &c.Admin }, parseAdmin)},
		{Setting{Flag: "admin-host", FileKey: "adminHost", Value: "NAME", List: true,
			Help: "answer at the admin address also those who call it by this name, not by an address or localhost; may be given several times"},
			many(func(c *TCP) *[]string { return &c.AdminHosts }, parseHostName)},
		{Setting{Flag: "pprof", FileKey: "pprof", Default: "false",
			Help: "serve /debug/pprof on the admin address"},
			one(func(c *TCP) *bool { return &c.Pprof }, parseBool)},
	}
}

func tcpCheckSettings() []setting[TCP] {
	return []setting[TCP]{
		{Setting{Flag: "check-interval", FileKey: "checkInterval", Default: "0s", Value: "DURATION",
			Help: "connect to every address so often to see whether it answers; 0: only to those that have failed"},
			one(func(c *TCP) *time.Duration { return &c.defaults.Check.Interval }, parseCheckInterval)},
		{Setting{Flag: "check-rise", FileKey: "checkRise", Default: "2", Value: "N",
			Help: "checks in a row that must succeed before an address is used again"},
			one(func(c *TCP) *int { return &c.defaults.Check.Rise }, number(1, 100))},
		{Setting{Flag: "check-fall", FileKey: "checkFall", Default: "3", Value: "N",
			Help: "checks in a row that must fail before an address is left out"},
			one(func(c *TCP) *int { return &c.defaults.Check.Fall }, number(1, 100))},
	}
}

func tcpOutboundSettings() []setting[TCP] {
	return []setting[TCP]{
		{Setting{Flag: "source", Egress: "EGRESS_SOURCE", FileKey: "source", Value: "ADDR", List: true,
			Help: "connect from this address, ADDR or ADDR/LEN; several for IPv4 and IPv6"},
			many(func(c *TCP) *[]netip.Addr { return &c.Sources }, parseSource)},
		{Setting{Flag: "resolver", FileKey: "resolver", Value: "ADDR", List: true,
			Help: "ask this DNS server, ADDR or ADDR:PORT, instead of those of resolv.conf"},
			many(func(c *TCP) *[]netip.AddrPort { return &c.Resolvers }, parseResolver)},
		{Setting{Flag: "guard", FileKey: "guard", Default: acl.GuardDefault.String(), Value: "MODE",
			Help: "names may not lead to loopback, link-local and own addresses (default), any special range (strict), or anywhere (off)"},
			one(func(c *TCP) *acl.GuardMode { return &c.Guard }, acl.ParseGuardMode)},
	}
}

func tcpLimitSettings() []setting[TCP] {
	const least, day = time.Millisecond, 24 * time.Hour
	row := func(flag, key, def, help string, least, most time.Duration, field func(*TCP) *time.Duration) setting[TCP] {
		return setting[TCP]{
			Setting{Flag: flag, FileKey: key, Default: def, Value: "DURATION", Help: help},
			one(field, duration(least, most)),
		}
	}
	return []setting[TCP]{
		row("head-timeout", "headTimeout", "10s", "time for a client to send a PROXY header or a TLS ClientHello",
			least, time.Hour, func(c *TCP) *time.Duration { return &c.HeadTimeout }),
		row("connect-timeout", "connectTimeout", "10s", "time to connect to one address",
			least, 10*time.Minute, func(c *TCP) *time.Duration { return &c.ConnectTimeout }),
		row("dns-timeout", "dnsTimeout", "5s", "time to look a name up",
			least, time.Minute, func(c *TCP) *time.Duration { return &c.DNSTimeout }),
		row("idle-timeout", "idleTimeout", "0s", "end a connection that carried nothing for so long; 0: never",
			0, 30*day, func(c *TCP) *time.Duration { return &c.IdleTimeout }),
		row("shutdown-delay", "shutdownDelay", "0s", "at SIGTERM, go on taking new connections for so long, while /readyz says no",
			0, time.Hour, func(c *TCP) *time.Duration { return &c.ShutdownDelay }),
		row("drain-timeout", "drainTimeout", "30s", "time for open connections to end at SIGTERM",
			0, day, func(c *TCP) *time.Duration { return &c.DrainTimeout }),
		{Setting{Flag: "max-conns", FileKey: "maxConns", Default: "0", Value: "N",
			Help: "greatest number of open client connections; 0: what the descriptor limit allows"},
			one(func(c *TCP) *int { return &c.MaxConns }, number(0, 1<<20))},
	}
}

func tcpLogSettings() []setting[TCP] {
	return []setting[TCP]{
		{Setting{Flag: "access-log", FileKey: "accessLog", Default: "off", Value: "PATH",
			Help: "write a line for each connection to this file, - for standard output, or off (EGRESS_DNS_PROXY_DEBUG, set to anything, means -)"},
			one(func(c *TCP) *string { return &c.AccessLog }, parseAccessLog)},
		{Setting{Flag: "log-level", FileKey: "logLevel", Default: "info", Value: "LEVEL",
			Help: "debug, info, warn or error"},
			one(func(c *TCP) *slog.Level { return &c.LogLevel }, parseLevel)},
	}
}
