package convert

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/acl"
)

// Smokescreen says how an ACL of smokescreen's, a YAML file, is converted.
type Smokescreen struct {
	Files
	// Service is the one whose rules are made. With "" they are those of the default: who a
	// service's clients are stands nowhere in the file.
	Service string
}

// private are the ranges that smokescreen denies whatever the ACL allows.
var private = []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"}

// smokescreenKeys are the keys of a service that are read, or told as not said.
var smokescreenKeys = map[string]string{
	"name": "", "project": "", "action": "", "allowed_domains": "",
	"allowed_external_proxies": "clients choose no proxies: parents says by which requests go (docs/parents.md)", "allowed_domains_mitm": "TLS is looked into where inspect says so (docs/inspect.md), which is not made of this", "mitm_domains": "TLS is looked into where inspect says so (docs/inspect.md), which is not made of this",
}

// Convert reads the file at path.
func (c Smokescreen) Convert(path string) (*Result, error) {
	var ps problems
	text, ok := readFile(place{file: path}, path, c.Files, &ps)
	if !ok {
		return nil, ps.err()
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: no ACL of smokescreen's: a mapping with version, services and default is wanted", path)
	}
	s := &smokescreenReader{Smokescreen: c, path: path, root: doc.Content[0]}
	return s.convert()
}

type smokescreenReader struct {
	Smokescreen
	path     string
	root     *yaml.Node
	problems problems
	found    findings
}

func (s *smokescreenReader) at(n *yaml.Node) place {
	return place{s.path, n.Line, strings.TrimSpace(n.Value)}
}

func (s *smokescreenReader) convert() (*Result, error) {
	if v := key(s.root, "version"); v == nil || v.Value != "v1" {
		s.problems.add(place{file: s.path, line: 1}, `the version is not "v1"`)
	}
	chosen := key(s.root, "default")
	found := s.Service == ""
	for _, service := range sequenceOf(key(s.root, "services")) {
		name := key(service, "name")
		switch {
		case name == nil:
			s.problems.add(s.at(service), "a service has no name")
		case name.Value == s.Service && !found:
			chosen, found = service, true
		case s.Service == "":
			s.found.add(s.at(name), Closes, "who its clients are is not said here: convert it by itself (--service %s), and give the rules to a tenant (docs/tenants.md)", name.Value)
		}
	}
	if !found {
		s.problems.add(place{file: s.path, line: 1}, "there is no service %q", s.Service)
	}
	for i := 0; i+1 < len(s.root.Content); i += 2 {
		switch k := s.root.Content[i]; k.Value {
		case "version", "services", "default", "global_deny_list", "global_allow_list":
		default:
			s.found.add(s.at(k), None, "it is not known")
		}
	}
	if err := s.problems.err(); err != nil {
		return nil, err
	}
	l, err := s.rules(chosen)
	if err == nil {
		err = s.problems.err()
	}
	if err != nil {
		return nil, err
	}
	s.found.add(place{file: s.path}, None, "as everywhere in Sluice the guard denies loopback, link-local addresses, metadata services of clouds and the gateway itself, unless a rule names their address")
	r := &Result{Rules: l.text(), Left: s.found.all}
	if onlyComments(r.Rules) {
		r.Rules = ""
	}
	return r, nil
}

// rules are those of a service: its own domains, what is denied and allowed for all, its action.
func (s *smokescreenReader) rules(service *yaml.Node) (rules, error) {
	if service == nil {
		return always(false, place{file: s.path, line: 1, text: "no default: denied"}), nil
	}
	for i := 0; i+1 < len(service.Content); i += 2 {
		k := service.Content[i]
		if why, ok := smokescreenKeys[k.Value]; !ok || why != "" {
			if why == "" {
				why = "it is not known"
			}
			s.found.add(s.at(k), Differs, "%s", why)
		}
	}
	action := key(service, "action")
	if action == nil {
		s.problems.add(s.at(service), "it has no action")
		return nil, nil
	}
	open := false
	switch action.Value {
	case "enforce":
	case "open":
		open = true
	case "report":
		open = true
		s.found.add(s.at(action), Differs, "what would be denied is not reported; rules that are only tried are shadow rules")
	default:
		s.problems.add(s.at(action), "unknown action %q", action.Value)
	}
	b := &builder{narrowed: map[place]bool{}}
	l := always(open, s.at(action))
	var err error
	for _, part := range []struct {
		list  *yaml.Node
		allow bool
	}{{key(s.root, "global_allow_list"), true}, {key(s.root, "global_deny_list"), false}, {key(service, "allowed_domains"), true}} {
		for _, n := range slices.Backward(sequenceOf(part.list)) {
			if t, ok := s.glob(n, part.allow); ok && err == nil {
				l, err = b.either([]term{t}, always(part.allow, s.at(n)), l)
			}
		}
	}
	for _, p := range slices.Backward(private) {
		if err == nil {
			prefix := netip.MustParsePrefix(p)
			l, err = b.either([]term{{form: form{kind: network, prefix: prefix}, ports: allPorts}}, always(false, place{s.path, 1, "private ranges, which smokescreen denies of itself"}), l)
		}
	}
	return l, err
}

// glob is a domain: a name, or *.name, which is what lies below it.
func (s *smokescreenReader) glob(n *yaml.Node, allow bool) (term, bool) {
	name, sub := strings.CutPrefix(n.Value, "*.")
	if a, err := netip.ParseAddr(name); err == nil && !sub {
		if allow {
			s.found.add(s.at(n), Closes, "an address as a domain: a rule for it would hold for names that lead there too")
			return term{}, false
		}
		a = a.Unmap()
		s.found.add(s.at(n), Closes, "an address as a domain: names that lead there are denied too")
		return term{form: form{kind: network, prefix: netip.PrefixFrom(a, a.BitLen())}, ports: allPorts}, true
	}
	h, err := acl.ParseHost(strings.ToLower(name))
	if err != nil || !h.IsName() {
		s.problems.add(s.at(n), "%q is no domain", n.Value)
		return term{}, false
	}
	if sub {
		return strictlyBelow(h.Name()), true
	}
	return term{form: form{kind: oneName, name: h.Name()}, ports: allPorts}, true
}

func key(n *yaml.Node, name string) *yaml.Node {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func sequenceOf(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}
