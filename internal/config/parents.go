package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

const parentsKey = "parents"

// parentsSetting is by which other proxies requests go. Its place is not bound: it is live.
func parentsSetting() settings.Setting {
	return settings.Setting{Key: parentsKey, Value: "LIST", Block: true, Change: live,
		Help: "other proxies that requests go by, and for which destinations"}
}

// parentsReader reads by which other proxies the requests of the gateway, or of a tenant, go.
type parentsReader struct {
	nodes
	listen []string     // where the gateway listens: none of it is a parent
	own    []netip.Addr // sources of the gateway
}

// read reads a "parents" block. It is nil if there is none, an empty one, or if it is wrong.
func (r parentsReader) read(n *yaml.Node) *policy.Parents {
	if n == nil {
		return nil
	}
	if n = settings.Target(n); n.Kind != yaml.SequenceNode {
		r.FileProblem(n.Line, `"parents" wants a list, each with "via", and "for" unless it is for every destination`)
		return nil
	}
	before := len(r.Problems)
	var ways []policy.Way
	for _, item := range n.Content {
		ways = append(ways, r.way(settings.Target(item)))
	}
	if len(r.Problems) > before || len(ways) == 0 {
		return nil
	}
	p, err := policy.NewParents(ways)
	if err != nil { // which each of them by itself was not
		r.FileProblem(n.Line, err.Error())
	}
	return p
}

// way reads one entry of the list.
func (r parentsReader) way(item *yaml.Node) (w policy.Way) {
	var via *yaml.Node
	before := len(r.Problems)
	r.keys(item, map[string]func(*yaml.Node){
		"for":     func(n *yaml.Node) { r.scalars(n, appendTo(&w.For, parseDestination)) },
		"via":     func(n *yaml.Node) { via = n },
		"connect": scalar(r.nodes, &w.ByName, parseConnect),
	})
	if via == nil {
		if len(r.Problems) == before {
			r.FileProblem(item.Line, `an entry of "parents" wants "via": a list of parents, the last of which may be direct`)
		}
		return w
	}
	list := []*yaml.Node{via}
	if via.Kind == yaml.SequenceNode {
		list = via.Content
	}
	for _, n := range list {
		if p := r.parent(settings.Target(n)); p != nil {
			w.Via = append(w.Via, p)
		}
	}
	direct := slices.IndexFunc(w.Via, func(p *policy.Parent) bool { return p.Direct })
	switch {
	case len(list) == 0:
		r.FileProblem(via.Line, `"via" names nobody; to go directly write via: direct`)
	case len(r.Problems) > before:
	case direct >= 0 && direct < len(w.Via)-1:
		r.FileProblem(via.Line, "what stands behind direct is never asked: make direct the last")
	case direct >= 0 && w.ByName:
		r.FileProblem(via.Line, "direct needs addresses that were judged, and with connect: name nobody judges any; leave one of the two out")
	}
	return w
}

// parent reads one of those that requests go by; nil: it is wrong.
func (r parentsReader) parent(n *yaml.Node) *policy.Parent {
	if n.Kind == yaml.ScalarNode && n.Value == "direct" {
		return &policy.Parent{Direct: true}
	}
	var u *yaml.Node
	var ca, basic, token *yaml.Node
	before := len(r.Problems)
	if n.Kind == yaml.ScalarNode {
		u = n
	} else {
		r.keys(n, map[string]func(*yaml.Node){
			"url":   func(n *yaml.Node) { u = n },
			"ca":    func(n *yaml.Node) { ca = n },
			"basic": func(n *yaml.Node) { basic = n },
			"token": func(n *yaml.Node) { token = n },
		})
	}
	if u == nil {
		if len(r.Problems) == before {
			r.FileProblem(n.Line, `a parent wants a "url", such as http://proxy.example.com:3128, or is the word direct`)
		}
		return nil
	}
	text, target, secure, err := parseParent(u.Value)
	if err != nil {
		r.FileProblem(u.Line, err.Error())
		return nil
	}
	if r.isSelf(target) {
		r.FileProblem(u.Line, fmt.Sprintf("%s is where this gateway listens itself: its requests would go round in a circle", text))
	}
	var config *tls.Config
	var pem []byte
	switch {
	case secure:
		config, pem = r.tls(target, ca)
	case ca != nil:
		r.FileProblem(ca.Line, fmt.Sprintf(`"ca" is for a parent that speaks TLS, and %s does not: write https://`, text))
	}
	login, problem := r.login(text, secure, basic, token)
	if len(r.Problems) > before {
		return nil
	}
	p := policy.NewParent(text, target.Host, target.Port, config, string(pem), login)
	p.Problem = problem
	return p
}

// tls is by what a parent is verified.
func (r parentsReader) tls(t acl.Target, ca *yaml.Node) (*tls.Config, []byte) {
	c := &tls.Config{ServerName: t.Host.String(), MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	if ca == nil {
		return c, nil
	}
	path, text, ok := r.ReadFile(settings.Value{Text: ca.Value, Source: r.Path, Line: ca.Line})
	if !ok {
		return nil, nil
	}
	if err := certificates(text); err != nil {
		r.FileProblem(ca.Line, path+" "+err.Error())
		return nil, nil
	}
	c.RootCAs = x509.NewCertPool()
	c.RootCAs.AppendCertsFromPEM(text)
	return c, text
}

// isSelf reports whether the gateway listens there, as far as that can be told without a look-up.
func (r parentsReader) isSelf(t acl.Target) bool {
	local := t.Host.Name() == "localhost" || t.Host.Addr().IsLoopback() || slices.Contains(r.own, t.Host.Addr())
	for _, l := range r.listen {
		if portOf(l) != strconv.Itoa(int(t.Port)) {
			continue
		}
		host := strings.Trim(strings.TrimSuffix(l, ":"+portOf(l)), "[]")
		a, err := netip.ParseAddr(host)
		if (host == "" || err == nil && a.IsUnspecified()) && local || err == nil && a.Unmap() == t.Host.Addr() {
			return true
		}
	}
	return false
}

// parseDestination takes a form of acl.md without "!".
func parseDestination(s string) (string, error) {
	_, err := policy.NewParents([]policy.Way{{For: []string{s}}})
	return s, err
}

func parseConnect(s string) (byName bool, err error) {
	if s != "address" && s != "name" {
		return false, fmt.Errorf("%q is neither address nor name", s)
	}
	return s == "name", nil
}

// parseParent takes http://HOST:PORT or https://HOST:PORT.
func parseParent(s string) (text string, t acl.Target, secure bool, err error) {
	u, err := url.Parse(strings.TrimSpace(s))
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		if s == "DIRECT" || s == "Direct" {
			return "", t, false, fmt.Errorf("%q is no parent: write direct", s)
		}
		return "", t, false, errors.New("this is no parent: write http://HOST:PORT or https://HOST:PORT, or direct")
	case u.User != nil:
		return "", t, false, fmt.Errorf("%s://%s is written with a user: name a file with USER:PASSWORD as basic: {file: …} instead, so that no secret stands here", u.Scheme, u.Host)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", t, false, fmt.Errorf("%q is more than a parent: write %s://%s", s, u.Scheme, u.Host)
	}
	if t, err = acl.ParseTarget(u.Host); err != nil {
		return "", t, false, fmt.Errorf("%s://%s is no parent: write it with a port, such as %s://proxy.example.com:3128", u.Scheme, u.Host, u.Scheme)
	}
	return u.Scheme + "://" + t.String(), t, u.Scheme == "https", nil
}
