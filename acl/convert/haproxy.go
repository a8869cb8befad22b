package convert

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// HAProxy says how the ports of a haproxy.cfg are converted: what it forwards as TCP.
type HAProxy struct {
	Files
	Env map[string]string // what ${NAME} stands for
}

// Convert reads the configuration at path, that of the community image's template for one.
func (c HAProxy) Convert(path string) (*Result, error) {
	h := &haproxyReader{env: c.Env, path: path, sections: map[string]*haproxySection{}}
	text, ok := readFile(place{file: path}, path, c.Files, &h.problems)
	if !ok {
		return nil, h.problems.err()
	}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		h.line(place{path, i + 1, line}, h.words(place{path, i + 1, line}, line))
	}
	r := h.convert()
	if err := h.problems.err(); err != nil {
		return nil, err
	}
	return r, nil
}

type haproxySection struct {
	place
	kind, name string
	tcp        bool
	binds      []haproxyBind
	servers    []haproxyServer
	backend    string
	backendAt  place
	balance    string
	accepts    bool
	told       []place // lines that nothing is made of
}

type haproxyBind struct {
	place
	at string
}

type haproxyServer struct {
	place
	dest, send, check string
}

type haproxyReader struct {
	env      map[string]string
	path     string
	problems problems
	found    findings
	order    []*haproxySection
	sections map[string]*haproxySection // backends and listens, by name
	current  *haproxySection
	defaults haproxySection
}

var haproxyEnv = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?`)

// words are those of a line, without quotes and with what variables stand for.
func (h *haproxyReader) words(at place, line string) (words []string) {
	if cut := regexp.MustCompile(`(^|\s)#.*`).ReplaceAllString(line, ""); cut != line {
		line = cut
	}
	line = haproxyEnv.ReplaceAllStringFunc(line, func(s string) string {
		name := haproxyEnv.FindStringSubmatch(s)[1]
		v, ok := h.env[name]
		if !ok {
			if strings.HasPrefix(line, "bind") || strings.HasPrefix(line, "server") {
				h.problems.add(at, "%s is not known: say it with -e %s=VALUE", s, name)
			}
			return s
		}
		return v
	})
	return strings.Fields(strings.ReplaceAll(line, `"`, ""))
}

func (h *haproxyReader) line(at place, words []string) {
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "global", "defaults", "listen", "frontend", "backend", "resolvers", "userlist", "peers", "program", "cache", "ring", "mailers", "http-errors":
		h.begin(at, words)
		return
	}
	s := h.current
	if s == nil {
		h.problems.add(at, "a line before the first section")
		return
	}
	rest := words[1:]
	switch {
	case words[0] == "mode" && len(rest) > 0:
		s.tcp = rest[0] == "tcp"
	case words[0] == "bind" && len(rest) > 0:
		for _, b := range strings.Split(rest[0], ",") {
			s.binds = append(s.binds, haproxyBind{at, b})
		}
		for _, o := range rest[1:] {
			if o == "accept-proxy" {
				s.accepts = true
			} else {
				h.found.add(at, Differs, "of bind, %s is not said", o)
			}
		}
	case words[0] == "default_backend" && len(rest) > 0:
		s.backend, s.backendAt = rest[0], at
	case words[0] == "balance" && len(rest) > 0:
		s.balance = map[string]string{"roundrobin": "round-robin", "static-rr": "round-robin", "leastconn": "least-connections", "source": "source-hash"}[rest[0]]
		if s.balance == "" {
			h.found.add(at, Differs, "balance is round-robin, least-connections or source-hash")
		}
	case words[0] == "server" && len(rest) > 1:
		s.servers = append(s.servers, h.server(at, rest[1:]))
	case words[0] == "server_lines":
		h.problems.add(at, "the template's place for servers: give the file that the image made of it, or keep SERVICE_DEST, which sluice tcp understands")
	case slices.Contains([]string{"use_backend", "tcp-request", "acl", "http-request", "server-template", "source", "tcp-response"}, words[0]):
		s.told = append(s.told, at)
	case !s.knows(words[0]):
		h.problems.unknown(at, words[0], "haproxy")
	default:
		h.found.add(at, None, "it says nothing of where connections go")
	}
}

func (h *haproxyReader) begin(at place, words []string) {
	s := &haproxySection{place: at, kind: words[0], tcp: h.defaults.tcp, balance: h.defaults.balance}
	if len(words) > 1 {
		s.name = words[1]
	}
	switch h.current = s; words[0] {
	case "defaults":
		h.current = &h.defaults
	case "listen", "frontend", "backend":
		h.order = append(h.order, s)
		if words[0] != "frontend" {
			h.sections[s.name] = s
		}
	}
}

// server reads ADDR[:PORT] and what follows.
func (h *haproxyReader) server(at place, words []string) haproxyServer {
	s := haproxyServer{place: at, dest: words[0]}
	checked, every := false, "2s"
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "check":
			checked = true
		case "inter":
			if i++; i < len(words) {
				every = words[i]
				if _, err := strconv.Atoi(words[i]); err == nil {
					every += "ms"
				}
			}
		case "rise", "fall", "weight", "maxconn":
			h.found.add(at, Differs, "of server, %s is not said", words[i])
			i++
		case "resolvers", "resolve-prefer", "init-addr":
			i++ // names are followed anyway
		case "send-proxy":
			s.send = "v1"
		case "send-proxy-v2":
			s.send = "v2"
		default:
			h.found.add(at, Differs, "of server, %s is not said", words[i])
		}
	}
	if checked {
		s.check = every
	}
	return s
}

func (h *haproxyReader) convert() *Result {
	r := &Result{}
	used := map[*haproxySection]bool{}
	for _, s := range h.order {
		if s.kind == "backend" {
			continue
		}
		to := s
		if s.backend != "" {
			if to = h.sections[s.backend]; to == nil {
				h.problems.add(s.backendAt, "there is no backend %s", s.backend)
				continue
			}
		}
		used[to] = true
		if !s.tcp || !to.tcp {
			h.found.add(s.place, Closes, "what is not forwarded as TCP (mode tcp) is left out: pages of statistics, and HTTP")
			continue
		}
		if told := slices.Concat(s.told, to.told); len(told) > 0 {
			for _, at := range told {
				h.found.add(at, Closes, "what chooses or refuses is not said, and so the port is left out")
			}
			continue
		}
		h.listeners(r, s, to)
	}
	for _, s := range h.order {
		if s.kind == "backend" && !used[s] {
			h.found.add(s.place, None, "no default_backend leads here")
		}
	}
	r.Left = h.found.all
	return r
}

func (h *haproxyReader) listeners(r *Result, s, to *haproxySection) {
	l := Listener{Name: s.name, Balance: to.balance}
	if l.Balance == "round-robin" {
		l.Balance = ""
	}
	if s.accepts {
		h.found.add(s.place, Closes, "accept-proxy wants to know of whom: say it with acceptProxy, and put the port back")
		return
	}
	if len(to.servers) == 0 {
		h.found.add(s.place, Closes, "the port has no server")
		return
	}
	if !h.alike(s, to.servers) {
		return
	}
	for _, b := range s.binds {
		at := strings.TrimPrefix(strings.TrimPrefix(b.at, "*"), "ipv4@")
		i := strings.LastIndexByte(at, ':')
		if i < 0 {
			h.problems.add(b.place, "%q is no address with a port", b.at)
			continue
		}
		if l.Listen = strings.TrimPrefix(at, ":"); strings.HasPrefix(at, "0.0.0.0:") {
			l.Listen = at[i+1:]
		}
		port, err := strconv.ParseUint(at[i+1:], 10, 16)
		if err != nil {
			h.problems.add(b.place, "%q is no port", at[i+1:])
			continue
		}
		l.Destinations, l.Check, l.SendProxy = nil, "", to.servers[0].send
		for _, d := range to.servers {
			t, err := acl.ParseTargetDefault(bracketed(d.dest), uint16(port))
			if err != nil {
				h.problems.add(d.place, "%v", err)
				continue
			}
			dest := t.Host.String()
			if t.Host.IsAddr() && t.Host.Addr().Is6() {
				dest = "[" + dest + "]"
			}
			l.Destinations = append(l.Destinations, dest+":"+strconv.Itoa(int(t.Port)))
			l.Check = cmp.Or(l.Check, d.check)
		}
		if len(l.Destinations) > 0 {
			r.Listeners = append(r.Listeners, l)
		}
	}
}

// alike reports whether the servers of a port get PROXY headers all or none, as the destinations of a port do here. It tells
// of those that are looked after otherwise than the first that is.
func (h *haproxyReader) alike(s *haproxySection, servers []haproxyServer) bool {
	check := ""
	for _, d := range servers {
		if d.send != servers[0].send {
			h.found.add(s.place, Closes, "some of its servers get PROXY headers and others do not, or of another version: all do, or none does, and so the port is left out")
			return false
		}
		check = cmp.Or(check, d.check)
	}
	for _, d := range servers {
		if d.check != check {
			h.found.add(d.place, Differs, "the servers of a port are checked alike, each %s", check)
		}
	}
	return true
}

// bracketed is an IPv6 address with a port as haproxy has it, the last colon being the port's.
func bracketed(s string) string {
	if i := strings.LastIndexByte(s, ':'); i > 0 && !strings.HasPrefix(s, "[") && strings.Count(s, ":") > 1 {
		if _, err := netip.ParseAddr(s[:i]); err == nil {
			return "[" + s[:i] + "]" + s[i:]
		}
	}
	return s
}
