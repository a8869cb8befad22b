package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/internal/spelling"
)

// nodes reads structures of the configuration file, and reports what is wrong with them.
type nodes struct{ *settings.Loader }

// keys calls the reader of each key of the mapping n, and reports other keys,
// keys that stand twice, and empty ones.
func (f nodes) keys(n *yaml.Node, readers map[string]func(*yaml.Node)) {
	n = settings.Target(n)
	if n.Kind != yaml.MappingNode {
		f.FileProblem(n.Line, "not a list of keys and values")
		return
	}
	var known []string
	for k := range readers {
		known = append(known, k)
	}
	slices.Sort(known)
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], settings.Target(n.Content[i+1])
		read := readers[key.Value]
		switch {
		case read == nil || key.Kind != yaml.ScalarNode:
			f.FileProblem(key.Line, fmt.Sprintf("unknown key %q%s", key.Value, spelling.DidYouMean("", key.Value, known)))
		case first[key.Value] > 0:
			f.FileProblem(key.Line, fmt.Sprintf("%q stands in line %d already", key.Value, first[key.Value]))
		case v.Kind == yaml.ScalarNode && v.Tag == "!!null":
			f.FileProblem(key.Line, fmt.Sprintf("%q has no value", key.Value))
		default:
			first[key.Value] = key.Line
			read(v)
		}
	}
}

// scalar reads one value into dst.
func scalar[V any](f nodes, dst *V, parse func(string) (V, error)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			f.FileProblem(n.Line, "one value is wanted here")
			return
		}
		v, err := parse(strings.TrimSpace(n.Value))
		if err != nil {
			f.FileProblem(n.Line, err.Error())
			return
		}
		*dst = v
	}
}

// scalars reads one value, or a list of them.
func (f nodes) scalars(n *yaml.Node, parse func(string) error) {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	for _, n := range nodes {
		line := n.Line
		if n = settings.Target(n); n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			f.FileProblem(line, "a value, or a list of values, is wanted here")
			continue
		}
		if err := parse(strings.TrimSpace(n.Value)); err != nil {
			f.FileProblem(line, err.Error())
		}
	}
}
