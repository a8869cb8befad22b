package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/internal/spelling"
)

// reserved keys have a meaning in a later version; until then they are refused
// with a word of their own, since ignoring them would open what they should close.
var reserved = map[string]string{
	"tenants": `"tenants" is reserved: this version has one set of rules for every client`,
}

// readConfig reads the configuration file, if one is named.
func (l *loader) readConfig(s Setting, all []Setting) {
	vs := l.values(s)
	if len(vs) == 0 {
		return
	}
	path, text, ok := l.read(vs[0])
	l.path = path
	if ok {
		ok = l.parseFile(text, all)
	}
	l.unread = !ok
}

// beside is path, taken from the directory of the file at base when it is relative.
func beside(base, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(base), path)
}

var yamlLine = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// parseFile reads the YAML text, and reports whether it is a list of keys. It
// works on nodes, since only they know their lines.
func (l *loader) parseFile(text []byte, all []Setting) bool {
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
		l.fileProblem(more.Line, "a second document; one file holds one configuration")
	} else if !errors.Is(err, io.EOF) {
		l.yamlProblem(err)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return true
	}
	if root.Kind != yaml.MappingNode {
		l.fileProblem(root.Line, "not a list of keys and values")
		return false
	}
	l.parseKeys(root, all)
	return true
}

func (l *loader) parseKeys(root *yaml.Node, all []Setting) {
	known := map[string]Setting{}
	var names []string
	for _, s := range all {
		if s.FileKey != "" {
			known[s.FileKey] = s
			names = append(names, s.FileKey)
		}
	}
	l.file, l.blocks = map[string][]value{}, map[string]*yaml.Node{}
	first := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		s, ok := known[key.Value]
		switch {
		case reserved[key.Value] != "":
			l.fileProblem(key.Line, reserved[key.Value])
		case !ok || key.Kind != yaml.ScalarNode:
			l.fileProblem(key.Line, fmt.Sprintf("unknown key %q%s", key.Value, spelling.DidYouMean("", key.Value, names)))
		case first[key.Value] > 0:
			l.fileProblem(key.Line, fmt.Sprintf("%q stands in line %d already", key.Value, first[key.Value]))
		default:
			first[key.Value] = key.Line
			if s.Block {
				l.blocks[key.Value] = node
			} else {
				l.file[key.Value] = l.parseValue(key, node, s) // none: it is there, and wrong
			}
		}
	}
}

// parseValue reads a scalar, or a list of scalars where the setting takes one; it
// returns none when that is wrong.
func (l *loader) parseValue(key, node *yaml.Node, s Setting) (vs []value) {
	nodes := []*yaml.Node{node}
	if n := target(node); n.Kind == yaml.SequenceNode && s.List {
		nodes = n.Content
	}
	for _, n := range nodes {
		line := n.Line
		n = target(n)
		switch {
		case n.Kind == yaml.SequenceNode && s.Flag == "": // a text of lines
			l.fileProblem(line, fmt.Sprintf("%q wants a text, not a list: write \"%s: |\" and below it one a line, indented, without dashes", key.Value, key.Value))
			return nil
		case n.Kind != yaml.ScalarNode && s.List:
			l.fileProblem(line, fmt.Sprintf("%q wants a value or a list of values", key.Value))
			return nil
		case n.Kind != yaml.ScalarNode:
			l.fileProblem(line, fmt.Sprintf("%q wants one value", key.Value))
			return nil
		case n.Tag == "!!null":
			l.fileProblem(line, fmt.Sprintf("%q has no value; leave the key out to get the default", key.Value))
			return nil
		}
		v := value{text: n.Value, source: l.path, line: line, file: true}
		if n.Style&yaml.LiteralStyle != 0 {
			v.line = n.Line + 1 // the text begins under the "|"
		}
		vs = append(vs, v)
	}
	return vs
}

// target is the node that an alias stands for, or n.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func (l *loader) fileValues(s Setting) []value {
	if s.FileKey == "" {
		return nil
	}
	return l.file[s.FileKey]
}

func (l *loader) fileProblem(line int, msg string) {
	l.report(Problem{Source: l.path, Line: line, Msg: msg})
}

// yamlProblem takes the line out of the library's message.
func (l *loader) yamlProblem(err error) {
	line, msg := 0, err.Error()
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = m[2]
	}
	l.fileProblem(line, "not YAML: "+strings.ReplaceAll(msg, "\n", " "))
}
