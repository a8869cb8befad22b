package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/internal/spelling"
)

var yamlLine = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// parseFile reads the YAML text, and reports whether it is a list of keys. It
// works on nodes, since only they know their lines.
func (l *Loader) parseFile(text []byte) bool {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return true // nothing but comments
	case err != nil:
		l.yamlProblem(err)
		return false
	}
	if err := dec.Decode(&more); err == nil {
		l.FileProblem(more.Line, "a second document; one file holds one configuration")
	} else if !errors.Is(err, io.EOF) {
		l.yamlProblem(err)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return true
	}
	if root.Kind != yaml.MappingNode {
		l.FileProblem(root.Line, "not a list of keys and values")
		return false
	}
	l.parseKeys(root)
	return true
}

func (l *Loader) parseKeys(root *yaml.Node) {
	known := map[string]Setting{}
	var names []string
	for _, s := range l.all {
		if s.Key != "" {
			known[s.Key] = s
			names = append(names, s.Key)
		}
	}
	l.file, l.blocks = map[string][]Value{}, map[string]*yaml.Node{}
	first := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		s, ok := known[key.Value]
		switch {
		case !ok || key.Kind != yaml.ScalarNode:
			l.FileProblem(key.Line, fmt.Sprintf("unknown key %q%s", key.Value, spelling.DidYouMean("", key.Value, names)))
		case first[key.Value] > 0:
			l.FileProblem(key.Line, fmt.Sprintf("%q stands in line %d already", key.Value, first[key.Value]))
		default:
			first[key.Value] = key.Line
			switch {
			case s.Block:
				l.blocks[key.Value] = node
			case s.List && Target(node).Kind == yaml.SequenceNode && len(Target(node).Content) == 0: // as if it were not there
			default:
				l.file[key.Value] = l.parseValue(key, node, s) // none: it is there, and wrong
			}
		}
	}
}

// parseValue reads a scalar, or a list of scalars where the setting takes one; it
// returns none when that is wrong.
func (l *Loader) parseValue(key, node *yaml.Node, s Setting) (vs []Value) {
	nodes := []*yaml.Node{node}
	if n := Target(node); n.Kind == yaml.SequenceNode && s.List {
		nodes = n.Content
	}
	for _, n := range nodes {
		line := n.Line
		n = Target(n)
		switch {
		case n.Kind == yaml.SequenceNode && s.Flag == "" && !s.List: // a text of lines
			l.FileProblem(line, fmt.Sprintf("%q wants a text, not a list: write \"%s: |\" and below it one a line, indented, without dashes", key.Value, key.Value))
			return nil
		case n.Kind != yaml.ScalarNode && s.List:
			l.FileProblem(line, fmt.Sprintf("%q wants a value or a list of values", key.Value))
			return nil
		case n.Kind != yaml.ScalarNode:
			l.FileProblem(line, fmt.Sprintf("%q wants one value", key.Value))
			return nil
		case n.Tag == "!!null":
			l.FileProblem(line, fmt.Sprintf("%q has no value; leave the key out to get the default", key.Value))
			return nil
		}
		v := Value{Text: n.Value, Source: l.Path, Line: line}
		if n.Style&yaml.LiteralStyle != 0 {
			v.Line = n.Line + 1 // the text begins under the "|"
		}
		vs = append(vs, v)
	}
	return vs
}

// Target is the node that an alias stands for, or n.
func Target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// FileProblem reports what is wrong in a line of the configuration file.
func (l *Loader) FileProblem(line int, msg string) {
	l.Report(Problem{Source: l.Path, Line: line, Msg: msg})
}

// yamlProblem takes the line out of the library's message.
func (l *Loader) yamlProblem(err error) {
	line, msg := 0, err.Error()
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = m[2]
	}
	l.FileProblem(line, "not YAML: "+strings.ReplaceAll(msg, "\n", " "))
}
