//go:build linux

package main

import (
	"os"

	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// shadowRow measures row 1 without shadow rules, and with a list of them that decides as the rules do, by its
// last line as theirs: they take turns in one run.
func (b *bench) shadowRow(number int) ([]*report.Table, error) {
	one := b.sluices[0]
	w := workOf("1")
	w.round = 3 // since a few per cent count here
	w.row, w.key, w.name = number, "17", "row 1 with and without --shadow-rules"
	return b.runWorks([]work{w}, []variant{
		{name: report.NoShadow, peer: one, scale: 1},
		{name: report.WithShadow, peer: one, setup: peers.Setup{Shadow: peers.DefaultRules}, scale: 1},
		{name: direct, scale: 1},
	})
}

// publishShadow puts what shadow rules cost into docs/policy.md.
func publishShadow(r report.Run, doc string) error {
	old, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	text, err := report.InsertShadow(string(old), r)
	if err != nil {
		return err
	}
	return os.WriteFile(doc, []byte(text), 0o644)
}
