package config

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/sluiceproxy/sluice/acl"
)

// Proxy is the configuration of "sluice proxy". All of it has been checked.
type Proxy struct {
	Listen []string // "HOST:PORT" with a literal address or no HOST; never empty
	Admin  string   // like Listen; "": no admin port
	Pprof  bool     // /debug/pprof on the admin port
	// AdminHosts are names that requests to the admin port may call it by.
	AdminHosts []string

	Rules     RuleText
	Policy    *acl.Policy // what Rules says
	Guard     acl.GuardMode
	HideRules bool   // error pages and status lines don't show the rule
	Contact   string // whom to ask, for error pages; "": nobody is named

	Sources      []netip.Addr     // to connect from; none: as the system chooses
	Resolvers    []netip.AddrPort // none: those of resolv.conf
	UpstreamCA   []byte           // PEM: roots besides the system's, for absolute-form https; nil: none
	ForwardedFor bool             // add X-Forwarded-For

	MaxHead           int // octets of a request head
	MaxFields         int // fields of a request head
	MaxAnswerHead     int // octets of an answer's head
	MaxAnswerFields   int // fields of an answer's head
	MaxConns          int // open client connections; 0: as many as the descriptor limit allows
	MaxConnsPerClient int // of one client address; 0: no limit of its own

	HeadTimeout      time.Duration // to send a head
	ConnectTimeout   time.Duration // to connect to a destination, all addresses together
	DNSTimeout       time.Duration // for a whole look-up
	IdleTimeout      time.Duration // of a tunnel without bytes; 0: for ever
	KeepAliveTimeout time.Duration // of a client connection between requests
	HalfCloseTimeout time.Duration // of the server of a half-closed client, without a byte; 0: as IdleTimeout
	MinRate          int           // octets a second at which a body must move to and from a client; 0: any
	ShutdownDelay    time.Duration // that new connections are still taken for at the end, not ready; 0: none
	DrainTimeout     time.Duration // for open connections at the end; 0: none

	AccessLog       string // path, "-" for standard output, "" for none
	AccessLogFormat string // "json", "squid" or "combined"
	LogLevel        slog.Level

	// Watch are the files whose change calls for a reload.
	Watch []string
	// Warnings are doubtful, and no reason not to start.
	Warnings Problems
}

// AddProxyFlags registers the flags of "sluice proxy"; [Groups] makes their help.
// They hold text only: [LoadProxy] judges it.
func AddProxyFlags(fs *pflag.FlagSet) { addFlags(fs, ProxySettings()) }

// ProxySettings describes every setting of "sluice proxy", in the order of the help.
func ProxySettings() []Setting { return describe(proxySettings()) }

// LoadProxy makes the configuration of "sluice proxy". The error is [Problems]
// with everything that is wrong; there is no configuration then.
func LoadProxy(in Input) (*Proxy, error) {
	all := proxySettings()
	l := newLoader(in, describe(all))
	p := &Proxy{}
	load(l, all, p)
	p.Rules, p.Policy = l.rules(pick(all, "rules"), pick(all, ""))
	p.UpstreamCA = l.roots(pick(all, "upstream-ca"))
	if slices.Contains(p.Listen, p.Admin) && portOf(p.Admin) != "0" {
		at := value{source: "--admin"}
		if vs := l.values(pick(all, "admin")); len(vs) > 0 {
			at = vs[0]
		}
		l.report(at.problem(fmt.Sprintf("%s is where the proxy listens already", p.Admin)))
	}
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	if p.Policy != nil {
		l.warnings = append(l.warnings, fromACL(p.Policy.Warnings())...)
	}
	p.Watch, p.Warnings = l.watch, l.warnings
	return p, nil
}

// pick is the setting of a flag; "" means the one that only the file has.
func pick[T any](all []setting[T], flag string) Setting {
	for _, s := range all {
		if s.Flag == flag {
			return s.Setting
		}
	}
	return Setting{}
}

// roots reads the certificates of --upstream-ca.
func (l *loader) roots(s Setting) []byte {
	var all []byte
	vs := l.values(s)
	if len(vs) == 1 && vs[0].source == s.Env {
		vs = split(vs)
	}
	for _, v := range vs {
		path, pem, ok := l.read(v)
		if ok && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			l.report(v.problem(fmt.Sprintf("%s holds no certificate in PEM form", path)))
		}
		if len(all) > 0 && all[len(all)-1] != '\n' {
			all = append(all, '\n')
		}
		all = append(all, pem...)
	}
	return all
}

func proxySettings() []setting[Proxy] {
	var all []setting[Proxy]
	for _, group := range []struct {
		title    string
		settings []setting[Proxy]
	}{
		{"Listening", listenSettings()},
		{"Policy", policySettings()},
		{"Outbound", outboundSettings()},
		{"Limits", limitSettings()},
		{"Time-outs", timeoutSettings()},
		{"Logs", logSettings()},
	} {
		for _, s := range group.settings {
			s.Group = group.title
			s.Env = envName(s.Flag)
			all = append(all, s)
		}
	}
	return all
}

func listenSettings() []setting[Proxy] {
	return []setting[Proxy]{
		{Setting: Setting{Flag: configFlag, Value: "FILE", Help: "read settings from this YAML file"}},
		{Setting{Flag: "listen", FileKey: "listen", Default: ":8080", Value: "ADDR", List: true,
			Help: "accept clients at this address; may be given several times"},
			many(func(p *Proxy) *[]string { return &p.Listen }, parseListen)},
		{Setting{Flag: "admin", FileKey: "admin", Default: "127.0.0.1:9090", Value: "ADDR",
			Help: "serve health, metrics and status at this address, or off"},
			one(func(p *Proxy) *string { return &p.Admin }, parseAdmin)},
		{Setting{Flag: "admin-host", FileKey: "adminHost", Value: "NAME", List: true,
			Help: "answer at the admin address also those who call it by this name, not by an address or localhost; may be given several times"},
			many(func(p *Proxy) *[]string { return &p.AdminHosts }, parseHostName)},
		{Setting{Flag: "pprof", FileKey: "pprof", Default: "false",
			Help: "serve /debug/pprof on the admin address"},
			one(func(p *Proxy) *bool { return &p.Pprof }, parseBool)},
	}
}

func policySettings() []setting[Proxy] {
	return []setting[Proxy]{
		{Setting: Setting{Flag: "rules", Egress: rulesVariable, FileKey: "rulesFile", Value: "FILE", List: true,
			Help: "read the rules from this file; several are one list, in the order given (EGRESS_HTTP_PROXY_DESTINATION holds the rules themselves)"}},
		{Setting: Setting{FileKey: "rules", Value: "TEXT", Help: "the rules themselves"}},
		{Setting{Flag: "guard", FileKey: "guard", Default: acl.GuardDefault.String(), Value: "MODE",
			Help: "deny loopback, link-local and own addresses (default), all special ranges (strict), or none (off)"},
			one(func(p *Proxy) *acl.GuardMode { return &p.Guard }, acl.ParseGuardMode)},
		{Setting{Flag: "hide-rules", FileKey: "hideRules", Default: "false",
			Help: "do not show clients the rule that denied them"},
			one(func(p *Proxy) *bool { return &p.HideRules }, parseBool)},
		{Setting{Flag: "contact", FileKey: "contact", Value: "TEXT",
			Help: "whom to ask about a denied request, shown on error pages"},
			one(func(p *Proxy) *string { return &p.Contact }, parseLine)},
	}
}

func outboundSettings() []setting[Proxy] {
	return []setting[Proxy]{
		{Setting{Flag: "source", Egress: "EGRESS_SOURCE", FileKey: "source", Value: "ADDR", List: true,
			Help: "connect from this address, ADDR or ADDR/LEN; several for IPv4 and IPv6"},
			many(func(p *Proxy) *[]netip.Addr { return &p.Sources }, parseSource)},
		{Setting{Flag: "resolver", FileKey: "resolver", Value: "ADDR", List: true,
			Help: "ask this DNS server, ADDR or ADDR:PORT, instead of those of resolv.conf"},
			many(func(p *Proxy) *[]netip.AddrPort { return &p.Resolvers }, parseResolver)},
		{Setting: Setting{Flag: "upstream-ca", FileKey: "upstreamCA", Value: "FILE", List: true,
			Help: "trust these PEM certificates too when a client asks for https://… in plain"}},
		{Setting{Flag: "forwarded-for", FileKey: "forwardedFor", Default: "false",
			Help: "tell destinations the client's address in X-Forwarded-For"},
			one(func(p *Proxy) *bool { return &p.ForwardedFor }, parseBool)},
	}
}

func limitSettings() []setting[Proxy] {
	const million = 1 << 20
	return []setting[Proxy]{
		{Setting{Flag: "max-head", FileKey: "maxHead", Default: "64KiB", Value: "SIZE",
			Help: "greatest request head"},
			one(func(p *Proxy) *int { return &p.MaxHead }, size(1<<10, 1<<20))},
		{Setting{Flag: "max-fields", FileKey: "maxFields", Default: "256", Value: "N",
			Help: "greatest number of fields in a request head"},
			one(func(p *Proxy) *int { return &p.MaxFields }, number(1, 10000))},
		{Setting{Flag: "max-answer-head", FileKey: "maxAnswerHead", Default: "256KiB", Value: "SIZE",
			Help: "greatest head of an answer, and greatest size of the interim ones before it, all together"},
			one(func(p *Proxy) *int { return &p.MaxAnswerHead }, size(1<<10, 1<<20))},
		{Setting{Flag: "max-answer-fields", FileKey: "maxAnswerFields", Default: "1000", Value: "N",
			Help: "greatest number of fields in an answer's head"},
			one(func(p *Proxy) *int { return &p.MaxAnswerFields }, number(1, 10000))},
		{Setting{Flag: "max-conns", FileKey: "maxConns", Default: "0", Value: "N",
			Help: "greatest number of open client connections; 0: what the descriptor limit allows"},
			one(func(p *Proxy) *int { return &p.MaxConns }, number(0, million))},
		{Setting{Flag: "max-conns-per-client", FileKey: "maxConnsPerClient", Default: "0", Value: "N",
			Help: "the same for each client address; 0: no limit of its own"},
			one(func(p *Proxy) *int { return &p.MaxConnsPerClient }, number(0, million))},
	}
}

func timeoutSettings() []setting[Proxy] {
	const least, day = time.Millisecond, 24 * time.Hour
	row := func(flag, key, def, help string, least, most time.Duration, field func(*Proxy) *time.Duration) setting[Proxy] {
		return setting[Proxy]{
			Setting{Flag: flag, FileKey: key, Default: def, Value: "DURATION", Help: help},
			one(field, duration(least, most)),
		}
	}
	return []setting[Proxy]{
		row("head-timeout", "headTimeout", "30s", "time for a client to send a request head",
			least, time.Hour, func(p *Proxy) *time.Duration { return &p.HeadTimeout }),
		row("connect-timeout", "connectTimeout", "10s", "time to connect to a destination",
			least, 10*time.Minute, func(p *Proxy) *time.Duration { return &p.ConnectTimeout }),
		row("dns-timeout", "dnsTimeout", "5s", "time to look a name up",
			least, time.Minute, func(p *Proxy) *time.Duration { return &p.DNSTimeout }),
		row("idle-timeout", "idleTimeout", "1h", "end a tunnel that carried nothing for so long; 0: never",
			0, 30*day, func(p *Proxy) *time.Duration { return &p.IdleTimeout }),
		row("keepalive-timeout", "keepaliveTimeout", "2m", "keep a client connection open between requests for so long",
			least, day, func(p *Proxy) *time.Duration { return &p.KeepAliveTimeout }),
		row("half-close-timeout", "halfCloseTimeout", "30s", "time for the server of a client that has ended its half to send a byte; 0: as --idle-timeout",
			0, day, func(p *Proxy) *time.Duration { return &p.HalfCloseTimeout }),
		{Setting{Flag: "min-rate", FileKey: "minRate", Default: "500", Value: "N",
			Help: "cut a client that sends or takes a body more slowly than so many octets a second, over 30 s in which it could; 0: never"},
			one(func(p *Proxy) *int { return &p.MinRate }, number(0, 1_000_000))},
		row("shutdown-delay", "shutdownDelay", "0s", "at SIGTERM, go on taking new connections for so long, while /readyz says no",
			0, time.Hour, func(p *Proxy) *time.Duration { return &p.ShutdownDelay }),
		row("drain-timeout", "drainTimeout", "30s", "time for open connections to end at SIGTERM",
			0, day, func(p *Proxy) *time.Duration { return &p.DrainTimeout }),
	}
}

func logSettings() []setting[Proxy] {
	return []setting[Proxy]{
		{Setting{Flag: "access-log", FileKey: "accessLog", Default: "-", Value: "PATH",
			Help: "write a line for each request to this file, - for standard output, or off"},
			one(func(p *Proxy) *string { return &p.AccessLog }, parseAccessLog)},
		{Setting{Flag: "access-log-format", FileKey: "accessLogFormat", Default: "json", Value: "FORMAT",
			Help: "json, squid or combined"},
			one(func(p *Proxy) *string { return &p.AccessLogFormat }, choice("json", "squid", "combined"))},
		{Setting{Flag: "log-level", FileKey: "logLevel", Default: "info", Value: "LEVEL",
			Help: "debug, info, warn or error"},
			one(func(p *Proxy) *slog.Level { return &p.LogLevel }, parseLevel)},
	}
}

// parseAccessLog takes a path, "-", or "off", which becomes "".
func parseAccessLog(s string) (string, error) {
	if s == "off" {
		return "", nil
	}
	return parsePath(s)
}
