//go:build linux

package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// rows are the rows of the benchmark, in order.
var rows = []struct {
	number int
	run    func(b *bench, number int) ([]*report.Table, error)
}{
	{1, (*bench).workRow}, {2, (*bench).workRow}, {3, (*bench).workRow}, {4, (*bench).workRow}, {5, (*bench).workRow},
	{6, (*bench).idleRow}, {7, (*bench).rulesRow}, {8, (*bench).workRow}, {9, (*bench).startRow},
	{10, (*bench).dnsRow}, {11, (*bench).latencyRow}, {12, (*bench).soakRow},
	{13, (*bench).tenantsRow}, {14, (*bench).openedRow}, {15, (*bench).checkRow}, {16, (*bench).socksRow}, {17, (*bench).shadowRow},
}

// workRow measures the works of a row for all proxies.
func (b *bench) workRow(number int) ([]*report.Table, error) {
	var ws []work
	for _, w := range works {
		if w.row == number {
			ws = append(ws, w)
		}
	}
	return b.runWorks(ws, b.variants(ws[0]))
}

// runRows runs the rows that were asked for, or all, and prints each when it is
// complete.
func (b *bench) runRows(only []string) error {
	for _, r := range rows {
		if len(only) > 0 && !slices.Contains(only, strconv.Itoa(r.number)) {
			continue
		}
		began := time.Now()
		tables, err := r.run(b, r.number)
		if err != nil {
			return fmt.Errorf("row %d: %w", r.number, err)
		}
		for _, t := range tables {
			fmt.Fprintln(b.out, t.Text())
		}
		fmt.Fprintf(b.out, "row %d took %v\n\n", r.number, time.Since(began).Round(time.Second))
		b.tables = append(b.tables, tables...)
	}
	return nil
}
