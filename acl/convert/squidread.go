package convert

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// directive is a line of a squid.conf, in words.
type directive struct {
	place
	words []string
}

const maxDepth = 16 // of included files, as squid has it

// problems are what makes a configuration unreadable.
type problems []error

func (ps *problems) add(at place, format string, args ...any) {
	*ps = append(*ps, errors.New(printable(fmt.Sprintf("%s:%d: %s", at.file, at.line, fmt.Sprintf(format, args...)))))
}

// unknown adds a line that the original would not start with: what it was meant to say nobody knows.
func (ps *problems) unknown(at place, word, program string) {
	ps.add(at, "%s does not know %q, and would not start: mend the line, or take it out", program, word)
}

// printable is s with escapes for what a terminal may take for more than text.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch _, n := utf8.DecodeRuneInString(s[i:]); {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r != '\t' && !unicode.IsPrint(r):
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func (ps problems) err() error { return errors.Join(ps...) }

// squidLines reads a file and what it includes.
func squidLines(path string, text string, files Files, depth int, ps *problems) (all []directive) {
	joined, start := "", 0
	for i, line := range strings.Split(text, "\n") {
		if joined == "" {
			start = i + 1
		}
		line = strings.TrimRight(line, " \t\r")
		if joined == "" && strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") {
			continue
		}
		if cut, ok := strings.CutSuffix(line, `\`); ok {
			joined += cut
			continue
		}
		line = strings.TrimSpace(joined + line)
		joined = ""
		d := directive{place: place{path, start, line}, words: squidWords(line)}
		if len(d.words) == 0 {
			continue
		}
		switch d.words[0] {
		case "include":
			all = append(all, squidIncluded(d, files, depth, ps)...)
		case "if", "else", "endif":
			ps.add(d.place, "conditions are not read: keep the lines that hold, and take the others and %q out", d.words[0])
		case "configuration_includes_quoted_values":
			if len(d.words) < 2 || d.words[1] != "off" {
				ps.add(d.place, "quoted values are not read: write them without, and take this line out")
			}
		default:
			all = append(all, d)
		}
	}
	if joined != "" {
		ps.add(place{path, start, joined}, `the last line ends in \ and is not whole`)
	}
	return all
}

// squidWords are the words of a line, up to a comment.
func squidWords(line string) (words []string) {
	for _, w := range strings.Fields(line) {
		if w[0] == '#' {
			break
		}
		words = append(words, w)
	}
	return words
}

func squidIncluded(d directive, files Files, depth int, ps *problems) (all []directive) {
	if depth >= maxDepth {
		ps.add(d.place, "files include each other more than %d deep", maxDepth)
		return nil
	}
	for _, pattern := range d.words[1:] {
		paths := []string{pattern}
		if strings.ContainsAny(pattern, "*?[") {
			if files.Glob == nil {
				ps.add(d.place, "the pattern %s cannot be looked up here", pattern)
				continue
			}
			found, err := files.Glob(pattern)
			if err != nil {
				ps.add(d.place, "%v", err)
			}
			paths = slices.Sorted(slices.Values(found))
		}
		for _, path := range paths {
			if text, ok := readFile(d.place, path, files, ps); ok {
				all = append(all, squidLines(path, text, files, depth+1, ps)...)
			}
		}
	}
	return all
}

// maxFile is more than any list of names needs.
const maxFile = 64 << 20

func readFile(at place, path string, files Files, ps *problems) (string, bool) {
	if files.Read == nil {
		ps.add(at, "the file %s cannot be read here", path)
		return "", false
	}
	b, err := files.Read(path)
	if at.line == 0 && err != nil { // the configuration itself
		*ps = append(*ps, err)
		return "", false
	}
	if err != nil {
		ps.add(at, "%v", err)
		return "", false
	}
	if len(b) > maxFile {
		ps.add(at, "%s is larger than 64 MiB", path)
		return "", false
	}
	return string(b), true
}
