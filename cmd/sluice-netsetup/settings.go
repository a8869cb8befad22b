package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/netsetup"
)

// configuration is what all settings say, checked.
type configuration struct {
	netsetup.Config
	MetricsFile string // "": none
	Debug       bool   // log each change
	Warnings    settings.Problems
	Written     settings.Written

	hold *holdSettings // of the command hold; nil: of the others
}

// settings is the table of c's settings. Those that name sources are read by load, one after
// the other.
func (c *configuration) settings() []settings.Setting {
	const live = settings.Reload
	groups := []settings.Group{{Settings: []settings.Setting{
		settings.ConfigFile(),
		{Flag: "mode", Egress: "EGRESS_ROUTER_MODE", Key: "mode", Default: "legacy", Value: "MODE", Change: settings.Restart,
			Help: "init, legacy, http-proxy, dns-proxy or unit-test",
			Into: settings.One(&c.Mode, netsetup.ParseMode)},
		{Flag: "source", Egress: "EGRESS_SOURCE", Key: "source", Value: "ADDR", List: true, Change: live,
			Help: "source address, ADDR or ADDR/LEN; may be given several times"},
		{Flag: "gateway", Egress: "EGRESS_GATEWAY", Key: "gateway", Value: "ADDR", List: true, Change: live,
			Help: "gateway, ADDR for each family or ADDR@SOURCE; may be given several times"},
		{Flag: "interface", Egress: "EGRESS_INTERFACE", Key: "interface", Value: "NAME", List: true, Change: live,
			Help: "egress interface, NAME or NAME@SOURCE (default macvlan0, or the one that carries the source, or the only macvlan)"},
		{Flag: "master", Egress: "EGRESS_MASTER", Key: "master", Value: "NAME", Change: live,
			Help: "make a macvlan on this interface when there is no egress interface",
			Into: settings.One(&c.Master, parseMaster)},
		{Flag: "keep-route", Key: "keepRoute", Value: "PREFIX", List: true, Change: live,
			Help: "a network of the cluster that goes on leaving by the pod's first default route, as its name servers do; may be given several times",
			Into: ofText(&c.KeepRoutes, netsetup.ParseKeepRoutes)},
		{Flag: "destinations", Egress: "EGRESS_DESTINATION", Key: "destinationsFile", Value: "FILE", Once: true, Change: live,
			Help: "read the redirect rules from this file (EGRESS_DESTINATION holds the rules themselves)"},
		{Key: "destinations", List: true, Change: live},
		{Flag: "probe", Key: "probe", Default: "true", Value: "BOOL", Change: live,
			Help: "ask whether another host has an address before it is brought here",
			Into: settings.One(&c.SkipProbe, parseProbe)},
		{Flag: "metrics-file", Key: "metricsFile", Value: "FILE", Change: live,
			Help: "in mode legacy, and with hold, keep counters in this file in the Prometheus text format",
			Into: settings.One(&c.MetricsFile, settings.Path)},
	}}}
	if c.hold != nil {
		groups = append(groups, c.hold.group())
	}
	return settings.Table(groups...)
}

// parseProbe is the opposite of a switch: the zero Config probes.
func parseProbe(s string) (skip bool, err error) {
	probe, err := settings.Bool(s)
	return !probe, err
}

func parseMaster(s string) (string, error) {
	if err := netsetup.CheckInterface(s); err != nil {
		return "", fmt.Errorf("EGRESS_MASTER invalid: %w", err)
	}
	return s, nil
}

// ofText is a setting whose values netsetup parses as one text.
func ofText[V any](place *V, parse func(text string) (V, []netsetup.Problem)) settings.Into {
	return settings.Into{Place: place, Read: func(vs []settings.Value, report func(settings.Problem)) {
		text, at := settings.Text(vs)
		got, ps := parse(text)
		for _, p := range ps {
			report(at(p.Line).Problem(p.Msg))
		}
		*place = got
	}}
}

// loader makes a configuration of what the sources say.
type loader struct {
	*settings.Loader
	in  settings.Input
	all []settings.Setting
	c   *configuration
}

// load makes the configuration. The error is [settings.Problems], with everything that is
// wrong; there is no configuration then.
func load(in settings.Input) (*configuration, error) { return loadInto(new(configuration), in) }

// loadInto fills c, which says of which command it is.
func loadInto(c *configuration, in settings.Input) (*configuration, error) {
	l := &loader{in: in, all: c.settings(), c: c}
	l.Loader = settings.NewLoader(in, l.all)
	c.Debug = l.Env("EGRESS_ROUTER_DEBUG") != ""
	l.Load()
	l.addresses()
	l.kept()
	if c.Mode.Redirects() {
		l.destinations()
	}
	if len(l.Problems) == 0 {
		l.together()
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	c.Warnings, c.Written = l.Warnings, l.Loader.Written()
	return c, nil
}

// pick is the setting of a flag.
func (l *loader) pick(flag string) settings.Setting { return settings.Pick(l.all, flag) }

// read has parse read what a setting says, of which nothing may be there.
func (l *loader) read(s settings.Setting, parse func(text string) []netsetup.Problem) {
	vs := l.Values(s)
	if len(vs) == 0 {
		vs = []settings.Value{l.At(s)}
	}
	text, at := settings.Text(vs)
	for _, p := range parse(text) {
		l.Report(at(p.Line).Problem(p.Msg))
	}
}

// addresses are the sources, with their gateways and interfaces. A file that could
// not be read may have had them: nothing is said of what is missing then.
func (l *loader) addresses() {
	unknown := func(s settings.Setting) bool { return len(l.Values(s)) == 0 && (l.Unread || l.Broken(s)) }
	broken := unknown(l.pick("source")) // what names a source may mean the one that is wrong
	switch {
	case l.ofPool():
		broken = len(l.Problems) > 0
	case !broken:
		l.read(l.pick("source"), func(text string) (ps []netsetup.Problem) {
			l.c.Sources, ps = netsetup.ParseSources(text)
			broken = len(ps) > 0
			return ps
		})
	}
	of := func(parse func(string, []netsetup.Source) []netsetup.Problem) func(string) []netsetup.Problem {
		return func(text string) []netsetup.Problem {
			if broken {
				return notOfSources(parse(text, nil))
			}
			return parse(text, l.c.Sources)
		}
	}
	switch s := l.pick("gateway"); {
	case unknown(s):
	case len(l.Values(s)) == 0:
		l.Report(l.At(s).Problem("EGRESS_GATEWAY unspecified or invalid: name the gateway of EGRESS_SOURCE"))
	default:
		l.read(s, of(netsetup.ParseGateways))
	}
	l.read(l.pick("interface"), of(netsetup.ParseInterfaces))
}

// notOfSources leaves out complaints about sources that are not there.
func notOfSources(ps []netsetup.Problem) []netsetup.Problem {
	return slices.DeleteFunc(ps, func(p netsetup.Problem) bool { return strings.HasSuffix(p.Msg, "is no EGRESS_SOURCE") })
}

// resolvConf has the name servers, which keep their way.
const resolvConf = "/etc/resolv.conf"

// serviceVariable has a service of the cluster, in each of its pods.
const serviceVariable = "KUBERNETES_SERVICE_HOST"

// kept is what goes on leaving as it does now, besides what a setting names.
func (l *loader) kept() {
	switch text, err := l.in.ReadFile(resolvConf); {
	case err == nil:
		l.c.Nameservers = netsetup.ParseNameservers(string(text))
	case !errors.Is(err, fs.ErrNotExist):
		l.Report(settings.Problem{Source: resolvConf, Msg: err.Error()})
	}
	if a, err := netip.ParseAddr(l.Env(serviceVariable)); err == nil {
		l.c.Service = a.Unmap()
	}
}

// destinations are the redirect rules: a file's, or the text of EGRESS_DESTINATION
// or of the configuration file.
func (l *loader) destinations() {
	named, inline := l.pick("destinations"), l.pick("")
	vs, texts := l.Values(named), l.FileValues(inline)
	switch {
	case len(vs) > 0 && len(texts) > 0 && vs[0].Source == l.Path:
		l.Report(vs[0].Problem(fmt.Sprintf("%q and %q are both given; keep one of them", inline.Key, named.Key)))
		return
	case len(vs) > 0 && vs[0].Source != named.Egress:
		v := vs[len(vs)-1]
		v.Text = strings.TrimSpace(v.Text)
		path, text, ok := l.ReadFile(v)
		if !ok {
			return
		}
		vs = []settings.Value{{Text: string(text), Source: path, Line: 1}}
	case len(vs) == 0:
		vs = texts
	}
	if len(vs) == 0 {
		if !l.Unread && !l.Broken(named) && !l.Broken(inline) {
			l.Report(l.At(named).Problem("EGRESS_DESTINATION unspecified: say where connections go, PORT PROTO IP or IP, one a line"))
		}
		return
	}
	ofText(&l.c.Destinations, netsetup.ParseDestinations).Read(vs, l.Report)
}

// together reports what settings, each right by itself, make wrong together.
func (l *loader) together() {
	l.checkPool()
	for _, p := range l.c.Check() {
		at := l.At(l.pick("source"))
		for _, flag := range []string{"destinations", "keep-route"} {
			if s := l.pick(flag); strings.HasPrefix(p.Msg, s.Env) || s.Egress != "" && strings.HasPrefix(p.Msg, s.Egress) {
				at = l.At(s)
			}
		}
		l.Report(settings.Problem{Source: at.Source, Msg: p.Msg})
	}
}
