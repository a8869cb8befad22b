package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Proxy is the configuration of "sluice proxy". All of it has been checked.
type Proxy struct {
	Common

	Listen []string // "HOST:PORT" with a literal address or no HOST; never empty

	ListenTLS         []string       // the same for clients that come by TLS
	Keys              *Keys          // for those; nil: there are none
	ListenSOCKS       []string       // the same for clients that speak SOCKS 5
	ProxyProtocolFrom []netip.Prefix // peers whose connections begin with a PROXY protocol header

	Rules RuleText // what Policy is made of
	// ShadowRules are judged by beside them, and change nothing.
	ShadowRules RuleText
	Shadow      *acl.Policy // of ShadowRules; nil: there are none
	// Learn says that what no rule decides is allowed, and Learned is Policy with that; nil where
	// clients of no tenant are refused, or nothing is learned.
	Learn     bool
	Learned   *acl.Policy
	HideRules bool   // error pages and status lines don't show the rule
	Contact   string // whom to ask, for error pages; "": nobody is named

	TunnelCheck  policy.TunnelCheck
	Authenticate policy.Mode
	Users        *auth.Users // nil: there is no usersFile

	Directory       string        // socket of sluice-kube; "": nobody says which pod has an address
	DirectoryWait   time.Duration // for the news of a pod that a client comes from
	DirectoryMaxAge time.Duration // after which what was heard is not believed any more

	Inspect *policy.Inspect // what requests may do where they may go; nil: whatever they like
	Parents *policy.Parents // proxies that requests go by; nil: none
	// RequireEnd says that rules which do not end in the line `#@ end` are wrong.
	RequireEnd bool
	LogQuery   bool // the access log has the queries of requests to those hosts, too

	UpstreamCA   []byte // PEM: roots besides the system's, for absolute-form https; nil: none
	ForwardedFor bool   // add X-Forwarded-For

	MaxHead           int // octets of a request head
	MaxFields         int // fields of a request head
	MaxAnswerHead     int // octets of an answer's head
	MaxAnswerFields   int // fields of an answer's head
	MaxConns          int // open client connections; 0: as many as the descriptor limit allows
	MaxConnsPerClient int // of one client address; 0: no limit of its own

	MaxHandshakesPerClient int // of one client address, a second, beside other clients; 0: no limit

	HeadTimeout      time.Duration // to send a head
	ConnectTimeout   time.Duration // to connect to a destination, all addresses together
	IdleTimeout      time.Duration // of a tunnel without bytes; 0: for ever
	KeepAliveTimeout time.Duration // of a client connection between requests
	HalfCloseTimeout time.Duration // of the server of a half-closed client, without a byte; 0: as IdleTimeout
	MinRate          int           // octets a second at which a body must move to and from a client; 0: any

	AccessLogFormat string // "json", "squid" or "combined"
}

// ProxySettings describes every setting of "sluice proxy", in the order of the help.
func ProxySettings() []settings.Setting { return new(Proxy).settings() }

// Fixed is what p says that only a restart puts in force.
func (p *Proxy) Fixed() settings.Fixed { return settings.FixedOf(p.settings()) }

// Values is what p says, by the name of each setting that has a value of its own: not of files and blocks.
func (p *Proxy) Values() map[string]any { return settings.ValuesOf(p.settings()) }

// NeedRestart names what is not as at the start, and wants a restart, as the user wrote it.
func (p *Proxy) NeedRestart(start settings.Fixed) []string {
	return p.Written.NeedRestart(start, p.settings())
}

// LoadProxy makes the configuration of "sluice proxy". The error is [settings.Problems]
// with everything that is wrong; there is no configuration then.
func LoadProxy(in settings.Input) (*Proxy, error) {
	p := &Proxy{}
	all := p.settings()
	l := settings.NewLoader(in, all)
	l.Load()
	tenants := l.Block(tenantsSetting()) != nil
	p.Rules, p.Policy = rules(l, settings.Pick(all, "rules"), rulesText, !tenants && !p.Learn)
	p.ShadowRules, p.Shadow = rules(l, settings.Pick(all, "shadow-rules"), shadowText, false)
	p.Users = users(l, settings.Pick(all, "users-file"))
	p.Keys = p.keys(l, all)
	p.apart(l, all)
	p.authenticates(l, all)
	given := func(flag string) bool { return len(l.Values(settings.Pick(all, flag))) > 0 }
	inspect, authority := inspectReader{nodes: nodes{l}}.read(l.Block(inspectSetting()))
	p.Inspect = inspect
	listen := slices.Concat(p.Listen, p.ListenTLS, p.ListenSOCKS)
	p.Parents = parentsReader{nodes: nodes{l}, listen: listen, own: p.Sources}.read(l.Block(parentsSetting()))
	p.tenants(l, Tenant{listen: listen, authority: authority, users: p.Users, authenticate: p.Authenticate, directory: p.Directory != "",
		passwords: given("users-file"), certificates: given("client-ca"), Guard: p.Guard, HideRules: p.HideRules, Contact: p.Contact})
	p.learn(l, all)
	p.UpstreamCA = roots(l, settings.Pick(all, "upstream-ca"))
	if slices.Contains(listen, p.Admin) && portOf(p.Admin) != "0" {
		at := settings.Value{Source: "--admin"}
		if vs := l.Values(settings.Pick(all, "admin")); len(vs) > 0 {
			at = vs[0]
		}
		l.Report(at.Problem(fmt.Sprintf("%s is where the proxy listens already", p.Admin)))
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	l.Warnings = append(l.Warnings, fromACL(p.Policy.Warnings())...)
	l.Warnings = append(l.Warnings, fromACL(p.Shadow.Warnings())...)
	p.warnParents(l)
	p.requireEnds(l)
	p.prove(l, p.Policy, p.Guard)
	for _, t := range p.Tenants {
		p.prove(l, t.Policy, t.Guard)
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	p.Origin = p.Rules.Source
	if tenants {
		p.Origin = strings.Trim(l.Path+", "+p.Origin, ", ")
	}
	p.loaded(l)
	return p, nil
}

// requireEnds refuses rules of which it is not known that they are whole, if that is asked for.
func (p *Proxy) requireEnds(l *settings.Loader) {
	if !p.RequireEnd {
		return
	}
	said := map[string]bool{}
	look := func(policy *acl.Policy, origin string) {
		if source, some := policy.Unended(); some && !said[cmp.Or(source, origin)] {
			source = cmp.Or(source, origin)
			said[source] = true
			l.Report(settings.Problem{Source: source, Msg: `the rules do not end in the line "#@ end", which requireEnd asks for: they may be cut off; add the line, or get them whole`})
		}
	}
	look(p.Policy, p.Rules.Source)
	look(p.Shadow, p.ShadowRules.Source)
	for _, t := range p.Tenants {
		look(t.Policy, t.Rules.Source)
		look(t.Shadow, t.Name)
	}
}

// roots reads the certificates of --upstream-ca, or those of another setting.
func roots(l *settings.Loader, s settings.Setting) []byte {
	var all []byte
	vs := l.Values(s)
	if len(vs) == 1 && vs[0].Source == s.Env {
		vs = settings.Words(vs)
	}
	for _, v := range vs {
		path, pem, ok := l.ReadFile(v)
		if ok {
			if err := certificates(pem); err != nil {
				l.Report(v.Problem(fmt.Sprintf("%s %v", path, err)))
			}
		}
		if len(all) > 0 && all[len(all)-1] != '\n' {
			all = append(all, '\n')
		}
		all = append(all, pem...)
	}
	return all
}

// settings is the table of p's settings.
func (p *Proxy) settings() []settings.Setting {
	return settings.Table(
		settings.Group{Title: "Listening", Settings: p.listenSettings()},
		settings.Group{Title: "Policy", Settings: p.policySettings()},
		settings.Group{Title: "Outbound", Settings: append(p.outboundSettings(),
			settings.Setting{Flag: "upstream-ca", Key: "upstreamCA", Value: "FILE", List: true, Change: fixed,
				Help: "trust these PEM certificates too when a client asks for https://… in plain",
				Into: settings.Into{Place: &p.UpstreamCA}},
			settings.Setting{Flag: "forwarded-for", Key: "forwardedFor", Default: "false", Change: fixed,
				Help: "tell destinations the client's address in X-Forwarded-For",
				Into: settings.One(&p.ForwardedFor, settings.Bool)})},
		settings.Group{Title: "Limits", Settings: p.limitSettings()},
		settings.Group{Title: "Time-outs", Settings: append(p.timeoutSettings(), p.endSettings()...)},
		settings.Group{Title: "Logs", Settings: []settings.Setting{
			p.accessLogSetting("-", "write a line for each request to this file, - for standard output, or off"),
			{Flag: "access-log-format", Key: "accessLogFormat", Default: "json", Value: "FORMAT", Change: fixed,
				Help: "json, squid or combined",
				Into: settings.One(&p.AccessLogFormat, settings.Choice("json", "squid", "combined"))},
			p.logLevelSetting(),
		}},
	)
}

func (p *Proxy) listenSettings() []settings.Setting {
	return append([]settings.Setting{
		settings.ConfigFile(),
		{Flag: "listen", Key: "listen", Default: ":8080", Value: "ADDR", List: true, Change: fixed,
			Help: "accept clients at this address; may be given several times",
			Into: settings.Many(&p.Listen, settings.Listen)},
	}, append(p.tlsSettings(), p.adminSettings()...)...)
}

// rulesText is the rules themselves, in the file.
var rulesText = settings.Setting{Key: "rules", Value: "TEXT", Change: live, Help: "the rules themselves"}

// shadowText is the shadow rules themselves, in the file.
var shadowText = settings.Setting{Key: "shadowRules", Value: "TEXT", Change: live, Help: "the shadow rules themselves"}

func (p *Proxy) policySettings() []settings.Setting {
	all := []settings.Setting{
		{Flag: "rules", Egress: rulesVariable, Key: "rulesFile", Value: "FILE", List: true, Change: live,
			Help: "read the rules from this file; several are one list, in the order given (EGRESS_HTTP_PROXY_DESTINATION holds the rules themselves)"},
		rulesText,
		{Flag: "shadow-rules", Key: "shadowRulesFile", Value: "FILE", List: true, Change: live,
			Help: "judge by the rules of this file too, and say what they would change, which is all that they do; several are one list"},
		shadowText,
		p.learnSetting(),
		tenantsSetting(),
	}
	return append(append(append(all, p.inspectSettings()...), parentsSetting()), []settings.Setting{
		{Flag: "authenticate", Key: "authenticate", Default: "off", Value: "MODE", Change: live,
			Help: "ask clients who they are (Proxy-Authorization): off, optional or required",
			Into: settings.One(&p.Authenticate, policy.ParseMode)},
		{Flag: "directory", Key: "directory", Value: "FILE", Change: fixed,
			Help: "learn which pod has an address, and whose a token is, from sluice-kube at this Unix socket",
			Into: settings.One(&p.Directory, settings.Path)},
		within("directory-wait", "directoryWait", "1s", fixed, "wait for the news of a pod that a client comes from for so long", 0, 10*time.Second, &p.DirectoryWait),
		within("directory-max-age", "directoryMaxAge", "5m", fixed, "know no pod any more when nothing was heard for so long", time.Second, day, &p.DirectoryMaxAge),
		{Flag: "users-file", Key: "usersFile", Value: "FILE", Change: live,
			Help: "read users and passwords from this file: lines of htpasswd -B"},
		{Flag: "tunnel-check", Key: "tunnelCheck", Default: "off", Value: "MODE", Change: live,
			Help: "judge what a client sends first through a tunnel: a TLS server name must be the one asked for, or one that the rules allow, and at port 443 it must be TLS, unless #@ protocol= says otherwise: off, log or enforce",
			Into: settings.One(&p.TunnelCheck, policy.ParseTunnelCheck)},
		p.guardSetting("deny loopback, link-local and own addresses (default), all special ranges (strict), or none (off)"),
		p.revokeSetting("close"),
		p.expiredSetting(),
		{Flag: "require-end", Key: "requireEnd", Default: "false", Change: live,
			Help: `refuse rules, of tenants and in the shadow too, whose text does not end in the line "#@ end": it may be cut off`,
			Into: settings.One(&p.RequireEnd, settings.Bool)},
		{Flag: "hide-rules", Key: "hideRules", Default: "false", Change: live,
			Help: "do not show clients the rule that denied them",
			Into: settings.One(&p.HideRules, settings.Bool)},
		{Flag: "contact", Key: "contact", Value: "TEXT", Change: live,
			Help: "whom to ask about a denied request, shown on error pages",
			Into: settings.One(&p.Contact, settings.Line)},
	}...)
}

func (p *Proxy) limitSettings() []settings.Setting {
	const million = 1 << 20
	size := func(flag, key, def, help string, place *int) settings.Setting {
		return settings.Setting{Flag: flag, Key: key, Default: def, Value: "SIZE", Change: fixed, Help: help,
			Into: settings.One(place, settings.Size(1<<10, 1<<20))}
	}
	return []settings.Setting{
		size("max-head", "maxHead", "64KiB", "greatest request head", &p.MaxHead),
		count("max-fields", "maxFields", "256", fixed, "greatest number of fields in a request head", 1, 10000, &p.MaxFields),
		size("max-answer-head", "maxAnswerHead", "256KiB",
			"greatest head of an answer, and greatest size of the interim ones before it, all together", &p.MaxAnswerHead),
		count("max-answer-fields", "maxAnswerFields", "1000", fixed, "greatest number of fields in an answer's head", 1, 10000, &p.MaxAnswerFields),
		count("max-conns", "maxConns", "0", fixed, "greatest number of open client connections; 0: what the descriptor limit allows",
			0, million, &p.MaxConns),
		count("max-conns-per-client", "maxConnsPerClient", "0", live, "the same for each client address; 0: no limit of its own",
			0, million, &p.MaxConnsPerClient),
		count("max-handshakes-per-client", "maxHandshakesPerClient", "100", live,
			"handshakes of TLS a second of each client address while there are other clients, on the average; more wait, a second at most; 0: no limit",
			0, million, &p.MaxHandshakesPerClient),
	}
}

func (p *Proxy) timeoutSettings() []settings.Setting {
	return []settings.Setting{
		within("head-timeout", "headTimeout", "30s", fixed, "time for a client to send a request head",
			moment, time.Hour, &p.HeadTimeout),
		within("connect-timeout", "connectTimeout", "10s", fixed, "time to connect to a destination",
			moment, 10*time.Minute, &p.ConnectTimeout),
		p.dnsSetting(),
		within("idle-timeout", "idleTimeout", "1h", fixed, "end a tunnel that carried nothing for so long; 0: never",
			0, 30*day, &p.IdleTimeout),
		within("keepalive-timeout", "keepaliveTimeout", "2m", fixed, "keep a client connection open between requests for so long",
			moment, day, &p.KeepAliveTimeout),
		within("half-close-timeout", "halfCloseTimeout", "30s", fixed,
			"time for the server of a client that has ended its half to send a byte; 0: as --idle-timeout",
			0, day, &p.HalfCloseTimeout),
		count("min-rate", "minRate", "500", fixed,
			"cut a client that sends or takes a body more slowly than so many octets a second, over 30 s in which it could; 0: never",
			0, 1_000_000, &p.MinRate),
	}
}

// parseAccessLog takes a path, "-", or "off", which becomes "".
func parseAccessLog(s string) (string, error) {
	if s == "off" {
		return "", nil
	}
	return settings.Path(s)
}
