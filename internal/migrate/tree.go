package migrate

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds a document, and what aliases may make of it.
const maxNodes = 200_000

// document is an object as it was read, with what of it has been taken over.
type document struct {
	file string
	root *yaml.Node
	used map[*yaml.Node]bool
	done bool // it is migrated, or what makes it is
}

func (d *document) kind() string      { return scalar(at(d.root, "kind")) }
func (d *document) name() string      { return scalar(at(d.root, "metadata", "name")) }
func (d *document) namespace() string { return scalar(at(d.root, "metadata", "namespace")) }
func (d *document) String() string    { return d.kind() + " " + d.name() }

// at is what stands at the path, nil when nothing does.
func at(n *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		n = value(n, key)
	}
	return n
}

func value(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// scalar is the text of a scalar, "" for anything else and for null.
func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// items are those of a list.
func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// keys are those of a mapping.
func keys(n *yaml.Node) (all []string) {
	if n != nil && n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			all = append(all, n.Content[i].Value)
		}
	}
	return all
}

// text takes the scalar at the path.
func (d *document) text(n *yaml.Node, path ...string) string {
	n = at(n, path...)
	if n != nil {
		d.used[n] = true
	}
	return scalar(n)
}

// take takes all that stands at the path; nil when nothing does.
func (d *document) take(n *yaml.Node, path ...string) *yaml.Node {
	if n = at(n, path...); n != nil {
		d.mark(n)
	}
	return n
}

func (d *document) mark(n *yaml.Node) {
	d.used[n] = true
	for _, c := range n.Content {
		d.mark(c)
	}
}

// left are the greatest parts below n that nobody has taken, by their paths.
func (d *document) left(n *yaml.Node, path string) (all []leftover) {
	if n == nil || d.used[n] {
		return nil
	}
	if !d.touched(n) {
		return []leftover{{path, n}}
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			all = append(all, d.left(n.Content[i+1], join(path, n.Content[i].Value))...)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			all = append(all, d.left(c, fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return all
}

// leftover is a part of an object that nobody has taken.
type leftover struct {
	path string
	node *yaml.Node
}

// String is the path, with the value where that is short.
func (l leftover) String() string {
	if v := scalar(l.node); v != "" && len(v) < 60 && !strings.Contains(v, "\n") {
		return l.path + ": " + v
	}
	return l.path
}

func (d *document) touched(n *yaml.Node) bool {
	if d.used[n] {
		return true
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue
		}
		if d.touched(c) {
			return true
		}
	}
	return false
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// expand is a copy of n without aliases, anchors, merge keys and comments.
func expand(n *yaml.Node) (*yaml.Node, error) {
	left := maxNodes
	return expandWithin(n, &left)
}

// tags are those of what JSON has as well. A date is a string there.
var tags = []string{"!!map", "!!seq", "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!merge"}

var errTooLarge = fmt.Errorf("a document has more than %d values, its aliases written out, which no manifest needs; if it is a list of many objects, give them in parts", maxNodes)

func expandWithin(n *yaml.Node, left *int) (*yaml.Node, error) {
	if *left--; *left < 0 {
		return nil, errTooLarge
	}
	if n.Kind == yaml.AliasNode {
		return expandWithin(n.Alias, left)
	}
	if !slices.Contains(tags, n.ShortTag()) {
		return nil, fmt.Errorf("line %d: tags (%s) are not of Kubernetes' YAML; take it out", n.Line, n.Tag)
	}
	c := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Style: n.Style &^ yaml.TaggedStyle, Line: n.Line, Column: n.Column}
	seen := map[string]bool{}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			if child.Tag == "!!merge" {
				return nil, fmt.Errorf("line %d: merge keys (<<) are not of Kubernetes' YAML; write the keys out", child.Line)
			}
			if child.Kind != yaml.ScalarNode && child.Kind != yaml.AliasNode {
				return nil, fmt.Errorf("line %d: a key is a text in Kubernetes' YAML, and this one is a list or a mapping", child.Line)
			}
			if seen[child.Value] {
				return nil, fmt.Errorf("line %d: the key %q stands twice", child.Line, child.Value)
			}
			seen[child.Value] = true
		}
		copied, err := expandWithin(child, left)
		if err != nil {
			return nil, err
		}
		c.Content = append(c.Content, copied)
	}
	return c, nil
}
