package report

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Run is all that one run found.
type Run struct {
	When     time.Time
	Took     time.Duration
	Machine  string
	Method   string      // how processor time was measured
	Versions [][2]string // of each proxy
	Reps     int
	Notes    []string // on the run as a whole
	Tables   []*Table
}

// GoalsText shows the goals on a terminal.
func (r Run) GoalsText() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, o := range r.Outcomes() {
		fmt.Fprintf(w, "row %d\t%s\t%s\t%s\t\n", o.Row, o.Goal, o.Reached, o.word())
	}
	w.Flush()
	return b.String()
}

func (o Outcome) word() string {
	switch {
	case !o.Measured:
		return "–"
	case o.Met:
		return "met"
	}
	return "not met"
}

// Markdown is the run as a document has it.
func (r Run) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s, on %s, in %v, with %d repetitions; processor time by %s.\n\n",
		r.When.UTC().Format("2 January 2006, 15:04 UTC"), r.Machine, r.Took.Round(time.Minute), r.Reps, r.Method)
	var versions []string
	for _, v := range r.Versions {
		versions = append(versions, strings.TrimSpace(v[0]+" "+v[1]))
	}
	fmt.Fprintf(&b, "%s.\n", strings.Join(versions, ", "))
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	b.WriteString("\n### Goals\n\n")
	rows := [][]string{{"row", "goal", "reached", ""}}
	for _, o := range r.Outcomes() {
		rows = append(rows, []string{fmt.Sprint(o.Row), o.Goal, o.Reached, o.word()})
	}
	b.WriteString(pipes(rows, 2))
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "\n### Row %d: %s\n\n", t.Row, t.Title)
		b.WriteString(pipes(append([][]string{t.head()}, t.lines()...), 1))
		if len(t.Notes) > 0 {
			b.WriteByte('\n')
		}
		for _, n := range t.Notes {
			fmt.Fprintf(&b, "- %s\n", n)
		}
	}
	return b.String()
}

// pipes is a Markdown table of rows, the first of which are headings; the columns
// from the number right on are aligned to the right.
func pipes(rows [][]string, right int) string {
	var b strings.Builder
	width := len(rows[0])
	for i, r := range rows {
		cells := slices.Grow(slices.Clone(r), width)
		for len(cells) < width {
			cells = append(cells, "")
		}
		for j := range cells {
			cells[j] = strings.ReplaceAll(cells[j], "|", "\\|")
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		if i > 0 {
			continue
		}
		b.WriteByte('|')
		for j := range cells {
			if j < right {
				b.WriteString(" --- |")
			} else {
				b.WriteString(" ---: |")
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Markers around what is generated in a document.
const (
	From = "<!-- bench: make bench -->\n"
	To   = "<!-- /bench -->"
)

// Insert puts generated text between the markers of a document.
func Insert(doc, text string) (string, error) {
	before, rest, ok := strings.Cut(doc, From)
	_, after, ok2 := strings.Cut(rest, To)
	if !ok || !ok2 {
		return "", fmt.Errorf("the document has lost its markers %q and %q", strings.TrimSpace(From), To)
	}
	return before + From + "\n" + text + "\n" + To + after, nil
}
