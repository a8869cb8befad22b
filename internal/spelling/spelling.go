// Package spelling says what a misspelt word was meant to be: a flag, a command, a
// variable or a key. It knows no words of its own.
package spelling

import (
	"fmt"
	"strings"
)

// DidYouMean names the known word that is closest to word, as the end of a message:
// "; did you mean X?". It is "" when none is close. Case makes no difference, and a
// prefix that all words share should be given as prefix: it says nothing.
func DidYouMean(prefix, word string, known []string) string {
	if best := Closest(prefix, word, known); best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return ""
}

// Closest is the known word that is closest to word, or "" when none is close: at
// most a third of its letters may differ, and at least one may.
func Closest(prefix, word string, known []string) string {
	bare := func(s string) string { return strings.ToLower(strings.TrimPrefix(s, prefix)) }
	w := bare(word)
	best, least := "", max(len(w)/3, 1)+1
	for _, k := range known {
		if d := distance(w, bare(k)); d < least && d < len(w) && d < len(bare(k)) {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete or change, or of neighbours
// to swap, to make b of a (Levenshtein, and Damerau's swap).
func distance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(change, next[j]+1, row[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
