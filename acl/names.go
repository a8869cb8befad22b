package acl

import "strings"

// A nameIndex finds the earliest rule for a name by hash look-ups on its
// suffixes: exact names, domains and globs share one map and its nodes. A node
// links to the nearest one above it that can decide for names below itself, so
// the first suffix found leads to all the others without further look-ups.
type nameIndex struct {
	nodes []node            // nodes[0] is the root, which every name lies below
	index map[string]uint32 // name, without `*.`, to node
	globs []glob
	depth int // most labels of a node that decides for names below itself
}

// A node is one name in the index.
type node struct {
	exact  cell   // rules for this name alone
	domain cell   // rules for this name and every name below it
	up     uint32 // nearest node above with a domain or globs, or the root
	globs  uint32 // first of the globs that end in this name, plus 1; 0 is none
}

// earliest returns the earliest rule for name, if it is earlier than best,
// otherwise best.
func (x *nameIndex) earliest(steps stepTable, name string, port uint16, best ruleNo) ruleNo {
	n, ok := x.index[name]
	if ok {
		best = min(best, steps.at(x.nodes[n].exact, port))
	} else {
		n = x.above(name)
	}
	for {
		nd := &x.nodes[n]
		best = min(best, steps.at(nd.domain, port))
		if nd.globs != 0 {
			best = x.earliestGlob(steps, nd.globs, name, port, best)
		}
		if n == 0 {
			return best
		}
		n = nd.up
	}
}

// above returns the nearest node above name that decides for names below
// itself, or the root.
func (x *nameIndex) above(name string) uint32 {
	if x.depth == 0 {
		return 0
	}
	for skip := strings.Count(name, ".") - x.depth; ; skip-- {
		dot := strings.IndexByte(name, '.')
		if dot < 0 {
			return 0
		}
		name = name[dot+1:]
		if skip > 0 {
			continue // no node has that many labels
		}
		if n, ok := x.index[name]; ok && x.nodes[n].holds() {
			return n
		}
	}
}

// holds reports whether nd can decide for names below itself.
func (nd *node) holds() bool { return nd.domain != 0 || nd.globs != 0 }

// A nameRule is a rule on names, read and waiting for the index to be built.
type nameRule struct {
	name  string
	rule  ruleNo
	kind  formKind
	ports []portRange
}

// build fills the index.
func (x *nameIndex) build(b *builder, rules []nameRule) {
	x.nodes = make([]node, 1, len(rules)+1)
	x.index = make(map[string]uint32, len(rules))
	var globs globBuilder
	for i := range rules {
		r := &rules[i]
		if r.kind == formGlob {
			globs.add(b, r)
			continue
		}
		nd := x.node(r.name)
		c := &nd.exact
		if r.kind == formDomain {
			c = &nd.domain
			x.depth = max(x.depth, labels(r.name))
		}
		b.add(c, r.rule, r.ports)
	}
	for i := range x.nodes {
		b.finish(&x.nodes[i].exact)
		b.finish(&x.nodes[i].domain)
	}
	globs.finish(b, x)
	if x.depth > 0 {
		for name, n := range x.index {
			x.nodes[n].up = x.above(name)
		}
	}
}

// node returns the node of name, which it makes when there is none.
func (x *nameIndex) node(name string) *node {
	if name == "" {
		return &x.nodes[0]
	}
	n, ok := x.index[name]
	if !ok {
		n = uint32(len(x.nodes))
		x.nodes = append(x.nodes, node{})
		x.index[name] = n
	}
	return &x.nodes[n]
}

func labels(name string) int { return strings.Count(name, ".") + 1 }
