package migrate

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// text is a string in the output. It is quoted where YAML would take it for something else.
func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	switch {
	case strings.Contains(s, "\n") && !strings.ContainsAny(s, "\t\r"):
		n.Style = yaml.LiteralStyle
	case another.MatchString(s):
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// another is what is a string in YAML 1.2, and something else in 1.1, by which kubectl and helm
// read: truth values, numbers to the base of 60, merge keys. The encoder quotes by 1.2.
var another = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$|^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$|^(<<|=)$`)

func number(i int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(i)}
}

func truth(b bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(b)}
}

// object is a mapping of keys and values by turns, in their order. A value is a string, an
// int, a bool or a node; a key whose node is nil, or has nothing in it, is left out.
func object(kv ...any) *yaml.Node {
	o := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(kv); i += 2 {
		if v := node(kv[i+1]); v != nil && (v.Kind == yaml.ScalarNode || len(v.Content) > 0) {
			o.Content = append(o.Content, text(kv[i].(string)), v)
		}
	}
	return o
}

// list is a list of such values; those that are nil are left out.
func list(vs ...any) *yaml.Node {
	l := &yaml.Node{Kind: yaml.SequenceNode}
	for _, v := range vs {
		if v := node(v); v != nil {
			l.Content = append(l.Content, v)
		}
	}
	return l
}

func node(v any) *yaml.Node {
	switch v := v.(type) {
	case string:
		return text(v)
	case int:
		return number(v)
	case bool:
		return truth(v)
	case *yaml.Node:
		return v
	}
	return nil
}

// flow is n on one line.
func flow(n *yaml.Node) *yaml.Node {
	n.Style = yaml.FlowStyle
	return n
}

// merged is first, with the keys of second that it does not have.
func merged(first, second *yaml.Node) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, from := range []*yaml.Node{first, second} {
		for _, key := range keys(from) {
			if value(m, key) == nil {
				m.Content = append(m.Content, text(key), value(from, key))
			}
		}
	}
	return m
}

// write is the objects as YAML documents.
func write(objects []*yaml.Node) (string, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	for _, o := range objects {
		if err := enc.Encode(plain(o)); err != nil {
			return "", err
		}
	}
	if err := enc.Close(); err != nil {
		return "", err
	}
	return b.String(), nil
}

// plain takes from what was read the style of JSON.
func plain(n *yaml.Node) *yaml.Node {
	c := *n
	if n.Line > 0 && n.Kind != yaml.ScalarNode {
		c.Style = 0
	}
	if n.Line > 0 && n.Kind == yaml.ScalarNode && c.Tag == "!!str" {
		c = *text(n.Value)
	}
	c.Content = nil
	for _, child := range n.Content {
		c.Content = append(c.Content, plain(child))
	}
	return &c
}
