// Package report holds what a benchmark found, and shows it: as text, as Markdown,
// as a plot, and against the goals.
package report

import (
	"math"
	"slices"
)

// Column is one figure that is measured.
type Column struct {
	Name     string // with its unit
	Decimals int
}

// Table is what came of a row of the benchmark, or of a part of it.
type Table struct {
	Row     int
	Key     string // names it among the tables of a run
	Title   string
	Columns []Column // the first is the one that is compared
	Cells   []*Cell
	Notes   []string
	NoRatio bool // cells are not to be compared by their ratio
}

// Cell is what one proxy did.
type Cell struct {
	Name   string
	Own    bool        // it is Sluice
	Peer   bool        // it is another proxy
	Values [][]float64 // of each column, one for each repetition
	Failed string      // why there are none
	None   bool        // it does not do such work
	Note   string
}

// Add adds a cell.
func (t *Table) Add(name string) *Cell {
	c := &Cell{Name: name, Values: make([][]float64, len(t.Columns))}
	t.Cells = append(t.Cells, c)
	return c
}

// Cell finds a cell, or returns nil.
func (t *Table) Cell(name string) *Cell {
	for _, c := range t.Cells {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Put adds the values of one repetition, one for each column; NaN is none.
func (c *Cell) Put(values ...float64) {
	for i, v := range values {
		c.Values[i] = append(c.Values[i], v)
	}
}

// OK reports whether there is something to show.
func (c *Cell) OK() bool {
	return c.Failed == "" && !c.None && len(c.Values) > 0 && len(c.Values[0]) > 0
}

// Median is that of a column, or NaN.
func (c *Cell) Median(column int) float64 {
	if c == nil || !c.OK() {
		return math.NaN()
	}
	return Median(c.Values[column])
}

// Range is the least and the greatest value of a column.
func (c *Cell) Range(column int) (least, greatest float64) {
	v := known(c.Values[column])
	if len(v) == 0 {
		return math.NaN(), math.NaN()
	}
	return slices.Min(v), slices.Max(v)
}

// known are the values that are.
func known(v []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(v), math.IsNaN)
}

// Median of values, or NaN if there are none.
func Median(v []float64) float64 {
	s := known(v)
	if len(s) == 0 {
		return math.NaN()
	}
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// Ratio is the median over the repetitions of a column's value to that of another
// cell, which was measured right before or after it. Where they have not as many
// repetitions it is the ratio of the medians.
func (c *Cell) Ratio(column int, to *Cell) float64 {
	if c == nil || to == nil || !c.OK() || !to.OK() {
		return math.NaN()
	}
	a, b := c.Values[column], to.Values[column]
	if len(a) != len(b) {
		return Median(a) / Median(b)
	}
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return Median(ratios)
}

// first is the cell that the others are compared with.
func (t *Table) first() *Cell {
	if len(t.Cells) == 0 {
		return nil
	}
	return t.Cells[0]
}
