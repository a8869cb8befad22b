package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sluiceproxy/sluice/internal/spelling"
	"github.com/sluiceproxy/sluice/netsetup"
)

// input is where settings come from.
type input struct {
	flags    *pflag.FlagSet
	environ  []string // as os.Environ has it; a variable that is empty counts as not set
	readFile func(path string) ([]byte, error)
}

// settings are all of them, checked.
type settings struct {
	netsetup.Config
	MetricsFile string // "": none
	Debug       bool   // log each change
}

// setting is one setting and its names. The names are those of internal/config,
// where both programs have a setting.
type setting struct {
	flag, egress, key string
	value, help       string
	list              bool // of a flag that is given several times, all count
}

const (
	envPrefix = "SLUICE_"
	ofTCPMode = "SLUICE_DESTINATION" // a setting of sluice tcp; ours is SLUICE_DESTINATIONS
)

// env is the setting's own variable.
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_"))
}

// The settings. That of the destinations themselves has no flag.
var (
	setConfig       = setting{flag: "config", value: "FILE", help: "read settings from this YAML file"}
	setMode         = setting{flag: "mode", egress: "EGRESS_ROUTER_MODE", key: "mode", value: "MODE", help: "init, legacy, http-proxy, dns-proxy or unit-test (default legacy)"}
	setSource       = setting{flag: "source", egress: "EGRESS_SOURCE", key: "source", value: "ADDR", help: "source address, ADDR or ADDR/LEN; may be given several times", list: true}
	setGateway      = setting{flag: "gateway", egress: "EGRESS_GATEWAY", key: "gateway", value: "ADDR", help: "gateway, ADDR for each family or ADDR@SOURCE; may be given several times", list: true}
	setInterface    = setting{flag: "interface", egress: "EGRESS_INTERFACE", key: "interface", value: "NAME", help: "egress interface, NAME or NAME@SOURCE (default macvlan0, or the one that carries the source, or the only macvlan)", list: true}
	setMaster       = setting{flag: "master", egress: "EGRESS_MASTER", key: "master", value: "NAME", help: "make a macvlan on this interface when there is no egress interface"}
	setKeepRoute    = setting{flag: "keep-route", key: "keepRoute", value: "PREFIX", help: "a network of the cluster that goes on leaving by the pod's first default route, as its name servers do; may be given several times", list: true}
	setDestinations = setting{flag: "destinations", egress: "EGRESS_DESTINATION", key: "destinationsFile", value: "FILE", help: "read the redirect rules from this file (EGRESS_DESTINATION holds the rules themselves)"}
	setRules        = setting{key: "destinations"}
	setProbe        = setting{flag: "probe", key: "probe", value: "BOOL", help: "ask whether another host has an address before it is brought here (default true)"}
	setMetrics      = setting{flag: "metrics-file", key: "metricsFile", value: "FILE", help: "in mode legacy, keep counters in this file in the Prometheus text format"}

	allSettings = []setting{setConfig, setMode, setSource, setGateway, setInterface, setMaster, setKeepRoute, setDestinations, setRules, setProbe, setMetrics}
)

func addFlags(fs *pflag.FlagSet) {
	for _, s := range allSettings {
		if s.flag != "" {
			fs.VarPF(&flagText{kind: s.value, once: s.flag == setConfig.flag || s.flag == setDestinations.flag}, s.flag, "", s.help)
		}
	}
}

// flagText is a flag's text as given; all settings are judged together.
type flagText struct {
	texts []string
	kind  string
	once  bool // there can be one
}

func (f *flagText) String() string { return strings.Join(f.texts, " ") }
func (f *flagText) Type() string   { return f.kind }

// Set takes the text. A file that is read is not to be named twice: what the first
// holds would be lost without a word.
func (f *flagText) Set(text string) error {
	if f.once && len(f.texts) > 0 && f.texts[0] != text {
		return fmt.Errorf("%s was given already, and there can be one", f.texts[0])
	}
	f.texts = append(f.texts, text)
	return nil
}

// value is a setting's text with where it stands.
type value struct {
	text   string
	source string        // "--source", "EGRESS_SOURCE", or the file's path
	line   func(int) int // where a line of the text is in the source; 0: it has but one
	inFile bool          // it stands in the configuration file
	set    bool          // some source says something
}

// loader gathers what the sources say.
type loader struct {
	in       input
	env      map[string]string
	path     string           // of the configuration file, or ""
	unread   bool             // there is one, and nobody knows what it says
	file     map[string]value // by key
	problems problems
}

func (l *loader) report(v value, line int, msg string) {
	if v.line != nil {
		line = v.line(line)
	}
	l.problems = append(l.problems, problem{v.source, line, msg})
}

// get is what the winning source says: flag, environment, file. Where nobody says
// anything, the value is not set and names the variable.
func (l *loader) get(s setting) value {
	if s.flag != "" && l.in.flags != nil && l.in.flags.Changed(s.flag) {
		if f, ok := l.in.flags.Lookup(s.flag).Value.(*flagText); ok {
			texts := f.texts
			if !s.list {
				texts = texts[len(texts)-1:]
			}
			return value{text: strings.Join(texts, " "), source: "--" + s.flag, line: oneLine, set: true}
		}
	}
	own, isOwn := l.env[s.env()]
	egress, isEgress := l.env[s.egress]
	if s.flag != "" && isOwn && isEgress {
		l.problems = append(l.problems, problem{s.env(), 0, s.egress + " is set as well; keep one of them"})
	}
	switch {
	case s.flag != "" && isOwn:
		return value{text: own, source: s.env(), line: linesOf(own), set: true}
	case isEgress:
		return value{text: egress, source: s.egress, line: linesOf(egress), set: true}
	}
	if v, ok := l.file[s.key]; ok {
		return v
	}
	return value{source: s.egress, line: oneLine}
}

func oneLine(int) int { return 0 }

// linesOf are the lines of a variable, when it has several.
func linesOf(text string) func(int) int {
	if strings.Contains(strings.TrimSuffix(text, "\n"), "\n") {
		return func(n int) int { return n }
	}
	return oneLine
}

// load makes the settings. The error is problems, with everything that is wrong.
func load(in input) (*settings, error) {
	l := &loader{in: in, env: map[string]string{}}
	for _, kv := range in.environ {
		name, text, _ := strings.Cut(kv, "=")
		if delete(l.env, name); text != "" { // as for a process, the last one counts
			l.env[name] = text
		}
	}
	if v := l.get(setConfig); v.set {
		l.readConfig(v)
	}
	c := &settings{Debug: l.env["EGRESS_ROUTER_DEBUG"] != ""}
	l.variables()
	l.mode(c)
	l.addresses(c)
	l.kept(c)
	if c.Mode.Redirects() {
		l.destinations(c)
	}
	l.rest(c)
	if len(l.problems) == 0 {
		for _, p := range c.Check() {
			source := "EGRESS_SOURCE"
			for _, other := range []string{"EGRESS_DESTINATION", setKeepRoute.env()} {
				if strings.HasPrefix(p.Msg, other) {
					source = other
				}
			}
			l.problems = append(l.problems, problem{source, 0, p.Msg})
		}
	}
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return c, nil
}

// variables refuses those that are a misspelt setting of ours. Others with our
// prefix may be the proxy's: containers of a pod often share an environment.
func (l *loader) variables() {
	var known []string
	for _, s := range allSettings {
		if s.flag != "" {
			known = append(known, s.env())
		}
	}
	for name := range l.env {
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || name == ofTCPMode {
			continue
		}
		if meant := spelling.Closest(envPrefix, name, known); meant != "" {
			l.problems = append(l.problems, problem{name, 0, "no such setting; did you mean " + meant + "?"})
		}
	}
	slices.SortFunc(l.problems, func(a, b problem) int { return strings.Compare(a.source, b.source) })
}

func (l *loader) mode(c *settings) {
	c.Mode = netsetup.Legacy
	if v := l.get(setMode); v.set {
		mode, err := netsetup.ParseMode(strings.TrimSpace(v.text))
		if err != nil {
			l.report(v, 1, err.Error())
		}
		c.Mode = mode
	}
}

// addresses are the sources, with their gateways and interfaces. A file that could
// not be read may have had them: nothing is said of what is missing then.
func (l *loader) addresses(c *settings) {
	add := func(v value, ps []netsetup.Problem) {
		if !v.set && l.unread {
			return
		}
		for _, p := range ps {
			l.report(v, p.Line, p.Msg)
		}
	}
	var ps []netsetup.Problem
	v := l.get(setSource)
	c.Sources, ps = netsetup.ParseSources(v.text)
	add(v, ps)
	broken := len(ps) > 0 // what names a source may mean the one that is wrong
	v = l.get(setGateway)
	switch {
	case !v.set:
		add(v, []netsetup.Problem{{Line: 1, Msg: "EGRESS_GATEWAY unspecified or invalid: name the gateway of EGRESS_SOURCE"}})
	case broken:
		add(v, notOfSources(netsetup.ParseGateways(v.text, nil)))
	default:
		add(v, netsetup.ParseGateways(v.text, c.Sources))
	}
	v = l.get(setInterface)
	if broken {
		add(v, notOfSources(netsetup.ParseInterfaces(v.text, nil)))
	} else {
		add(v, netsetup.ParseInterfaces(v.text, c.Sources))
	}
}

// resolvConf has the name servers, which keep their way.
const resolvConf = "/etc/resolv.conf"

// serviceVariable has a service of the cluster, in each of its pods.
const serviceVariable = "KUBERNETES_SERVICE_HOST"

// kept is what goes on leaving as it does now.
func (l *loader) kept(c *settings) {
	if v := l.get(setKeepRoute); v.set {
		var ps []netsetup.Problem
		c.KeepRoutes, ps = netsetup.ParseKeepRoutes(v.text)
		for _, p := range ps {
			l.report(v, p.Line, p.Msg)
		}
	}
	switch text, err := l.in.readFile(resolvConf); {
	case err == nil:
		c.Nameservers = netsetup.ParseNameservers(string(text))
	case !errors.Is(err, fs.ErrNotExist):
		l.problems = append(l.problems, problem{source: resolvConf, msg: err.Error()})
	}
	if a, err := netip.ParseAddr(l.env[serviceVariable]); err == nil {
		c.Service = a.Unmap()
	}
}

// notOfSources leaves out complaints about sources that are not there.
func notOfSources(ps []netsetup.Problem) []netsetup.Problem {
	return slices.DeleteFunc(ps, func(p netsetup.Problem) bool { return strings.HasSuffix(p.Msg, "is no EGRESS_SOURCE") })
}

// destinations are the redirect rules: a file's, or the text of EGRESS_DESTINATION
// or of the configuration file.
func (l *loader) destinations(c *settings) {
	v, inline := l.get(setDestinations), l.file[setRules.key]
	switch {
	case v.inFile && inline.set:
		l.report(v, 1, `"destinations" and "destinationsFile" are both given; keep one of them`)
		return
	case !v.set && inline.set:
		v = inline
	case v.set && v.source != setDestinations.egress:
		var ok bool
		if v, ok = l.read(v); !ok {
			return
		}
	}
	if !v.set {
		if !l.unread {
			l.report(v, 1, "EGRESS_DESTINATION unspecified: say where connections go, PORT PROTO IP or IP, one a line")
		}
		return
	}
	ds, ps := netsetup.ParseDestinations(v.text)
	for _, p := range ps {
		l.report(v, p.Line, p.Msg)
	}
	c.Destinations = ds
}

func (l *loader) rest(c *settings) {
	if v := l.get(setMaster); v.set {
		c.Master = strings.TrimSpace(v.text)
		if err := netsetup.CheckInterface(c.Master); err != nil {
			l.report(v, 1, "EGRESS_MASTER invalid: "+err.Error())
		}
	}
	if v := l.get(setProbe); v.set {
		probe, err := strconv.ParseBool(strings.TrimSpace(v.text))
		if err != nil {
			l.report(v, 1, fmt.Sprintf("%q is neither true nor false", v.text))
		}
		c.SkipProbe = !probe
	}
	if v := l.get(setMetrics); v.set {
		if c.MetricsFile = strings.TrimSpace(v.text); c.MetricsFile == "" {
			l.report(v, 1, `"" is no file name`)
		}
	}
}

// read is what the file that v names holds.
func (l *loader) read(v value) (value, bool) {
	path := strings.TrimSpace(v.text)
	if v.inFile && !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(l.path), path)
	}
	text, err := l.in.readFile(path)
	if err != nil {
		l.report(v, 1, err.Error())
		return v, false
	}
	return value{text: string(text), source: path, line: func(n int) int { return n }, set: true}, true
}
