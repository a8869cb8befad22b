package report

import (
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
)

// head are the headings of a table.
func (t *Table) head() []string {
	h := []string{""}
	for i, c := range t.Columns {
		h = append(h, c.Name)
		if i == 0 {
			h = append(h, "min–max")
		}
		if i == 0 && !t.NoRatio {
			h = append(h, "ratio")
		}
	}
	return h
}

// line is a cell as it stands below the headings.
func (t *Table) line(c *Cell) []string {
	l := []string{c.Name}
	switch {
	case c.None:
		l = append(l, "–")
	case c.Failed != "":
		l = append(l, "failed: "+c.Failed)
	default:
		for i, col := range t.Columns {
			l = append(l, number(c.Median(i), col.Decimals))
			if i == 0 {
				least, greatest := c.Range(i)
				l = append(l, span(least, greatest, col.Decimals))
			}
			if i == 0 && !t.NoRatio {
				l = append(l, number(c.Ratio(0, t.first()), 2))
			}
		}
	}
	if c.Note != "" {
		l[0] += " (" + c.Note + ")"
	}
	return l
}

func number(v float64, decimals int) string {
	if math.IsNaN(v) {
		return ""
	}
	s := fmt.Sprintf("%.*f", decimals, v)
	if decimals > 0 || len(s) < 5 {
		return s
	}
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func span(least, greatest float64, decimals int) string {
	if math.IsNaN(least) {
		return ""
	}
	return number(least, decimals) + "–" + number(greatest, decimals)
}

// Text is the table for a terminal.
func (t *Table) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "row %d: %s\n", t.Row, t.Title)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	var after []string
	for i, l := range append([][]string{t.head()}, t.lines()...) {
		if i > 0 && len(l) == 2 && len(l[1]) > 20 {
			after = append(after, l[0]+" "+l[1]) // a reason, too long for a column
			l = []string{l[0], "failed"}
		}
		fmt.Fprintln(w, strings.Join(l, "\t")+"\t"+strings.Repeat("\t", len(t.head())-len(l)))
	}
	w.Flush()
	for _, n := range append(after, t.Notes...) {
		fmt.Fprintln(&b, "  "+n)
	}
	return b.String()
}

func (t *Table) lines() (lines [][]string) {
	for _, c := range t.Cells {
		lines = append(lines, t.line(c))
	}
	return lines
}
