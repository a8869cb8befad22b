package settings

import (
	"slices"
	"strings"
	"unicode"
)

// Value is a setting's text with where it stands.
type Value struct {
	Text   string
	Source string // "--listen", "SLUICE_LISTEN", the file's path, or "default"
	Line   int    // in the file, or in a variable of several lines; else 0
}

// Problem is what is wrong with v.
func (v Value) Problem(msg string) Problem { return Problem{Source: v.Source, Line: v.Line, Msg: msg} }

// One is a setting of one value, which parse makes of its text; of several the last counts.
func One[V any](place *V, parse func(string) (V, error)) Into {
	return Into{place, func(vs []Value, report func(Problem)) {
		v := vs[len(vs)-1]
		got, err := parse(strings.TrimSpace(v.Text))
		if err != nil {
			report(v.Problem(err.Error()))
			return
		}
		*place = got
	}}
}

// Many is a setting of several values, with commas or white space between them.
// One that is listed twice counts once.
func Many[V comparable](place *[]V, parse func(string) (V, error)) Into {
	return Into{place, func(vs []Value, report func(Problem)) {
		var all []V
		for _, v := range Words(vs) {
			got, err := parse(v.Text)
			if err != nil {
				report(v.Problem(err.Error()))
			} else if !slices.Contains(all, got) {
				all = append(all, got)
			}
		}
		*place = all
	}}
}

// Lines makes a value of each line, with its number.
func Lines(vs []Value) (all []Value) {
	for _, v := range vs {
		lines := strings.Split(strings.TrimSuffix(v.Text, "\n"), "\n")
		for i, line := range lines {
			w := v
			w.Text = line
			switch {
			case v.Line > 0:
				w.Line += i
			case len(lines) > 1:
				w.Line = i + 1
			}
			all = append(all, w)
		}
	}
	return all
}

// Words makes a value of each word, with the line it stands in. Where there is none, the
// value itself is left, without text, for the parser to complain of.
func Words(vs []Value) (words []Value) {
	for _, v := range vs {
		for _, w := range Lines([]Value{v}) {
			for _, w.Text = range strings.FieldsFunc(w.Text, isSeparator) {
				words = append(words, w)
			}
		}
		if strings.TrimFunc(v.Text, isSeparator) == "" {
			v.Text = ""
			words = append(words, v)
		}
	}
	return words
}

func isSeparator(r rune) bool { return r == ',' || unicode.IsSpace(r) }

// Text is the lines of all values as one text, for parsers that count its lines, and the
// value of which a line is, from 1.
func Text(vs []Value) (text string, at func(line int) Value) {
	lines := Lines(vs)
	var b strings.Builder
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l.Text)
	}
	return b.String(), func(line int) Value { return lines[min(max(line, 1), len(lines))-1] }
}
