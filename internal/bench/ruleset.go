//go:build linux

package main

import (
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// Sizes of rule lists. squid with 100,000 entries does not listen after minutes.
var (
	sluiceRules = []int{10, 1000, 10_000, 100_000, 1_000_000}
	squidRules  = []int{10, 1000, 10_000}
)

// rulesRow measures rows 1 and 4 with growing lists of rules, the last of which
// decides, and how long it takes to read them.
func (b *bench) rulesRow(number int) ([]*report.Table, error) {
	var variants []variant
	for _, n := range sluiceRules {
		variants = append(variants, variant{name: report.Ruled(b.sluices[0].Name, n), peer: b.sluices[0], setup: peers.Setup{Rules: n}, scale: 1})
	}
	for _, p := range b.others {
		if !p.Ruled() {
			continue
		}
		for _, n := range squidRules {
			v := variant{name: report.Ruled(p.Name, n), peer: p, setup: peers.Setup{Rules: n}, scale: 1, rare: true}
			if n >= 10_000 {
				v.scale = 0.1 // it takes so long
			}
			variants = append(variants, v)
		}
	}
	starts := &report.Table{Row: number, Key: "7start", Title: "start until it listens, with so many rules", Columns: []report.Column{
		{Name: "start ms", Decimals: 1}, {Name: "RSS MiB", Decimals: 1},
	}}
	for _, v := range variants {
		v.setup.Work = peers.Gets
		if err := b.startTimes(v, v.cell(starts)); err != nil {
			return nil, err
		}
	}
	tables := []*report.Table{}
	for _, i := range []string{"1", "4"} {
		w := workOf(i)
		w.round = 3 // since a few per cent count here
		w.row, w.key, w.name = number, "7:"+i, "rules, the last decides: "+w.name
		t, err := b.runWorks([]work{w}, append(variants, variant{name: direct, scale: 1}))
		if err != nil {
			return nil, err
		}
		tables = append(tables, t...)
	}
	return append(tables, starts), nil
}

// workOf finds a work.
func workOf(key string) work {
	for _, w := range works {
		if w.key == key {
			return w
		}
	}
	panic("no work " + key)
}

// startTimes measures how long a proxy takes until it listens.
func (b *bench) startTimes(v variant, c *report.Cell) error {
	for range min(b.reps, 3) {
		in, err := b.launch(v.peer, v.setup)
		if err != nil {
			return err
		}
		if err := in.await(startTimeout); err != nil {
			c.Failed = err.Error()
			in.stop()
			return nil
		}
		took := proc.Now() - in.began
		m, err := in.group.Memory()
		in.stop()
		if err != nil {
			return err
		}
		c.Put(ms(took), float64(m.RSS)/(1<<20))
	}
	return nil
}
