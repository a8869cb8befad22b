//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// median of values, which it sorts; NaN would be a mistake of the caller.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// cost is the processor time of a sample in seconds for 10,000 pieces or for 1 GB.
func (t *table) cost(s sample) float64 {
	if t.perGB {
		return s.cpu.Seconds() * 1e9 / float64(max(s.result.Bytes, 1))
	}
	return s.cpu.Seconds() * 1e4 / float64(max(s.result.Done, 1))
}

// rate is GB a second, or pieces a second.
func (t *table) rate(s sample) float64 {
	if t.perGB {
		return float64(s.result.Bytes) / 1e9 / s.result.Elapsed.Seconds()
	}
	return float64(s.result.Done) / s.result.Elapsed.Seconds()
}

// values are f of all samples.
func (c *cell) values(f func(sample) float64) (v []float64) {
	for _, s := range c.samples {
		v = append(v, f(s))
	}
	return v
}

// ratio is the median over the repetitions of a cost in relation to that of the
// first cell, which is Sluice's.
func (t *table) ratio(c *cell) float64 {
	var v []float64
	for i, s := range c.samples {
		if i < len(t.cells[0].samples) {
			v = append(v, t.cost(s)/t.cost(t.cells[0].samples[i]))
		}
	}
	return median(v)
}

// text is the table for a terminal.
func (t *table) text() string {
	var b strings.Builder
	unit, rate := "CPU s/10k", "1/s"
	if t.perGB {
		unit, rate = "CPU s/GB", "GB/s"
	}
	fmt.Fprintf(&b, "row %d: %s\n", t.row, t.name)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "proxy\t%s\tmin–max\t× %s\t%s\tp50 ms\tp99 ms\tforeign CPU\t\n", unit, t.cells[0].name, rate)
	for _, c := range t.cells {
		switch {
		case c.none:
			fmt.Fprintf(w, "%s\t–\t\t\t\t\t\t\t\n", c.name)
			continue
		case c.err != nil:
			fmt.Fprintf(w, "%s\tfailed: %v\t\t\t\t\t\t\t\n", c.name, c.err)
			continue
		}
		cost := c.values(t.cost)
		costs := fmt.Sprintf("%.3f\t%.3f–%.3f\t%.2f", median(cost), slices.Min(cost), slices.Max(cost), t.ratio(c))
		if c.name == direct {
			costs = "\t\t"
		}
		format := "%s\t%s\t%.0f\t%.2f\t%.2f\t%.0f %%\t\n"
		if t.perGB {
			format = "%s\t%s\t%.2f\t%.2f\t%.2f\t%.0f %%\t\n"
		}
		fmt.Fprintf(w, format, c.name, costs, median(c.values(t.rate)),
			median(c.values(func(s sample) float64 { return ms(s.result.P50) })),
			median(c.values(func(s sample) float64 { return ms(s.result.P99) })),
			100*median(c.values(func(s sample) float64 { return s.foreign })))
	}
	w.Flush()
	return b.String()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
