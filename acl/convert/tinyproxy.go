package convert

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// Tinyproxy says how a tinyproxy.conf is converted.
type Tinyproxy struct {
	Files
	// ConnectPorts and Ignore are as those of [Squid].
	ConnectPorts string
	Ignore       []string
}

// Convert reads the configuration at path.
func (c Tinyproxy) Convert(path string) (*Result, error) {
	t := &tinyproxyReader{path: path, files: c.Files, caseless: true}
	ports := &squidReader{Squid: Squid{ConnectPorts: c.ConnectPorts}}
	if err := ports.connectPorts(); err != nil {
		return nil, err
	}
	t.connect = ports.connect
	text, ok := readFile(place{file: path}, path, c.Files, &t.problems)
	if !ok {
		return nil, t.problems.err()
	}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		at := place{path, i + 1, line}
		if slices.Contains(c.Ignore, ignoreName(at)) {
			t.found.add(at, Opens, "left out, as asked")
			continue
		}
		t.line(at, squidWords(line))
	}
	if err := t.problems.err(); err != nil {
		return nil, err
	}
	return t.convert(c.ConnectPorts)
}

type tinyproxyReader struct {
	path     string
	files    Files
	problems problems
	found    findings
	connect  predicate

	clients     []tinyproxyClient
	tunnels     []portRange // ConnectPort
	tunnelsAt   place
	filter      string
	filterAt    place
	defaultDeny bool
	urls        bool
	extended    bool
	fnmatch     bool
	caseless    bool
	sources     []netip.Addr
	closed      []place // lines that deny in a way that rules cannot say
}

// tinyproxyClient is an Allow or Deny line.
type tinyproxyClient struct {
	place
	allow bool
	all   []netip.Prefix
	named bool // it names a host, or a domain: clients are looked up
}

var tinyproxyOthers = map[string]struct {
	effect Effect
	why    string
}{
	"upstream": {Differs, "parents says it (docs/parents.md), and is not made of this; connections go to the servers"}, "reversepath": {Differs, "it is no reverse proxy"}, "reverseonly": {Differs, "it is no reverse proxy"},
	"reversebaseurl": {Differs, "it is no reverse proxy"}, "reversemagic": {Differs, "it is no reverse proxy"},
	"anonymous": {Differs, "headers pass as they are"}, "addheader": {Differs, "headers pass as they are"},
	"port": {None, "--listen says it"}, "listen": {None, "--listen says it"}, "maxclients": {None, "limits are those of tenants (docs/tenants.md)"},
	"timeout": {None, "tunnels stay as long as both ends want them"}, "viaproxyname": {None, "Via is added to nothing"},
	"bindsame": {Differs, "the source address is EGRESS_SOURCE"},
}

// tinyproxyRest are the directives of tinyproxy that decide on nothing, also those that are gone.
var tinyproxyRest = strings.Fields("basicauthrealm defaulterrorfile disableviaheader errorfile group logfile loglevel maxrequestsperchild " +
	"maxspareservers minspareservers pidfile startservers statfile stathost syslog user xtinyproxy")

var tinyproxySwitches = map[string]bool{"filterdefaultdeny": true, "filterurls": true, "filterextended": true, "filtercasesensitive": true}

func (t *tinyproxyReader) line(at place, words []string) {
	if len(words) == 0 {
		return
	}
	name := strings.ToLower(words[0])
	value := strings.Trim(strings.TrimSpace(strings.TrimPrefix(strings.Join(words, " "), words[0])), `"`)
	on := slices.Contains([]string{"yes", "on"}, strings.ToLower(value))
	if tinyproxySwitches[name] && !on && !slices.Contains([]string{"no", "off"}, strings.ToLower(value)) {
		t.problems.add(at, "%q is none of yes, on, no and off", value)
		return
	}
	switch name {
	case "allow", "deny":
		c := tinyproxyClient{place: at, allow: name == "allow"}
		ps, all, why := addresses(value)
		if c.all = ps; all {
			c.all = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		}
		c.named = why != ""
		t.clients = append(t.clients, c)
	case "connectport":
		from, to, ok := portsIn(value)
		if !ok {
			t.problems.add(at, "%q is no port", value)
			return
		}
		t.tunnels, t.tunnelsAt = append(t.tunnels, portRange{from, to}), at
	case "bind":
		a, err := netip.ParseAddr(value)
		if err != nil {
			t.problems.add(at, "%q is no address", value)
			return
		}
		t.sources = append(t.sources, a.Unmap())
	case "basicauth":
		t.closed = append(t.closed, at)
		t.found.add(at, Closes, "users are told by tenants: authenticate and usersFile (docs/tenants.md); until they are, nothing is allowed")
	default:
		if !t.filterLine(at, name, value, on) {
			t.other(at, words[0])
		}
	}
}

// filterLine takes a line about the filter, and reports whether it is one.
func (t *tinyproxyReader) filterLine(at place, name, value string, on bool) bool {
	switch name {
	case "filter":
		t.filter, t.filterAt = value, at
	case "filterdefaultdeny":
		t.defaultDeny = on
	case "filterurls":
		t.urls = on
	case "filterextended":
		t.extended = on
	case "filtercasesensitive":
		t.caseless = !on
	case "filtertype":
		if !slices.Contains([]string{"bre", "ere", "fnmatch"}, strings.ToLower(value)) {
			t.problems.add(at, "%q is none of bre, ere and fnmatch", value)
			break
		}
		t.extended, t.fnmatch = strings.EqualFold(value, "ere"), strings.EqualFold(value, "fnmatch")
	default:
		return false
	}
	return true
}

// other takes a line of which nothing is converted.
func (t *tinyproxyReader) other(at place, word string) {
	name := strings.ToLower(word)
	o, ok := tinyproxyOthers[name]
	switch {
	case !ok && !slices.Contains(tinyproxyRest, name):
		t.problems.unknown(at, word, "tinyproxy")
		return
	case !ok:
		o.why = "it says nothing of who may reach what"
	}
	t.found.add(at, o.effect, "%s", o.why)
}

func (t *tinyproxyReader) convert(connectPorts string) (*Result, error) {
	l, err := t.rules()
	if err != nil {
		return nil, err
	}
	allowed := group{rules: l.text(), sources: t.sources}
	if onlyComments(allowed.rules) {
		allowed.rules = ""
	}
	denied := group{sources: t.sources}
	rest := denied
	if len(t.clients) == 0 {
		rest = allowed
	}
	var prefixes []netip.Prefix
	for _, c := range t.clients {
		prefixes = append(prefixes, c.all...)
	}
	var found []group
	for _, r := range regions(prefixes) {
		g := denied
		if t.admits(r) {
			g = allowed
		}
		g.clients = []netip.Prefix{r.prefix}
		found = append(found, g)
	}
	for _, c := range t.clients {
		if c.named {
			t.found.add(c.place, Closes, "clients are told by address, not by the name that it has")
		}
	}
	t.found.add(place{file: t.path}, None, "as everywhere in Sluice the guard denies loopback, link-local addresses, metadata services of clouds and the gateway itself, unless a rule names their address")
	if connectPorts != "" {
		t.found.add(place{file: t.path}, Opens, "ports %s are taken for those of CONNECT, and all others for those of other methods: what was told apart on one port by the method is decided alike", connectPorts)
	}
	r := &Result{}
	r.tenants(groups(found, rest), rest)
	r.Left = t.found.all
	return r, nil
}

// admits reports whether clients of a region are let in for certain.
func (t *tinyproxyReader) admits(r region) bool {
	for _, c := range t.clients {
		if c.named {
			if !c.allow {
				return false
			}
			continue
		}
		if slices.ContainsFunc(c.all, func(p netip.Prefix) bool { return p.Bits() <= r.prefix.Bits() && p.Overlaps(r.prefix) }) {
			return c.allow
		}
	}
	return false
}

// rules are those of whoever is let in.
func (t *tinyproxyReader) rules() (l rules, err error) {
	if len(t.closed) > 0 {
		return always(false, t.closed[0]), nil
	}
	b := &builder{narrowed: map[place]bool{}}
	l = always(!(t.filter != "" && t.defaultDeny), t.filterAt)
	if t.filter == "" {
		l = always(true, place{t.path, 1, "no Filter: all hosts"})
	} else if text, ok := readFile(t.filterAt, t.filter, t.files, &t.problems); ok {
		if l, err = t.filtered(b, text, l); err != nil {
			return nil, err
		}
	}
	if err := t.problems.err(); err != nil {
		return nil, err
	}
	if len(t.tunnels) > 0 {
		// A CONNECT to another port is denied, and what is no CONNECT is not.
		denied := onPorts(newPorts(t.tunnels...).not())
		if t.connect.why != "" {
			t.found.add(t.tunnelsAt, Closes, "ports of CONNECT alone: %s", t.connect.why)
		} else if denied, _, err = conjunction(denied, t.connect.may, false); err != nil {
			return nil, err
		}
		l, err = b.either(denied, always(false, t.tunnelsAt), l)
	}
	return l, err
}

// filtered puts the lines of a filter before l. A line that is not plain counts for all hosts
// where it denies, and for none where it allows.
func (t *tinyproxyReader) filtered(b *builder, text string, l rules) (rules, error) {
	var err error
	lines := strings.Split(text, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		pattern := filterPattern(lines[i])
		if pattern == "" {
			continue
		}
		at := place{t.filter, i + 1, pattern}
		p := t.pattern(pattern)
		matches := p.may
		if t.defaultDeny {
			matches = p.must
		}
		if p.why != "" {
			t.found.add(at, Closes, "%s", p.why)
		}
		if l, err = b.either(matches, always(t.defaultDeny, at), l); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// filterPattern is a line of a filter up to white space or a comment.
func filterPattern(line string) string {
	line = strings.TrimLeft(line, " \t")
	for i := 0; i < len(line); i++ {
		if line[i] == ' ' || line[i] == '\t' || line[i] == '\r' || line[i] == '#' && (i == 0 || line[i-1] != '\\') {
			return line[:i]
		}
	}
	return line
}

var fnmatchName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

func (t *tinyproxyReader) pattern(pattern string) predicate {
	switch {
	case t.urls:
		return unknown("a filter on URLs: rules know hosts and ports")
	case t.fnmatch:
		name, sub := strings.CutPrefix(pattern, "*.")
		if !fnmatchName.MatchString(name) {
			return unknown("a pattern that is neither a name nor *.name")
		}
		if name != strings.ToLower(name) && !t.caseless {
			return unknown("a pattern with capitals: hosts have none here")
		}
		h, err := acl.ParseHost(strings.ToLower(name))
		if err != nil || !h.IsName() {
			return unknown("a pattern that is neither a name nor *.name")
		}
		if sub {
			return exactly([]term{strictlyBelow(h.Name())})
		}
		return exactly([]term{{form: form{kind: oneName, name: h.Name()}, ports: allPorts}})
	case !t.extended && strings.ContainsAny(pattern, "(+?|{"):
		return unknown(notPlain) // in a basic regular expression these mean other things
	}
	p := plainRegex(pattern, t.caseless)
	if p.why == "" && p.may == nil && !t.caseless {
		return unknown("a pattern with capitals: hosts have none here")
	}
	return p
}
