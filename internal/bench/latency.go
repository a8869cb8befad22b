//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// latencyRow measures row 1 at half of the rate that Sluice can do, sent on time
// whatever the answers do, and what each proxy adds to the time of a request.
func (b *bench) latencyRow(number int) ([]*report.Table, error) {
	w := workOf("1")
	most, err := b.greatestRate(w)
	if err != nil {
		return nil, err
	}
	rate := math.Floor(most/2/100) * 100
	t := &report.Table{Row: number, Key: "11", NoRatio: true, Title: fmt.Sprintf("row 1 at %.0f requests/s, half of Sluice's most", rate), Columns: []report.Column{
		{Name: "added p99 ms", Decimals: 3}, {Name: "added p50 ms", Decimals: 3}, {Name: "p99 ms", Decimals: 3}, {Name: "p50 ms", Decimals: 3},
		{Name: "max ms", Decimals: 1}, {Name: "CPU used %"}, {Name: "foreign CPU %"},
	}}
	s, err := b.startStage()
	if err != nil {
		return nil, err
	}
	defer s.stop()
	variants := b.variants(w)
	var running []*instance
	for _, v := range variants {
		in, err := b.startVariant(s, w, v)
		running = append(running, in)
		if c := v.cell(t); err != nil {
			c.Failed = err.Error()
		}
	}
	// A machine that stops for a moment makes a p99. So there are many short
	// windows, and the moments must be in most of them to count.
	windows := 5 * b.reps
	slow := make([]int, len(variants)) // windows in which a proxy fell behind
	for window := range windows {
		var plain sample
		for i := len(variants) - 1; i >= 0; i-- { // without a proxy first
			c := t.Cells[i]
			if c.Failed != "" {
				continue
			}
			got, err := b.atRate(s, running[i], w, rate)
			switch late := errors.Is(err, errSlow); {
			case late && slow[i] < windows/3 && !(slow[i] == 2 && window == 2):
				slow[i]++
				c.Put(math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN(), math.NaN())
				continue
			case err != nil:
				c.Failed = err.Error()
				continue
			}
			if variants[i].peer == nil {
				plain = got
			}
			r, p := got.result, plain.result
			c.Put(ms(r.P99-p.P99), ms(r.P50-p.P50), ms(r.P99), ms(r.P50), ms(r.Max), 100*got.cpu.Seconds()/r.Elapsed.Seconds(), 100*got.foreign)
		}
	}
	return []*report.Table{t}, nil
}

// greatestRate is what Sluice does when nothing but itself limits it.
func (b *bench) greatestRate(w work) (float64, error) {
	reps := b.reps
	defer func() { b.reps = reps }()
	b.reps = min(reps, 3)
	v := variant{name: b.sluices[0].Name, peer: b.sluices[0], scale: 1}
	v.setup.Work = peers.Gets
	tables, err := b.runWorks([]work{w}, []variant{v})
	if err != nil {
		return 0, err
	}
	c := tables[0].Cells[0]
	if !c.OK() {
		return 0, fmt.Errorf("%s", c.Failed)
	}
	return c.Median(1), nil
}

// errSlow is what a proxy is that falls behind.
var errSlow = errors.New("it does not reach that rate")

// atRate does the work at a rate.
func (b *bench) atRate(s *stage, in *instance, w work, rate float64) (sample, error) {
	job := w.jobFor(in, w.target(s.origin), 1)
	job.Rate, job.Count, job.Warm, job.Duration = rate, 0, int(rate/5), 700*time.Millisecond
	job.Limit = 20 * time.Second
	got, err := b.measure(s, in, job)
	if err != nil {
		return got, err
	}
	if done := float64(got.result.Done) / got.result.Elapsed.Seconds(); done < 0.98*rate || got.result.P99 > 200*time.Millisecond {
		return got, fmt.Errorf("%w: %.0f/s, p99 %.0f ms", errSlow, done, ms(got.result.P99))
	}
	return got, nil
}
