package audit

import (
	"errors"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// names finds names such that every other is matched by the same rules as one of them. It
// follows the labels from the last one on, in the tree of what is literal, together with the
// patterns that match so far.
type names struct {
	nodes    []nameNode       // nodes[0] is the root
	index    map[string]int32 // by the name
	globs    []*glob
	machines machines
	left     int     // names that may still be found
	budget   *budget // bounds the time that machines take
	own      int     // the number of globs of the lists that the tree was made of
	scope    *scope  // names that are meant
	yield    func(name string)
}

type nameNode struct {
	label       string
	first, next int32 // child and sibling; 0 is none
	last        int32 // child
	domain      bool  // names below are matched by more than those beside
}

// An alive pattern has matched the last labels of a name.
type alive struct {
	glob *glob
	at   int // labels that it has matched
}

// errTooLarge says that a question was given up.
var errTooLarge = errors.New("too large")

func newNames(b *budget, lists ...*list) *names {
	n := &names{nodes: make([]nameNode, 1), index: map[string]int32{}, machines: machines{}, budget: b, left: maxNames}
	n.add(lists)
	n.own = len(n.globs)
	return n
}

// again prepares for another question, which tells apart what more lists do. The literal names that it leaves
// behind make later ones finer, no more.
func (n *names) again(more ...*list) {
	n.globs, n.left = n.globs[:n.own], maxNames
	n.add(more)
}

func (n *names) add(lists []*list) {
	for _, l := range lists {
		for i := range l.rules {
			r := &l.rules[i]
			if r.Expired || r.Name == "" {
				continue
			}
			if strings.IndexByte(r.Name, '*') >= 0 {
				n.globs = append(n.globs, newGlob(r.Name, 0))
				continue
			}
			nd := n.node(r.Name)
			if r.Form == acl.FormDomain {
				n.nodes[nd].domain = true
			}
		}
	}
}

// node returns the node of a name, which it makes with those above.
func (n *names) node(name string) int32 {
	if i, ok := n.index[name]; ok {
		return i
	}
	label, rest, found := strings.Cut(name, ".")
	parent := int32(0)
	if found {
		parent = n.node(rest)
	}
	i := int32(len(n.nodes))
	n.nodes = append(n.nodes, nameNode{label: label})
	n.index[name] = i
	if up := &n.nodes[parent]; up.first == 0 {
		up.first, up.last = i, i
	} else {
		n.nodes[up.last].next = i
		up.last = i
	}
	return i
}

// all calls yield for each kind of names, the same ones in the same order each time.
func (n *names) all(yield func(name string)) error {
	n.yield = yield
	start := make([]alive, 0, len(n.globs))
	seen := map[string]bool{}
	for _, g := range n.globs {
		key := strings.Join(g.labels, ".")
		if g.below {
			key += "."
		}
		if !seen[key] {
			seen[key] = true
			start = append(start, alive{g, 0})
		}
	}
	return n.below("", 0, start, true)
}

// below visits the names below name, whose node is nd, 0 when it is none of the tree's. fresh says
// that those which nothing is literal about may be matched by other rules than name's siblings.
func (n *names) below(name string, nd int32, open []alive, fresh bool) error {
	onTree := nd != 0 || name == ""
	if n.scope != nil && !n.scope.within(name) { // only what leads to the scope
		for _, l := range n.scope.above[name] {
			child := int32(0)
			if onTree {
				child = n.index[join(l, name)]
			}
			if err := n.visit(join(l, name), child, open, func(p string) bool { return matchLabel(p, l) }, false); err != nil {
				return err
			}
		}
		return nil
	}
	var literals []string
	if onTree {
		for c := n.nodes[nd].first; c != 0; c = n.nodes[c].next {
			literals = append(literals, n.nodes[c].label)
		}
	}
	children := len(literals)
	patterns, more := nextLabels(open)
	for _, l := range more {
		if _, ok := n.index[join(l, name)]; !ok || !onTree {
			literals = append(literals, l)
		}
	}
	// Names that only literals lead to.
	freshFailed := false
	if fresh || len(open) > 0 {
		failed, err := n.freshBelow(name, literals, patterns, open)
		if err != nil {
			return err
		}
		freshFailed = failed
	}
	child := int32(0)
	if onTree {
		child = n.nodes[nd].first
	}
	for i, l := range literals {
		if i >= children {
			child = 0
		}
		if err := n.visit(join(l, name), child, open, func(p string) bool { return matchLabel(p, l) }, freshFailed); err != nil {
			return err
		}
		if child != 0 {
			child = n.nodes[child].next
		}
	}
	return nil
}

// freshBelow visits one name of each kind whose first label is none of the literals, and reports
// whether there is none at all.
func (n *names) freshBelow(name string, literals, patterns []string, open []alive) (none bool, err error) {
	limit := maxLabel
	if name != "" {
		limit = min(maxLabel, maxName-len(name)-1)
	}
	m := n.machines.of(patterns, name == "", n.budget)
	if m == nil {
		return false, errTooLarge
	}
	var set map[string]bool
	taken := func(w string) bool {
		if len(literals) < 8 {
			return slices.Contains(literals, w)
		}
		if set == nil {
			set = make(map[string]bool, len(literals))
			for _, l := range literals {
				set[l] = true
			}
		}
		return set[w]
	}
	none = true
	for _, kind := range m.kinds {
		w := m.word(kind, limit, taken)
		if w == "" {
			continue
		}
		none = false
		err := n.visit(join(w, name), 0, open, func(p string) bool {
			i, ok := slices.BinarySearch(patterns, p)
			return ok && matches(kind, i)
		}, false)
		if err != nil {
			return false, err
		}
	}
	return none, nil
}

// visit yields a name and goes on below it. match says which patterns match its first label.
func (n *names) visit(name string, nd int32, open []alive, match func(pattern string) bool, fresh bool) error {
	if len(name) > maxName {
		return nil // and none of its kind is shorter
	}
	if !n.scope.leads(name) {
		return nil
	}
	if n.left--; n.left < 0 {
		return errTooLarge
	}
	if n.scope.holds(name) {
		n.yield(name)
	}
	var still []alive
	if nd != 0 {
		fresh = fresh || n.nodes[nd].domain
	}
	for _, a := range open {
		if !match(a.glob.labels[a.at]) {
			continue
		}
		if a.at+1 < len(a.glob.labels) {
			still = append(still, alive{a.glob, a.at + 1})
		} else if a.glob.below {
			fresh = true
		}
	}
	if nd == 0 && len(still) == 0 && !fresh {
		return nil
	}
	return n.below(name, nd, still, fresh)
}

// nextLabels returns what the patterns want of the next label: patterns, sorted, and literals.
func nextLabels(open []alive) (patterns, literals []string) {
	for _, a := range open {
		l := a.glob.labels[a.at]
		if strings.IndexByte(l, '*') >= 0 {
			patterns = append(patterns, l)
		} else if !slices.Contains(literals, l) {
			literals = append(literals, l)
		}
	}
	slices.Sort(patterns)
	return slices.Compact(patterns), literals
}

func join(label, name string) string {
	if name == "" {
		return label
	}
	return label + "." + name
}
