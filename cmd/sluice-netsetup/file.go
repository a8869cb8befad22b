package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/internal/spelling"
)

var yamlLine = regexp.MustCompile(`(?s)^yaml: (?:line (\d+): )?(.*)$`)

// readConfig reads the configuration file. It works on nodes, since only they know
// their lines.
func (l *loader) readConfig(v value) {
	text, ok := l.read(v)
	l.unread = true
	if !ok {
		return
	}
	l.path = text.source
	fault := func(line int, format string, args ...any) {
		l.problems = append(l.problems, problem{l.path, line, fmt.Sprintf(format, args...)})
	}
	dec := yaml.NewDecoder(bytes.NewReader([]byte(text.text)))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if err == nil {
		if e := dec.Decode(&more); e == nil {
			fault(more.Line, "a second document; one file holds one configuration")
			return
		} else if !errors.Is(e, io.EOF) {
			err = e
		}
	}
	if errors.Is(err, io.EOF) {
		l.unread = false // nothing but comments
		return
	}
	if err != nil {
		line, msg := 0, err.Error()
		if m := yamlLine.FindStringSubmatch(msg); m != nil {
			line, _ = strconv.Atoi(m[1])
			msg = m[2]
		}
		fault(line, "not YAML: %s", strings.ReplaceAll(msg, "\n", " "))
		return
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		if l.unread = root.Tag != "!!null"; l.unread {
			fault(root.Line, "not a list of keys and values")
		}
		return
	}
	l.unread = false
	l.parseKeys(root, fault)
}

func (l *loader) parseKeys(root *yaml.Node, fault func(int, string, ...any)) {
	l.file = map[string]value{}
	first := map[string]int{}
	var names []string
	for _, s := range allSettings {
		names = append(names, s.key)
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, node := root.Content[i], root.Content[i+1]
		known := key.Value != "" && slices.Contains(names, key.Value)
		switch {
		case !known || key.Kind != yaml.ScalarNode:
			fault(key.Line, "unknown key %q%s", key.Value, spelling.DidYouMean("", key.Value, names))
			continue
		case first[key.Value] > 0:
			fault(key.Line, "%q stands in line %d already", key.Value, first[key.Value])
			continue
		}
		first[key.Value] = key.Line
		v, err := l.parseValue(node)
		if err != nil {
			fault(node.Line, "%q %v", key.Value, err)
			continue
		}
		l.file[key.Value] = v
	}
}

// parseValue takes a scalar, or a list of scalars, which count as a line each.
func (l *loader) parseValue(node *yaml.Node) (value, error) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	nodes := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		nodes = node.Content
	}
	var texts []string
	var lines []int // of each line of the text
	for _, n := range nodes {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		switch {
		case n.Kind != yaml.ScalarNode:
			return value{}, errors.New("wants a value or a list of values")
		case n.Tag == "!!null":
			return value{}, errors.New("has no value; leave the key out to get the default")
		}
		texts = append(texts, n.Value)
		start := n.Line
		if n.Style&yaml.LiteralStyle != 0 {
			start++ // the text begins under the "|"
		}
		for i := range strings.Count(n.Value, "\n") + 1 {
			lines = append(lines, start+i)
		}
	}
	at := func(n int) int {
		if n < 1 || n > len(lines) {
			return node.Line
		}
		return lines[n-1]
	}
	return value{text: strings.Join(texts, "\n"), source: l.path, line: at, inFile: true, set: true}, nil
}
