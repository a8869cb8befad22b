package suggest

import (
	"strings"

	_ "embed"

	"golang.org/x/net/publicsuffix"
)

// aboveText are the names that lie above a public suffix and are none themselves, such as amazonaws.com:
// s3.amazonaws.com is one. The package publicsuffix can say of a name what its suffix is, but not what
// lies below it, so that this is made of its table; TestAbove holds the two together.
//
//go:embed above.txt
var aboveText string

// above is aboveText by name.
var above = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(aboveText) {
		m[name] = true
	}
	return m
}()

// foldable reports whether all that lies below a name is somebody's: it is no public suffix, where
// strangers register names right below, and lies above none.
func foldable(name string) bool {
	if strings.IndexByte(name, '.') < 0 || above[name] {
		return false
	}
	suffix, _ := publicsuffix.PublicSuffix(name)
	return suffix != name
}

// node is a name in the tree of those that were asked for on the same ports.
type node struct {
	name     string
	uses     []*use // of this name alone; none: it was not asked for
	children map[string]*node
}

// add enters a name.
func (n *node) add(name string, uses []*use) {
	for end := len(name); end > 0; {
		at := strings.LastIndexByte(name[:end], '.')
		label := name[at+1 : end]
		child := n.children[label]
		if child == nil {
			if n.children == nil {
				n.children = map[string]*node{}
			}
			child = &node{name: name[at+1:]}
			n.children[label] = child
		}
		n, end = child, at
	}
	n.uses = uses
}

// item is what becomes one rule.
type item struct {
	rule  string // without ports
	names []string
	uses  []*use
}

// fold returns the rules for the names in n: at each name one for all that is below it, from so many on.
// The lowest names come first, so that no rule is for more than it has to. blocked says where none may be.
func (n *node) fold(least int, blocked func(name string) bool) (all []item) {
	if len(n.uses) > 0 {
		all = append(all, item{n.name, []string{n.name}, n.uses})
	}
	for _, child := range n.children {
		all = append(all, child.fold(least, blocked)...)
	}
	if len(all) < least || !foldable(n.name) || blocked(n.name) {
		return all
	}
	one := item{rule: "*." + n.name}
	for _, i := range all {
		one.names, one.uses = append(one.names, i.names...), append(one.uses, i.uses...)
	}
	return []item{one}
}
