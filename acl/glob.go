package acl

import (
	"slices"
	"strings"

	gobwas "github.com/gobwas/glob"
)

// A glob is a name rule with a `*` somewhere else than alone in front. Globs
// hang in lists, sorted by their earliest rule, on the node of the literal
// labels at their end: only names below that node try them, and only while
// they can still win.
type glob struct {
	match  func(name string) bool // see compileGlob
	cell   cell
	first  ruleNo // earliest rule of cell
	next   uint32 // next of the same node, plus 1; 0 is none
	labels int    // how many labels match wants
	below  bool   // led by `*.`: names below match too
}

// earliestGlob tries the list that starts at first.
func (x *nameIndex) earliestGlob(steps stepTable, first uint32, name string, port uint16, best ruleNo) ruleNo {
	have := labels(name)
	for i := first; i != 0; {
		g := &x.globs[i-1]
		if g.first >= best {
			break // so is every one behind it
		}
		if have == g.labels || g.below && have > g.labels {
			if r := steps.at(g.cell, port); r < best && g.match(lastLabels(name, have-g.labels)) {
				best = r
			}
		}
		i = g.next
	}
	return best
}

// lastLabels returns name without its first skip labels.
func lastLabels(name string, skip int) string {
	for ; skip > 0; skip-- {
		name = name[strings.IndexByte(name, '.')+1:]
	}
	return name
}

// compileGlob compiles a normalised glob, without the leading `*.` if it has
// one. Names and pattern have equally many labels, since `*` never crosses a
// dot.
//
// gobwas/glob matches by backtracking. That is linear with one `*` a label;
// with several it is not (`*a*a*a*a*a*a*b*` against 63 times "a" took 12 s),
// so such labels are matched one by one, by matchLabel.
func compileGlob(pattern string) (func(string) bool, error) {
	parts := strings.Split(pattern, ".")
	if !slices.ContainsFunc(parts, func(l string) bool { return strings.Count(l, "*") > 1 }) {
		p, err := gobwas.Compile(pattern, '.')
		if err != nil {
			return nil, err
		}
		return p.Match, nil
	}
	return func(name string) bool {
		for _, p := range parts {
			label, rest, _ := strings.Cut(name, ".")
			if !matchLabel(p, label) {
				return false
			}
			name = rest
		}
		return true
	}, nil
}

// matchLabel matches one label against a pattern whose only special character
// is `*`. Taking each piece between two stars at its first place is enough, and
// never has to be undone.
func matchLabel(pattern, label string) bool {
	star := strings.IndexByte(pattern, '*')
	if star < 0 {
		return pattern == label
	}
	if !strings.HasPrefix(label, pattern[:star]) {
		return false
	}
	label, pattern = label[star:], pattern[star+1:]
	for {
		star = strings.IndexByte(pattern, '*')
		if star < 0 {
			return strings.HasSuffix(label, pattern)
		}
		at := strings.Index(label, pattern[:star])
		if at < 0 {
			return false
		}
		label, pattern = label[at+star:], pattern[star+1:]
	}
}

// A globBuilder collects globs by their pattern.
type globBuilder struct {
	index    map[string]int
	patterns []string
	globs    []glob
}

func (gb *globBuilder) add(b *builder, r *nameRule) {
	if gb.index == nil {
		gb.index = map[string]int{}
	}
	i, ok := gb.index[r.name]
	if !ok {
		i = len(gb.globs)
		gb.index[r.name] = i
		gb.patterns = append(gb.patterns, r.name)
		gb.globs = append(gb.globs, glob{})
	}
	b.add(&gb.globs[i].cell, r.rule, r.ports)
}

// finish compiles the globs and hangs them on their nodes.
func (gb *globBuilder) finish(b *builder, x *nameIndex) {
	x.globs = gb.globs
	order := make([]int, len(gb.globs))
	for i := range gb.globs {
		g := &gb.globs[i]
		b.finish(&g.cell)
		g.first = b.steps.steps.first(g.cell)
		order[i] = i
		var pattern string
		pattern, g.below = strings.CutPrefix(gb.patterns[i], "*.")
		g.labels = labels(pattern)
		var err error
		if g.match, err = compileGlob(pattern); err != nil {
			b.problem(g.first, "the glob cannot be compiled: "+err.Error())
			return
		}
	}
	// Pushed in front from the last to the first, the lists come out sorted.
	slices.SortFunc(order, func(i, j int) int { return int(gb.globs[j].first) - int(gb.globs[i].first) })
	for _, i := range order {
		suffix := literalSuffix(gb.patterns[i])
		nd := x.node(suffix)
		gb.globs[i].next, nd.globs = nd.globs, uint32(i+1)
		if suffix != "" {
			x.depth = max(x.depth, labels(suffix))
		}
	}
}

// literalSuffix returns the whole labels behind the last `*` of a pattern.
func literalSuffix(pattern string) string {
	tail := pattern[strings.LastIndexByte(pattern, '*')+1:]
	dot := strings.IndexByte(tail, '.')
	if dot < 0 {
		return ""
	}
	return tail[dot+1:]
}
