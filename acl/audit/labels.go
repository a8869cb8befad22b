package audit

import (
	"fmt"
	"slices"
	"strings"
)

// What a name may hold (RFC 1035 section 2.3.4, and what acl reads). The order is that in which
// examples are made up.
const (
	alphabet = "xabcdefghijklmnopqrstuvwyz0123456789-_"
	maxLabel = 63
	maxName  = 253
)

// A machine reads a label, and knows which of some patterns match it: the deterministic automaton of all
// of them together. At a top-level label it knows numbers too, which no name ends in.
type machine struct {
	patterns []string
	top      bool
	states   []mstate
	index    map[string]int32
	kinds    []string            // of labels that there are
	words    map[string][]string // found for a kind, the shortest first
	budget   *budget
}

// An mstate is where the machine may be.
type mstate struct {
	at   string // positions in each pattern, and the state of the reader of numbers
	next [len(alphabet)]int32
	kind string // which patterns match: a byte each; "" is a number
}

// maxStates and maxStateBytes bound the states of a machine: patterns with many `*` in one label multiply, and
// each state is as long as all patterns.
const (
	maxStates     = 20_000
	maxStateBytes = 128 << 20
)

// newMachine makes a machine; nil if it would be too large, or take too long.
func newMachine(patterns []string, top bool, b *budget) *machine {
	m := &machine{patterns: patterns, top: top, index: map[string]int32{}, words: map[string][]string{}, budget: b}
	start := make([]byte, 0, 64)
	for _, p := range patterns {
		set := make([]byte, len(p)/8+1)
		closure(p, set, 0)
		start = append(start, set...)
	}
	m.state(string(append(start, 0)))
	for i := 0; i < len(m.states); i++ {
		for c := range alphabet {
			n := m.state(m.step(m.states[i].at, alphabet[c]))
			m.states[i].next[c] = n
		}
		if len(m.states) > maxStates || len(m.states)*len(m.states[0].at) > maxStateBytes || b.over(m.what()) {
			return nil
		}
	}
	for i := range m.states { // what no label leads to is none: the empty one
		for _, n := range m.states[i].next {
			if k := m.states[n].kind; k != "" && !slices.Contains(m.kinds, k) {
				m.kinds = append(m.kinds, k)
			}
		}
	}
	return m
}

// what says what it is that may take long.
func (m *machine) what() string {
	if len(m.patterns) < 2 {
		return "names"
	}
	return fmt.Sprintf("names: %d patterns with * below one domain", len(m.patterns))
}

// closure adds position i of a pattern, and those that no character leads to from there.
func closure(p string, set []byte, i int) {
	set[i/8] |= 1 << (i % 8)
	if i < len(p) && p[i] == '*' {
		closure(p, set, i+1)
	}
}

func (m *machine) step(at string, c byte) string {
	out := make([]byte, 0, len(at))
	for _, p := range m.patterns {
		n := len(p)/8 + 1
		set := make([]byte, n)
		for i := range p {
			if at[i/8]&(1<<(i%8)) == 0 {
				continue
			}
			if p[i] == '*' {
				closure(p, set, i)
			} else if p[i] == c {
				closure(p, set, i+1)
			}
		}
		out = append(out, set...)
		at = at[n:]
	}
	return string(append(out, numberStep(at[0], c)))
}

// States of the reader of numbers: digits, or 0x and hexadecimal digits.
const (
	numStart = iota
	numZero
	numDigits
	numHex
	numNone
)

func numberStep(s, c byte) byte {
	digit, hex := c >= '0' && c <= '9', c >= 'a' && c <= 'f'
	switch {
	case s == numStart && c == '0':
		return numZero
	case s == numZero && c == 'x':
		return numHex
	case s <= numDigits && digit:
		return numDigits
	case s == numHex && (digit || hex):
		return numHex
	}
	return numNone
}

func (m *machine) state(at string) int32 {
	if !m.top {
		at = at[:len(at)-1] + string(rune(numNone)) // whatever number it is
	}
	if n, ok := m.index[at]; ok {
		return n
	}
	s := mstate{at: at}
	kind := make([]byte, 0, len(m.patterns)+1)
	rest := at
	for _, p := range m.patterns {
		n := len(p)
		kind = append(kind, '0'+rest[n/8]>>(n%8)&1)
		rest = rest[n/8+1:]
	}
	if rest[0] == numNone || rest[0] == numStart {
		s.kind = string(append(kind, '.'))
	}
	n := int32(len(m.states))
	m.states = append(m.states, s)
	m.index[at] = n
	return n
}

// matches reports whether the i-th pattern matches labels of a kind.
func matches(kind string, i int) bool { return kind[i] == '1' }

// word returns the shortest label of a kind, up to limit, that taken does not refuse; "" if there
// is none.
func (m *machine) word(kind string, limit int, taken func(string) bool) string {
	for i := 0; ; i++ {
		if i == len(m.words[kind]) && !m.more(kind, taken) {
			return ""
		}
		if w := m.words[kind][i]; len(w) > limit {
			return ""
		} else if !taken(w) {
			return w
		}
	}
}

// more finds further words of a kind: all of the shortest length that has some, up to the first
// that is not taken.
func (m *machine) more(kind string, taken func(string) bool) bool {
	have := m.words[kind]
	length := 1
	if len(have) > 0 {
		length = len(have[len(have)-1])
	}
	for ; length <= maxLabel && !m.budget.over(m.what()); length++ {
		// can[k] are the states from which k characters lead to the kind.
		can := make([][]bool, length+1)
		can[0] = make([]bool, len(m.states))
		for i := range m.states {
			can[0][i] = m.states[i].kind == kind
		}
		for k := 1; k <= length; k++ {
			can[k] = make([]bool, len(m.states))
			for i := range m.states {
				can[k][i] = slices.ContainsFunc(m.states[i].next[:], func(n int32) bool { return can[k-1][n] })
			}
		}
		skip := 0
		for _, w := range have {
			if len(w) == length {
				skip++
			}
		}
		var word []byte
		found := false
		var walk func(s int32, left int) (stop bool)
		walk = func(s int32, left int) bool {
			if !can[left][s] {
				return false
			}
			if left == 0 {
				if skip > 0 {
					skip--
					return false
				}
				found = true
				m.words[kind] = append(m.words[kind], string(word))
				return !taken(string(word))
			}
			for c, n := range m.states[s].next {
				word = append(word, alphabet[c])
				if walk(n, left-1) {
					return true
				}
				word = word[:len(word)-1]
			}
			return false
		}
		if walk(0, length); found {
			return true
		}
	}
	return false
}

// machines keeps machines by what they are made of.
type machines map[string]*machine

func (ms machines) of(patterns []string, top bool, b *budget) *machine {
	key := strings.Join(patterns, ".")
	if top {
		key += "!"
	}
	m, ok := ms[key]
	if !ok {
		m = newMachine(patterns, top, b)
		ms[key] = m
	}
	return m
}
