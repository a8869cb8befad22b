// Package config is what the settings of the network-facing commands are: each mode has
// its file here, with its struct and its table of settings. Where they come from, and how
// they are told of, is the business of internal/settings. The package ends at cmd:
// components get what they use, not this.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// Common is what all modes have in their configuration.
type Common struct {
	Admin string // "HOST:PORT" with a literal address or no HOST; "": no admin port
	Pprof bool   // /debug/pprof on the admin port
	// AdminHosts are names that requests to the admin port may call it by.
	AdminHosts []string

	Policy *acl.Policy // what may be reached; nil: nothing, since there are only tenants' rules
	Guard  acl.GuardMode

	Sources []netip.Addr // to connect from; none: as the system chooses
	// KeepExpired says that rules go on when their day has passed.
	KeepExpired bool
	KeepOpen    bool             // what is open goes on when it would not be admitted any more
	Holder      string           // socket of sluice-kube hold; "": the sources are always here
	Resolvers   []netip.AddrPort // none: those of resolv.conf

	// Tenants have clients of their own, in the order in which they take them.
	Tenants []Tenant

	DNSTimeout    time.Duration // for a whole look-up
	ShutdownDelay time.Duration // that new connections are still taken for at the end, not ready; 0: none
	DrainTimeout  time.Duration // for open connections at the end; 0: none

	AccessLog string // path, "-" for standard output, "" for none
	LogLevel  slog.Level

	// Origin is where the rules, or the destinations, come from.
	Origin string
	// Broken is how many assertions did not hold when this was loaded, since a rule had expired.
	Broken int
	// Watch are the files whose change calls for a reload.
	Watch []string
	// Warnings are doubtful, and no reason not to start.
	Warnings settings.Problems
	// Written is how the user wrote each setting.
	Written settings.Written
}

// Shared is the part that all modes have.
func (c *Common) Shared() *Common { return c }

// RuleCount is how many rules there are, those of tenants among them.
func (c *Common) RuleCount() int {
	n := c.Policy.Len()
	for _, t := range c.Tenants {
		n += t.Policy.Len()
	}
	return n
}

// Learns reports whether what no rule decides is allowed.
func (c *Common) Learns() bool { return false }

// loaded notes what the loader knows when all is loaded.
func (c *Common) loaded(l *settings.Loader) {
	c.Watch, c.Warnings, c.Written = l.Watch, l.Warnings, l.Written()
}

// What puts a changed setting in force.
const (
	live  = settings.Reload
	fixed = settings.Restart
)

func (c *Common) adminSettings() []settings.Setting {
	return []settings.Setting{
		{Flag: "admin", Key: "admin", Default: "127.0.0.1:9090", Value: "ADDR", Change: fixed,
			Help: "serve health, metrics and status at this address, or off",
			Into: settings.One(&c.Admin, settings.ListenOrOff)},
		{Flag: "admin-host", Key: "adminHost", Value: "NAME", List: true, Change: fixed,
			Help: "answer at the admin address also those who call it by this name, not by an address or localhost; may be given several times",
			Into: settings.Many(&c.AdminHosts, parseHostName)},
		{Flag: "pprof", Key: "pprof", Default: "false", Change: fixed,
			Help: "serve /debug/pprof on the admin address",
			Into: settings.One(&c.Pprof, settings.Bool)},
	}
}

func (c *Common) outboundSettings() []settings.Setting {
	return []settings.Setting{
		{Flag: "source", Egress: "EGRESS_SOURCE", Key: "source", Value: "ADDR", List: true, Change: live,
			Help: "connect from this address, ADDR or ADDR/LEN; several for IPv4 and IPv6",
			Into: settings.Many(&c.Sources, parseSource)},
		{Flag: "holder", Key: "holder", Value: "FILE", Change: fixed,
			Help: "learn which source addresses are held here for now from sluice-kube hold at this Unix socket",
			Into: settings.One(&c.Holder, settings.Path)},
		{Flag: "resolver", Key: "resolver", Value: "ADDR", List: true, Change: fixed,
			Help: "ask this DNS server, ADDR or ADDR:PORT, instead of those of resolv.conf",
			Into: settings.Many(&c.Resolvers, parseResolver)},
	}
}

func (c *Common) guardSetting(help string) settings.Setting {
	return settings.Setting{Flag: "guard", Key: "guard", Default: acl.GuardDefault.String(), Value: "MODE", Change: live,
		Help: help, Into: settings.One(&c.Guard, acl.ParseGuardMode)}
}

func (c *Common) revokeSetting(def string) settings.Setting {
	return settings.Setting{Flag: "on-revoke", Key: "onRevoke", Default: def, Value: "WHAT", Change: live,
		Help: "what becomes of open requests and tunnels that the policy in force would not admit any more: close or keep",
		Into: settings.One(&c.KeepOpen, parseOnRevoke)}
}

func parseOnRevoke(s string) (keep bool, err error) {
	if s != "close" && s != "keep" {
		return false, fmt.Errorf("%q is neither close nor keep", s)
	}
	return s == "keep", nil
}

func (c *Common) dnsSetting() settings.Setting {
	return within("dns-timeout", "dnsTimeout", "5s", fixed, "time to look a name up", moment, time.Minute, &c.DNSTimeout)
}

func (c *Common) endSettings() []settings.Setting {
	return []settings.Setting{
		within("shutdown-delay", "shutdownDelay", "0s", live, "at SIGTERM, go on taking new connections for so long, while /readyz says no",
			0, time.Hour, &c.ShutdownDelay),
		within("drain-timeout", "drainTimeout", "30s", live, "time for open connections to end at SIGTERM",
			0, day, &c.DrainTimeout),
	}
}

func (c *Common) accessLogSetting(def, help string) settings.Setting {
	return settings.Setting{Flag: "access-log", Key: "accessLog", Default: def, Value: "PATH", Change: fixed,
		Help: help, Into: settings.One(&c.AccessLog, parseAccessLog)}
}

func (c *Common) logLevelSetting() settings.Setting {
	return settings.Setting{Flag: "log-level", Key: "logLevel", Default: "info", Value: "LEVEL", Change: fixed,
		Help: "debug, info, warn or error", Into: settings.One(&c.LogLevel, settings.Level)}
}

const moment, day = time.Millisecond, 24 * time.Hour

// within is a setting of a duration.
func within(flag, key, def string, change settings.Change, help string, least, most time.Duration, place *time.Duration) settings.Setting {
	return settings.Setting{Flag: flag, Key: key, Default: def, Value: "DURATION", Change: change, Help: help,
		Into: settings.One(place, settings.Duration(least, most))}
}

// count is a setting of a number.
func count(flag, key, def string, change settings.Change, help string, least, most int, place *int) settings.Setting {
	return settings.Setting{Flag: flag, Key: key, Default: def, Value: "N", Change: change, Help: help,
		Into: settings.One(place, settings.Number(least, most))}
}

// ofRules are the problems of a rule text; err is what acl returned for it.
func ofRules(source string, err error) settings.Problems {
	pe, ok := errors.AsType[*acl.ParseError](err)
	if !ok {
		return settings.Problems{{Source: source, Msg: err.Error()}}
	}
	return fromACL(pe.Problems)
}

func fromACL(aps []acl.Problem) settings.Problems {
	var ps settings.Problems
	for _, p := range aps {
		ps = append(ps, settings.Problem{Source: p.Source, Line: p.Line, Msg: p.Msg})
	}
	return ps
}
