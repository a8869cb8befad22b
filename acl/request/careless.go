package request

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// carelessly reports whether the rule of a path is for any reading of a careless server: as
// written, and with an encoded slash as a slash, `;` and what follows dropped before or after
// decoding, and empty segments left out, in each combination. All are folded.
func (q *asked) carelessly(p path) bool {
	if p.matches(q.folded, true) {
		return true
	}
	if !q.slash && !q.semicolon && !q.empty {
		return false
	}
	if q.readings == nil {
		var all [][]string // not appended to q's own: then q would have to be on the heap
		for _, slash := range ways(q.slash) {
			for _, early := range ways(q.semicolon) {
				for _, late := range ways(q.semicolon) {
					segs := q.reading(slash, early, late)
					all = append(all, segs, merge(segs))
				}
			}
		}
		q.readings = all
	}
	return slices.ContainsFunc(q.readings, func(segs []string) bool { return p.matches(segs, true) })
}

// ways are no, and yes if it makes a difference.
func ways(differs bool) []bool { return []bool{false, true}[:1+btoi(differs)] }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// reading is what a server reads which drops `;` and what follows before it decodes, takes an
// encoded slash for a slash, and drops `;` and what follows after it.
func (q *asked) reading(slash, early, late bool) (segs []string) {
	for raw := range strings.SplitSeq(strings.Clone(q.path), "/") { // the copy, so that nothing else of q escapes
		if early {
			raw, _, _ = strings.Cut(raw, ";")
		}
		seg, _ := unescape(raw) // is right: split has looked
		pieces := []string{seg}
		if slash {
			pieces = strings.Split(seg, "/")
		}
		for _, s := range pieces {
			if late {
				s, _, _ = strings.Cut(s, ";")
			}
			segs = append(segs, fold(s))
		}
	}
	return segs
}

// merge returns segs without those that are empty and not the last: with `//` as `/`.
func merge(segs []string) []string {
	last := len(segs) - 1
	return append(slices.DeleteFunc(slices.Clone(segs[:last]), func(s string) bool { return s == "" }), segs[last])
}

// foldAll appends segs to dst, folded.
func foldAll(dst, segs []string) []string {
	for _, s := range segs {
		dst = append(dst, fold(s))
	}
	return dst
}

// fold returns s such that what differs in case only folds alike (Unicode's simple folding).
func fold(s string) string {
	plain := true
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if 'A' <= least && least <= 'Z' {
			return least + ('a' - 'A')
		}
		return least
	}, s)
}
