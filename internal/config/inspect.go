package config

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/acl/request"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/ca"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

const inspectKey = "inspect"

// inspectSetting is what requests may do at some hosts. Its place is not bound: it is live.
func inspectSetting() settings.Setting {
	return settings.Setting{Key: inspectKey, Value: "HOSTS", Block: true, Change: live,
		Help: "hosts of which it is said what requests may do there: methods, paths, credentials"}
}

func (p *Proxy) inspectSettings() []settings.Setting {
	return []settings.Setting{
		inspectSetting(),
		{Flag: "log-query", Key: "logQuery", Default: "false", Change: fixed,
			Help: "write the queries of requests to inspected hosts into the access log, too",
			Into: settings.One(&p.LogQuery, settings.Bool)},
	}
}

// inspectReader reads what one list of hosts says, of the gateway or of a tenant.
type inspectReader struct {
	nodes
	authority *ca.Authority // of the gateway, whose CA is that of a tenant without one; nil: there is none
}

// read reads an "inspect" block, with the CA that signs for its hosts. They are nil if there is none, or
// if it is wrong.
func (r inspectReader) read(n *yaml.Node) (*policy.Inspect, *ca.Authority) {
	if n == nil {
		return nil, nil
	}
	var cert, key, list *yaml.Node
	before := len(r.Problems)
	r.keys(n, map[string]func(*yaml.Node){
		"caCert": func(n *yaml.Node) { cert = n },
		"caKey":  func(n *yaml.Node) { key = n },
		"hosts":  func(n *yaml.Node) { list = n },
	})
	authority := r.authority
	switch {
	case cert != nil && key != nil:
		authority = r.readAuthority(cert, key)
	case cert != nil:
		r.FileProblem(cert.Line, `"caCert" is of no use without its "caKey"`)
	case key != nil:
		r.FileProblem(key.Line, `"caKey" is of no use without its "caCert"`)
	}
	if list == nil && cert != nil && authority != nil { // for tenants
		list = &yaml.Node{Kind: yaml.SequenceNode}
	}
	if list == nil || list.Kind != yaml.SequenceNode {
		if len(r.Problems) == before {
			r.FileProblem(n.Line, `"inspect" wants "hosts", a list, each with "host" and "requests"`)
		}
		return nil, nil
	}
	var hosts []policy.Inspected
	for _, item := range list.Content {
		hosts = append(hosts, r.host(settings.Target(item)))
	}
	if len(r.Problems) > before {
		return nil, nil
	}
	in, err := policy.NewInspect(hosts)
	if err != nil { // which each of them by itself was not
		r.FileProblem(list.Line, err.Error())
		return nil, nil
	}
	if authority != nil {
		in.Certificate = authority.Certificate
		r.served(authority, in, list)
	}
	return in, authority
}

// authorities outlive a reload, as what they have signed does.
var authorities ca.Kept

// readAuthority reads a CA.
func (r inspectReader) readAuthority(cert, key *yaml.Node) *ca.Authority {
	at := func(n *yaml.Node) settings.Value { return settings.Value{Text: n.Value, Source: r.Path, Line: n.Line} }
	certPath, certText, certOK := r.ReadFile(at(cert))
	keyPath, keyText, keyOK := r.ReadFile(at(key))
	if !certOK || !keyOK {
		return nil
	}
	if err := certificates(certText); err != nil {
		r.FileProblem(cert.Line, certPath+" "+err.Error())
		return nil
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		r.FileProblem(cert.Line, fmt.Sprintf("%s and %s are no certificate and its key: %v", certPath, keyPath, err))
		return nil
	}
	a, err := authorities.New(pair, certText, keyText)
	if err != nil {
		r.FileProblem(cert.Line, fmt.Sprintf("%s is no CA: %v; make one with sluice inspect ca", certPath, err))
		return nil
	}
	if info, err := os.Stat(keyPath); err == nil && info.Mode().Perm()&0o007 != 0 {
		r.Warn(settings.Problem{Source: r.Path, Line: key.Line, Msg: fmt.Sprintf("%s can be read by everybody on this host: with it anybody can be any of the hosts to your clients", keyPath)})
	}
	return a
}

// host reads one host of the list.
func (r inspectReader) host(item *yaml.Node) (h policy.Inspected) {
	var o request.Options
	var requests, headers *yaml.Node
	before := len(r.Problems)
	h.Line = item.Line
	r.keys(item, map[string]func(*yaml.Node){
		"host":          scalar(r.nodes, &h.Host, parseInspectedHost),
		"requests":      func(n *yaml.Node) { requests = n },
		"headers":       func(n *yaml.Node) { headers = n },
		"maxBody":       scalar(r.nodes, &h.MaxBody, parseMaxBody),
		"browsers":      scalar(r.nodes, &h.Browsers, settings.Bool),
		"passthrough":   scalar(r.nodes, &h.Passthrough, settings.Bool),
		"encodedSlash":  scalar(r.nodes, &o.EncodedSlash, oneWord("segment")),
		"emptySegments": scalar(r.nodes, &o.EmptySegments, oneWord("keep")),
	})
	switch {
	case h.Host == "" && len(r.Problems) == before:
		r.FileProblem(item.Line, `an inspected host wants a "host": a name, *.name or an address, with ports behind it or without`)
	case h.Passthrough && (requests != nil || headers != nil || h.MaxBody > 0):
		r.FileProblem(item.Line, fmt.Sprintf(`%q is "passthrough": its tunnels are not opened, so nothing can be said of requests; leave the rest out`, h.Host))
	case !h.Passthrough && requests == nil && len(r.Problems) == before:
		r.FileProblem(item.Line, fmt.Sprintf(`%q has no "requests"; to allow everything, write requests: "*"`, h.Host))
	}
	if requests != nil {
		h.Requests = r.requests(requests, o)
	}
	if headers != nil {
		r.keys(headers, r.headers(headers, &h))
	}
	return h
}

// requests reads the request rules of a host.
func (r inspectReader) requests(n *yaml.Node, o request.Options) *request.Rules {
	if n.Kind != yaml.ScalarNode {
		r.FileProblem(n.Line, `"requests" wants a text, not a list: write "requests: |" and below it one rule a line, indented, without dashes`)
		return nil
	}
	line := n.Line
	if n.Style&yaml.LiteralStyle != 0 {
		line++ // the text begins under the "|"
	}
	rules, err := request.ParseNamed(r.Path, line, n.Value, o)
	if err != nil {
		r.Problems = append(r.Problems, ofRules(r.Path, err)...)
	}
	r.Warnings = append(r.Warnings, fromACL(rules.Warnings())...)
	return rules
}

// fieldName is that of a header field (RFC 9110 section 5.1).
var fieldName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// framing are fields that are written by whoever frames the request.
var framing = []string{"connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "max-forwards", "proxy-authenticate",
	"proxy-authentication-info", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "via"}

// headers are readers of each field that the mapping names.
func (r inspectReader) headers(n *yaml.Node, h *policy.Inspected) map[string]func(*yaml.Node) {
	readers := map[string]func(*yaml.Node){}
	seen := map[string]bool{}
	if n.Kind != yaml.MappingNode {
		return readers // which keys reports
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		name, lower := key.Value, strings.ToLower(key.Value)
		readers[name] = func(v *yaml.Node) {
			switch {
			case !fieldName.MatchString(name):
				r.FileProblem(key.Line, fmt.Sprintf("%q is no name of a header field", name))
			case slices.Contains(framing, lower):
				r.FileProblem(key.Line, fmt.Sprintf("%s frames or routes a request, and is written by the proxy alone", name))
			case seen[lower]:
				r.FileProblem(key.Line, fmt.Sprintf("%s stands here twice: names of fields have no case", name))
			default:
				seen[lower] = true
				r.header(name, v, h)
			}
		}
	}
	return readers
}

// header reads one field and the file of its value.
func (r inspectReader) header(name string, n *yaml.Node, h *policy.Inspected) {
	var file *yaml.Node
	prefix := ""
	before := len(r.Problems)
	r.keys(n, map[string]func(*yaml.Node){
		"file": func(n *yaml.Node) { file = n },
		"prefix": func(n *yaml.Node) { // its space at the end counts
			if prefix = n.Value; n.Kind != yaml.ScalarNode || !isFieldText(n.Value) {
				r.FileProblem(n.Line, fmt.Sprintf("%q cannot stand in a header field", n.Value))
			}
		},
	})
	if file == nil && len(r.Problems) == before {
		r.FileProblem(n.Line, fmt.Sprintf(`%s wants a "file" that holds its value, so that no secret stands here`, name))
	}
	if len(r.Problems) > before {
		return
	}
	path, text, err := r.TryFile(settings.Value{Text: file.Value, Source: r.Path, Line: file.Line})
	text = bytes.TrimSuffix(text, []byte("\n"))
	switch {
	case err == nil && len(text) == 0:
		err = errors.New(path + " is empty")
	case err == nil && len(bytes.Trim(text, " \t")) != len(text):
		r.FileProblem(file.Line, fmt.Sprintf("%s begins or ends with a blank, which servers drop: it would not be found in an answer", path))
		return
	case err == nil && !isFieldText(string(text)):
		r.FileProblem(file.Line, fmt.Sprintf("%s has a line end or another control byte inside, which no header field may", path))
		return
	}
	if err != nil {
		r.Warn(settings.Problem{Source: r.Path, Line: file.Line, Msg: fmt.Sprintf("%v: requests to %s fail until it can be read", err, h.Host)})
		h.Headers = append(h.Headers, policy.Header{Name: name, Problem: err})
		return
	}
	h.Headers = append(h.Headers, policy.NewHeader(name, prefix, text))
}

// isFieldText reports whether s may stand in the value of a header field (RFC 9110 section 5.5).
func isFieldText(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) < 0
}

// parseInspectedHost takes a form of a host that NewInspect takes.
func parseInspectedHost(s string) (string, error) {
	_, err := policy.NewInspect([]policy.Inspected{{Host: s}})
	return s, err
}

// parseMaxBody takes a size up to 1 TiB.
func parseMaxBody(s string) (int64, error) {
	n, err := settings.Size(1, 1<<40)(s)
	return int64(n), err
}

// oneWord takes that word alone.
func oneWord(word string) func(string) (bool, error) {
	return func(s string) (bool, error) {
		if s != word {
			return false, fmt.Errorf("%q is not %q, which is all that can be said here; leave it out to refuse", s, word)
		}
		return true, nil
	}
}
