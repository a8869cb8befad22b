package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

const (
	destinationVariable = "EGRESS_DNS_PROXY_DESTINATION"
	debugVariable       = "EGRESS_DNS_PROXY_DEBUG"
)

// serviceVariables are those of the community image "generic TCP proxy".
const (
	serviceName     = "SERVICE_NAME"
	serviceTCPPort  = "SERVICE_TCP_PORT"
	serviceDest     = "SERVICE_DEST"
	serviceDestPort = "SERVICE_DEST_PORT"
)

// destinations gathers the listeners of a [TCP].
type destinations struct {
	nodes
	c *TCP
}

// load finds the destinations where they are said: by flags, else in the
// environment, else in the file.
func (d *destinations) load(all []settings.Setting) {
	lines, list := settings.Pick(all, "destination"), settings.Pick(all, "")
	inFile := len(d.FileValues(lines)) > 0 || d.Block(list) != nil
	before := len(d.Problems)
	service := d.Env(serviceDest) != ""
	v, variable := settings.Value{}, false
	if d.FlagValues(lines) == nil {
		v, variable = d.Variable(lines)
	}
	switch {
	case d.FlagValues(lines) != nil:
		d.c.Origin = "--" + lines.Flag
		d.lines(d.FlagValues(lines))
	case variable && service:
		d.Report(settings.Problem{Source: serviceDest, Msg: v.Source + " is set as well; keep one of them"})
	case variable:
		d.c.Origin = v.Source
		d.lines([]settings.Value{v})
	case service:
		d.c.Origin = serviceDest
		d.service()
	case inFile:
		d.c.Origin = d.Path
		d.lines(d.FileValues(lines))
		d.list(d.Block(list))
	}
	if inFile && d.c.Origin != d.Path {
		d.Warn(settings.Problem{Source: d.Path, Msg: "its destinations are not used: " + d.c.Origin + " wins"})
	}
	if len(d.c.Listeners) == 0 && len(d.Problems) == before && !d.Unread && !(d.Broken(lines) && !inFile) {
		d.Report(settings.Problem{Source: destinationVariable, Msg: "Must specify " + destinationVariable +
			": one PORT HOST [REMOTEPORT] a line, or the list tcp in a file named with --config"})
	}
	d.unique()
	d.c.Policy = policyOf(d.c.Listeners)
}

// lines reads PORT HOST [REMOTEPORT], one a line.
func (d *destinations) lines(vs []settings.Value) {
	for _, v := range vs {
		v.Text = strings.TrimPrefix(v.Text, "\ufeff")
		for _, line := range settings.Lines([]settings.Value{v}) {
			d.line(line, line.Text)
		}
	}
}

// line reads one line. What an error quotes is the line without the space and
// the comment around it, as the original does.
func (d *destinations) line(at settings.Value, line string) {
	var fields []string
	for _, f := range strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' }) {
		if strings.HasPrefix(f, "#") {
			break
		}
		fields = append(fields, f)
	}
	if len(fields) == 0 {
		return
	}
	bad := func(why string) {
		d.Report(at.Problem(fmt.Sprintf("Bad destination '%s': %s", strings.Join(fields, " "), why)))
	}
	switch meant := meantLine(fields); {
	case meant != "":
		bad("want PORT HOST [REMOTEPORT], as in: " + meant)
		return
	case len(fields) < 2 || len(fields) > 3:
		bad("want PORT HOST [REMOTEPORT]")
		return
	case !isNumber(fields[0]):
		bad("PORT is not a number")
		return
	case len(fields) == 3 && !isNumber(fields[2]):
		bad("REMOTEPORT is not a number")
		return
	}
	port, ok := d.port(at, fields[0])
	remote := port
	if len(fields) == 3 {
		var okRemote bool
		remote, okRemote = d.port(at, fields[2])
		ok = ok && okRemote
	}
	host, err := parseDestinationHost(fields[1])
	if err != nil {
		bad(err.Error())
		return
	}
	if ok {
		d.add(at, port, []acl.Target{{Host: host, Port: remote}}, "")
	}
}

// unusedVariables are those of the community image that say nothing here, and what
// does instead; see docs/migrate.md.
var unusedVariables = []struct{ name, instead string }{
	{"CONFIG_FILE", "haproxy's configuration is not read; name destinations in SERVICE_DEST, or in a file named with --config"},
	{"STATS_PORT", "status page and metrics are on the admin port, --admin"},
	{"STATS_USER", "the admin port has no password; a NetworkPolicy says who reaches it"},
	{"STATS_PASSWORD", "the admin port has no password; a NetworkPolicy says who reaches it"},
	{"SYSLOG_ADDRESS", "logs go to standard error and standard output"},
	{"DNS_SRV001", "--resolver names DNS servers"},
	{"DNS_SRV002", "--resolver names DNS servers"},
	{"MOD_HEADERS", "bytes pass as they are"},
}

// service reads the variables of the community image.
func (d *destinations) service() {
	for _, v := range unusedVariables {
		if d.Env(v.name) != "" {
			d.Warn(settings.Problem{Source: v.name, Msg: "not used: " + v.instead})
		}
	}
	at := func(name string) settings.Value { return settings.Value{Source: name, Text: d.Env(name)} }
	port, ok := uint16(0), false
	if at(serviceTCPPort).Text == "" {
		d.Report(at(serviceTCPPort).Problem("is not set: it is the port to listen on"))
	} else {
		port, ok = d.port(at(serviceTCPPort), at(serviceTCPPort).Text)
	}
	remote := port
	if text := at(serviceDestPort).Text; text != "" {
		var okRemote bool
		remote, okRemote = d.port(at(serviceDestPort), text)
		ok = ok && okRemote
	}
	targets := d.serviceTargets(at(serviceDest), remote)
	name, err := settings.Line(d.Env(serviceName))
	if err != nil {
		d.Report(at(serviceName).Problem(err.Error()))
		return
	}
	if ok && len(targets) > 0 {
		d.add(at(serviceTCPPort), port, targets, name)
	}
}

// serviceTargets reads SERVICE_DEST: HOST or HOST:PORT, several with ; between them.
// One without a port has that of SERVICE_DEST_PORT, also beside others that have one:
// the community image gives it none then.
func (d *destinations) serviceTargets(at settings.Value, port uint16) (all []acl.Target) {
	good := true
	for _, s := range strings.Split(at.Text, ";") {
		if s = strings.TrimSpace(s); s == "" && len(all) > 0 {
			continue // a ; at the end
		}
		t := acl.Target{Port: port}
		var err error
		if t.Host, err = parseDestinationHost(s); err != nil && strings.Contains(s, ":") {
			t, err = parseTarget(s, port)
		}
		switch {
		case err != nil:
			d.Report(at.Problem(fmt.Sprintf("Bad destination '%s': %v", s, err)))
			good = false
		case slices.Contains(all, t):
			d.Report(at.Problem(fmt.Sprintf("Bad destination '%s': it stands in this list already", s)))
			good = false
		default:
			all = append(all, t)
		}
	}
	if !good {
		return nil
	}
	return all
}

// add makes a listener of a port, at every --bind address.
func (d *destinations) add(at settings.Value, port uint16, to []acl.Target, name string) {
	li := d.c.defaults
	li.Name, li.at, li.Destinations = name, at, to
	for _, listen := range d.listenAt(strconv.Itoa(int(port))) {
		li.Listen = listen
		d.c.Listeners = append(d.c.Listeners, li)
	}
}

func (d *destinations) listenAt(port string) []string {
	if len(d.c.bind) == 0 {
		return []string{":" + port}
	}
	var all []string
	for _, a := range d.c.bind {
		all = append(all, net.JoinHostPort(a.String(), port))
	}
	return all
}

// unique refuses a port that is listened on twice: at the same address, or at one
// and at all. Port 0, which is any, may stand several times.
func (d *destinations) unique() {
	type place struct{ host, port string }
	used := map[place]bool{}
	ports := map[string]bool{}
	for _, li := range d.c.Listeners {
		host, port, _ := net.SplitHostPort(li.Listen)
		if port == "0" {
			continue
		}
		everywhere := host == "" || host == "0.0.0.0" || host == "::"
		if used[place{host, port}] || used[place{"", port}] || everywhere && ports[port] {
			d.Report(li.at.Problem(fmt.Sprintf("Proxy port %s already used, must be unique for each destination", port)))
			continue
		}
		if everywhere {
			host = ""
		}
		used[place{host, port}], ports[port] = true, true
		if li.Listen == d.c.Admin {
			d.Report(li.at.Problem(fmt.Sprintf("Proxy port %s already used, by the admin port (--admin)", port)))
		}
	}
}

// port reads a port and reports what is none.
func (d *destinations) port(at settings.Value, text string) (uint16, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		d.Report(at.Problem(fmt.Sprintf("Invalid port: %s, must be in the range 1 to 65535", text)))
		return 0, false
	}
	return uint16(n), true
}
