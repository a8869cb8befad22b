package convert

import (
	"slices"
	"strconv"
	"strings"
)

// ports are ranges, sorted and apart from each other; nil is no port at all.
type ports []portRange

// portRange is from..to, both included.
type portRange struct{ from, to uint16 }

var allPorts = ports{{1, 65535}}

// newPorts sorts and joins ranges.
func newPorts(all ...portRange) (p ports) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b portRange) int { return int(a.from) - int(b.from) })
	for _, r := range all {
		r.from = max(r.from, 1)
		if r.to < r.from {
			continue
		}
		if last := len(p) - 1; last >= 0 && int(r.from) <= int(p[last].to)+1 {
			p[last].to = max(p[last].to, r.to)
		} else {
			p = append(p, r)
		}
	}
	return p
}

func (p ports) and(q ports) (both ports) {
	for i, j := 0, 0; i < len(p) && j < len(q); {
		if from, to := max(p[i].from, q[j].from), min(p[i].to, q[j].to); from <= to {
			both = append(both, portRange{from, to})
		}
		if p[i].to < q[j].to {
			i++
		} else {
			j++
		}
	}
	return both
}

func (p ports) or(q ports) ports { return newPorts(slices.Concat(p, q)...) }

// not is every port that is not in p.
func (p ports) not() (rest ports) {
	next := 1
	for _, r := range p {
		if int(r.from) > next {
			rest = append(rest, portRange{uint16(next), r.from - 1})
		}
		next = int(r.to) + 1
	}
	if next <= 65535 {
		rest = append(rest, portRange{uint16(next), 65535})
	}
	return rest
}

// suffix is the port set of a rule; "" for any port.
func (p ports) suffix() string {
	if slices.Equal(p, allPorts) {
		return ""
	}
	return ":" + p.String()
}

func (p ports) String() string {
	words := make([]string, 0, len(p))
	for _, r := range p {
		w := strconv.Itoa(int(r.from))
		if r.to > r.from {
			w += "-" + strconv.Itoa(int(r.to))
		}
		words = append(words, w)
	}
	return strings.Join(words, ",")
}
