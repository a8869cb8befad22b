package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/ca"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// Tenant is one of those whom the gateway serves, each with rules and sources of its own.
type Tenant struct {
	Name    string         // an RFC 1123 label
	Clients []netip.Prefix // whom it takes, by address

	Rules     RuleText
	Policy    *acl.Policy
	Learned   *acl.Policy     // Policy with what is allowed while learning; nil: nothing is learned
	Shadow    *acl.Policy     // judged by beside them, and changes nothing; nil: there is none
	Inspect   *policy.Inspect // what requests may do where they may go; nil: whatever they like
	Parents   *policy.Parents // proxies that requests go by; nil: none
	Guard     acl.GuardMode
	Sources   []netip.Addr // never empty, unless those of the gateway are
	Limits    TenantLimits
	HideRules bool
	Contact   string

	Shown []auth.Selector      // whom it takes, by what they show
	Pods  []policy.PodSelector // by the pod that has their address

	line         int           // in the file
	direct       bool          // it has "parents", which may be none
	listen       []string      // of the gateway
	authority    *ca.Authority // of the gateway; nil: there is none
	users        *auth.Users
	authenticate policy.Mode
	directory    bool
	passwords    bool // a usersFile is named; users is nil if it is wrong, too
	certificates bool // a CA of clients is named
}

// TenantLimits are what a tenant may have at once; 0 is no limit.
type TenantLimits struct {
	Connections       int     // requests and tunnels under way
	RequestsPerSecond float64 // on the average
	Burst             int     // requests at once; 0: those of a second
}

const tenantsKey = "tenants"

// tenantsSetting is the list of tenants. Its place is not bound: it is live.
func tenantsSetting() settings.Setting {
	return settings.Setting{Key: tenantsKey, Value: "LIST", Block: true, Change: live,
		Help: "namespaces, teams, jobs: whose clients have rules, sources and limits of their own"}
}

// tenants reads the list of tenants, if there is one. rest is what the top level says.
func (c *Common) tenants(l *settings.Loader, rest Tenant) {
	node := l.Block(tenantsSetting())
	if node == nil {
		return
	}
	r := tenantReader{nodes: nodes{l}, rest: rest, gateway: c.Sources}
	r.list(settings.Target(node))
	r.reachable()
	c.Tenants = r.all
}

// tenantReader gathers the tenants of the file.
type tenantReader struct {
	nodes
	rest    Tenant       // what the top level says, and holds where a tenant says nothing
	gateway []netip.Addr // EGRESS_SOURCE
	all     []Tenant
}

func (r *tenantReader) list(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		r.FileProblem(n.Line, `"tenants" wants a list, each with "name", "clients" and "rules"`)
		return
	}
	names := map[string]int{}
	for _, item := range n.Content {
		t := r.tenant(settings.Target(item))
		switch first := names[t.Name]; {
		case t.Name == "":
		case first > 0:
			r.FileProblem(t.line, fmt.Sprintf("a tenant %q stands in line %d already", t.Name, first))
		default:
			names[t.Name] = t.line
		}
		r.all = append(r.all, t)
	}
}

// tenant reads one item of the list.
func (r *tenantReader) tenant(item *yaml.Node) Tenant {
	t := Tenant{Guard: r.rest.Guard, Sources: r.gateway, HideRules: r.rest.HideRules, Contact: r.rest.Contact, line: item.Line}
	before := len(r.Problems)
	var inline, file, shadow, shadowFile, inspect, parents *yaml.Node
	named := false
	r.keys(item, map[string]func(*yaml.Node){
		"name":            func(n *yaml.Node) { named = true; scalar(r.nodes, &t.Name, parseTenantName)(n) },
		"clients":         func(n *yaml.Node) { r.scalars(n, appendTo(&t.Clients, parsePrefix)) },
		"users":           func(n *yaml.Node) { r.scalars(n, r.user(&t, n.Line)) },
		"namespaces":      func(n *yaml.Node) { r.scalars(n, r.namespace(&t)) },
		"serviceAccounts": func(n *yaml.Node) { r.scalars(n, r.serviceAccount(&t)) },
		"certificates":    func(n *yaml.Node) { r.scalars(n, r.certificate(&t)) },
		"source":          func(n *yaml.Node) { t.Sources = nil; r.scalars(n, r.source(&t)) },
		"rules":           func(n *yaml.Node) { inline = n },
		"rulesFile":       func(n *yaml.Node) { file = n },
		"shadowRules":     func(n *yaml.Node) { shadow = n },
		"shadowRulesFile": func(n *yaml.Node) { shadowFile = n },
		"inspect":         func(n *yaml.Node) { inspect = n },
		"parents":         func(n *yaml.Node) { parents = n },
		"guard":           scalar(r.nodes, &t.Guard, acl.ParseGuardMode),
		"hideRules":       scalar(r.nodes, &t.HideRules, settings.Bool),
		"contact":         scalar(r.nodes, &t.Contact, settings.Line),
		"limits":          func(n *yaml.Node) { r.limits(n, &t.Limits) },
	})
	t.Rules, t.Policy = r.rules(&t, "rules", inline, file)
	if shadow != nil || shadowFile != nil {
		_, t.Shadow = r.rules(&t, "shadowRules", shadow, shadowFile)
	}
	if inspect != nil {
		t.Inspect, _ = inspectReader{nodes: r.nodes, authority: r.rest.authority}.read(inspect)
	}
	t.direct = parents != nil
	t.Parents = parentsReader{nodes: r.nodes, listen: r.rest.listen, own: r.gateway}.read(parents)
	if !named {
		r.FileProblem(item.Line, `a tenant wants a "name"`)
	}
	if len(t.Clients)+len(t.Shown)+len(t.Pods) == 0 && len(r.Problems) == before {
		r.FileProblem(item.Line, fmt.Sprintf(`no client can be tenant %q's: give it "clients", addresses and prefixes, "namespaces", "serviceAccounts", "users" or "certificates"`, t.Name))
	}
	return t
}

// user takes the name of one who can show a password.
func (r *tenantReader) user(t *Tenant, line int) func(string) error {
	return func(s string) error {
		sel, err := auth.ParseSelector(auth.ByUser, s)
		switch {
		case err != nil:
			return err
		case r.rest.authenticate == policy.Off:
			return fmt.Errorf(`user %q is never asked for a password: set "authenticate" to optional or required`, s)
		case !r.rest.passwords:
			return fmt.Errorf(`user %q has no password: name a "usersFile"`, s)
		case r.rest.users != nil && !r.rest.users.Has(s):
			r.Warn(settings.Problem{Source: r.Path, Line: line, Msg: fmt.Sprintf("user %q is not in the usersFile", s)})
		}
		t.Shown = append(t.Shown, sel)
		return nil
	}
}

// certificate takes a SAN of the certificates of clients.
func (r *tenantReader) certificate(t *Tenant) func(string) error {
	return func(s string) error {
		sel, err := auth.ParseSelector(auth.ByCertificate, s)
		if err == nil && !r.rest.certificates {
			err = fmt.Errorf(`nobody is asked for a certificate such as %q: listen with TLS (listenTLS), and name the CA of its clients (clientCA)`, s)
		}
		if err == nil {
			t.Shown = append(t.Shown, sel)
		}
		return err
	}
}

// namespace takes the name of one, whose pods sluice-kube knows.
func (r *tenantReader) namespace(t *Tenant) func(string) error {
	return func(s string) error {
		switch {
		case !label.MatchString(s):
			return fmt.Errorf("%q is no name of a namespace", s)
		case !r.rest.directory:
			return fmt.Errorf("nobody says which pods are those of namespace %q: name the socket of sluice-kube as \"directory\"", s)
		}
		t.Pods = append(t.Pods, policy.PodSelector{Namespace: s})
		return nil
	}
}

// serviceAccount takes NAMESPACE/NAME or NAMESPACE/*, by a pod's address or by a token.
func (r *tenantReader) serviceAccount(t *Tenant) func(string) error {
	return func(s string) error {
		sel, err := auth.ParseSelector(auth.ByServiceAccount, s)
		switch {
		case err != nil:
			return err
		case !r.rest.directory:
			return fmt.Errorf("nobody says which pods are those of service account %q: name the socket of sluice-kube as \"directory\"", s)
		}
		namespace, name, _ := strings.Cut(s, "/")
		if name == "*" {
			name = ""
		}
		t.Pods = append(t.Pods, policy.PodSelector{Namespace: namespace, ServiceAccount: name})
		t.Shown = append(t.Shown, sel)
		return nil
	}
}

// appendTo parses one value after the other.
func appendTo[V any](to *[]V, parse func(string) (V, error)) func(string) error {
	return func(s string) error {
		v, err := parse(s)
		if err == nil {
			*to = append(*to, v)
		}
		return err
	}
}

// label is that of RFC 1123 section 2.1, as Kubernetes has it for names.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func parseTenantName(s string) (string, error) {
	switch {
	case s == "default":
		return "", fmt.Errorf(`"default" is the tenant of clients that no other takes: the top level of the file says what holds for it`)
	case !label.MatchString(s):
		return "", fmt.Errorf("%q is no name of a tenant; write lower-case letters, digits and hyphens, at most 63 (an RFC 1123 label)", s)
	}
	return s, nil
}

// source takes one of the gateway's addresses, at most one of each family.
func (r *tenantReader) source(t *Tenant) func(string) error {
	return func(s string) error {
		a, err := parseSource(s)
		switch {
		case err != nil:
			return fmt.Errorf("%q is no address; take one of %s", s, listed(r.gateway))
		case !slices.Contains(r.gateway, a):
			return fmt.Errorf("%s is no address of this gateway: name it in EGRESS_SOURCE, or take one of %s", a, listed(r.gateway))
		case slices.ContainsFunc(t.Sources, func(b netip.Addr) bool { return a.Is4() == b.Is4() }):
			return fmt.Errorf("%s is a second address of its family; a tenant has one", a)
		}
		t.Sources = append(t.Sources, a)
		return nil
	}
}

func listed(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "none, since it has none"
	}
	s := ""
	for i, a := range addrs {
		if i > 0 {
			s += ", "
		}
		s += a.String()
	}
	return s
}

func (r *tenantReader) limits(n *yaml.Node, l *TenantLimits) {
	const million = 1 << 20
	r.keys(n, map[string]func(*yaml.Node){
		"connections":       scalar(r.nodes, &l.Connections, settings.Number(0, million)),
		"requestsPerSecond": scalar(r.nodes, &l.RequestsPerSecond, parseRate),
		"burst":             scalar(r.nodes, &l.Burst, settings.Number(0, million)),
	})
}

// parseRate takes a number of requests a second, which may be a part of one.
func parseRate(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f == 0 || f >= 0.001 && f <= 1_000_000) {
		return 0, fmt.Errorf("%q is no number of requests a second; write one from 0.001 to 1000000, or 0 for no limit", s)
	}
	return f, nil
}

// rules reads rules of the tenant, the text under key or the files under key+"File". One without
// a rule may nothing, which is said.
func (r *tenantReader) rules(t *Tenant, key string, inline, file *yaml.Node) (rt RuleText, p *acl.Policy) {
	switch {
	case inline != nil && file != nil:
		r.FileProblem(max(inline.Line, file.Line), fmt.Sprintf("%q and %q are both given; keep one of them", key, key+"File"))
		return rt, nil
	case file != nil:
		var ok bool
		if rt, ok = ruleFiles(r.Loader, r.values(file)); !ok {
			return rt, nil
		}
	case inline == nil:
		r.FileProblem(t.line, `no "rules" and no "rulesFile"; to allow everything, write rules: "*"`)
		return rt, nil
	case inline.Kind != yaml.ScalarNode:
		r.FileProblem(inline.Line, fmt.Sprintf(`%q wants a text, not a list: write "%s: |" and below it one a line, indented, without dashes`, key, key))
		return rt, nil
	default:
		line := inline.Line
		if inline.Style&yaml.LiteralStyle != 0 {
			line++ // the text begins under the "|"
		}
		rt = ruleText(acl.Text{Source: r.Path, Text: inline.Value, Line: line})
	}
	p, err := acl.ParseTexts(rt.Texts...)
	if err != nil {
		r.Problems = append(r.Problems, ofRules(rt.Source, err)...)
		return rt, nil
	}
	r.Warnings = append(r.Warnings, fromACL(p.Warnings())...)
	return rt, p
}

// values are those of a key that takes one or a list.
func (r *tenantReader) values(n *yaml.Node) (vs []settings.Value) {
	r.scalars(n, func(s string) error {
		vs = append(vs, settings.Value{Text: s, Source: r.Path, Line: n.Line})
		return nil
	})
	return vs
}
