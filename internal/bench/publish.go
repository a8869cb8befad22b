//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/proc"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// summary is the run so far.
func (b *bench) summary(began time.Time) report.Run {
	r := report.Run{
		When: began, Took: time.Since(began), Machine: proc.Machine(), Method: b.accounts.String(),
		Reps: b.reps, Notes: b.notes, Tables: b.tables,
	}
	for _, p := range slices.Concat(b.sluices, b.others) {
		r.Versions = append(r.Versions, [2]string{p.Name, p.Version()})
	}
	return r
}

// publish puts the run into a document, and its plot beside it.
func publish(r report.Run, doc string) error {
	old, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	text, err := report.Insert(string(old), r.Markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", doc, err)
	}
	panels, err := json.Marshal(r.Panels())
	if err != nil {
		return err
	}
	base, err := filepath.Abs(strings.TrimSuffix(doc, filepath.Ext(doc)))
	if err != nil {
		return err
	}
	// A module of its own: what it needs is none of Sluice's business.
	plot := exec.Command("go", "run", ".", base+".svg", base+".png")
	plot.Dir = filepath.Join("internal", "bench", "plot")
	plot.Stdin, plot.Stderr = strings.NewReader(string(panels)), os.Stderr
	if err := plot.Run(); err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	return os.WriteFile(doc, []byte(text), 0o644)
}
