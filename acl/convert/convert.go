package convert

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Files is where the files come from that a configuration names.
type Files struct {
	Read func(path string) ([]byte, error)
	// Glob returns the paths that match, sorted. If nil, a pattern is an error.
	Glob func(pattern string) ([]string, error)
}

// Effect is what it means that something is not said as it was.
type Effect uint8

const (
	// None: it decides on no request, or Sluice's guard does, which it always has.
	None Effect = iota
	// Differs: requests are decided in another way, which the finding tells, in the cases that
	// it tells.
	Differs
	// Closes: requests that were allowed are denied.
	Closes
	// Opens: requests that were denied are allowed, since the caller asked for it.
	Opens
)

var effectNames = [...]string{"none", "differs", "closes", "opens"}

// String is "none", "differs", "closes" or "opens".
func (e Effect) String() string {
	if int(e) < len(effectNames) {
		return effectNames[e]
	}
	return effectNames[Closes]
}

// MarshalText is String.
func (e Effect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// Finding is something that the result does not say as the configuration did.
type Finding struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // 0 when no line says it
	Text   string `json:"text"` // the line
	Effect Effect `json:"effect"`
	Why    string `json:"why"`
}

// String is "FILE:LINE: effect: why: the line", with escapes for what is no text.
func (f Finding) String() string {
	s := fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Effect, f.Why)
	if f.Line == 0 {
		s = fmt.Sprintf("%s: %s: %s", f.File, f.Effect, f.Why)
	}
	if f.Text != "" {
		s += ": " + f.Text
	}
	return printable(s)
}

// Tenant is what some clients may reach.
type Tenant struct {
	Name    string         `json:"name"`
	Clients []netip.Prefix `json:"clients"`
	Sources []netip.Addr   `json:"source,omitempty"` // none: those of the gateway
	Rules   string         `json:"rules"`
}

// Listener is a port of sluice tcp.
type Listener struct {
	Listen       string   `json:"listen"`
	Name         string   `json:"name,omitempty"`
	Destinations []string `json:"destinations"`
	Balance      string   `json:"balance,omitempty"`
	SendProxy    string   `json:"sendProxy,omitempty"`
	AcceptProxy  string   `json:"acceptProxy,omitempty"`
	Check        string   `json:"check,omitempty"` // the interval
}

// Result is a configuration in Sluice's words. Where it says less than the original it denies.
type Result struct {
	Rules     string       `json:"rules"` // of clients that are no tenant's; without a rule they are denied
	Sources   []netip.Addr `json:"source,omitempty"`
	Tenants   []Tenant     `json:"tenants,omitempty"`
	Listeners []Listener   `json:"tcp,omitempty"`
	Left      []Finding    `json:"left"` // in the order of the lines
}

// Changed reports whether a request may be decided otherwise than by the original.
func (r *Result) Changed() bool {
	return slices.ContainsFunc(r.Left, func(f Finding) bool { return f.Effect != None })
}

// Plain reports whether Rules is all there is: then Text is a list of rules, else a
// configuration file for --config.
func (r *Result) Plain() bool {
	return len(r.Tenants) == 0 && len(r.Sources) == 0 && len(r.Listeners) == 0
}

// Text is what is written into a file: the rules, with their end, or the configuration.
func (r *Result) Text() (string, error) {
	const end = "#@ end\n"
	if r.Plain() {
		if r.Rules == "" {
			return "# Nothing is allowed.\n" + end, nil
		}
		return r.Rules + end, nil
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(r.node()); err != nil {
		return "", err
	}
	return b.String(), enc.Close()
}

// node is the configuration file.
func (r *Result) node() *yaml.Node {
	var all, tenants, tcp []any
	if len(r.Sources) > 0 {
		all = append(all, "source", flow(r.Sources))
	}
	for _, l := range r.Listeners {
		kv := []any{"listen", l.Listen}
		if l.Name != "" {
			kv = append(kv, "name", l.Name)
		}
		kv = append(kv, "destinations", flow(l.Destinations))
		for _, o := range []struct{ key, value string }{{"balance", l.Balance}, {"sendProxy", l.SendProxy}, {"acceptProxy", l.AcceptProxy}} {
			if o.value != "" {
				kv = append(kv, o.key, o.value)
			}
		}
		if l.Check != "" {
			kv = append(kv, "check", mapping("interval", l.Check))
		}
		tcp = append(tcp, mapping(kv...))
	}
	if tcp != nil {
		all = append(all, "tcp", sequence(tcp...))
	}
	if r.Rules != "" {
		all = append(all, "rules", r.Rules)
	}
	for _, t := range r.Tenants {
		kv := []any{"name", t.Name, "clients", flow(t.Clients)}
		if len(t.Sources) > 0 {
			kv = append(kv, "source", flow(t.Sources))
		}
		rules := t.Rules
		if rules == "" {
			rules = "# Nothing is allowed.\n"
		}
		tenants = append(tenants, mapping(append(kv, "rules", rules)...))
	}
	if tenants != nil {
		all = append(all, "tenants", sequence(tenants...))
	}
	return mapping(all...)
}

func mapping(kv ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, v := range kv {
		n.Content = append(n.Content, value(v))
	}
	return n
}

func sequence(vs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for _, v := range vs {
		n.Content = append(n.Content, value(v))
	}
	return n
}

func flow[V any](vs []V) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, v := range vs {
		n.Content = append(n.Content, value(fmt.Sprint(v)))
	}
	return n
}

func value(v any) *yaml.Node {
	switch v := v.(type) {
	case *yaml.Node:
		return v
	case string:
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}
		if strings.Contains(v, "\n") {
			n.Style = yaml.LiteralStyle
		}
		return n
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v)}
}

// place is a line of a file.
type place struct {
	file string
	line int
	text string
}

// comment is the place in a comment of the rules.
func (p place) comment() string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, p.text)
	if len(text) > 120 {
		text = strings.ToValidUTF8(text[:120], "") + " …"
	}
	return fmt.Sprintf("%s:%d: %s", strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, p.file), p.line, text)
}

// findings gathers what is not said, each once.
type findings struct {
	all  []Finding
	seen map[Finding]bool
}

func (f *findings) add(at place, effect Effect, format string, args ...any) {
	one := Finding{File: at.file, Line: at.line, Text: at.text, Effect: effect, Why: fmt.Sprintf(format, args...)}
	if f.seen == nil {
		f.seen = map[Finding]bool{}
	}
	if !f.seen[one] {
		f.seen[one] = true
		f.all = append(f.all, one)
	}
}
