//go:build linux

package main

import (
	"fmt"
	"math"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// idleTunnels is how many there are in row 6: each takes two descriptors of a
// proxy, of 20,000 that a process may have.
const idleTunnels = 9500

// idleRow measures what tunnels at rest hold.
func (b *bench) idleRow(number int) ([]*report.Table, error) {
	t := &report.Table{Row: number, Key: "6", Title: fmt.Sprintf("%d tunnels at rest, after one exchange each", b.idle), Columns: []report.Column{
		{Name: "RSS KiB each", Decimals: 2}, {Name: "PSS KiB each", Decimals: 2}, {Name: "descriptors each", Decimals: 2}, {Name: "settled after s"},
	}}
	for _, v := range b.variants(work{kind: peers.Tunnels}) {
		if v.peer == nil {
			continue
		}
		c, why := v.cell(t), ""
		if c.None = !v.peer.Does(peers.Tunnels); c.None {
			continue
		}
		// Some need more descriptors for each than there are.
		for _, n := range []int{b.idle, b.idle * 9 / 10, b.idle * 3 / 10} {
			err := b.holdTunnels(v, n, c)
			if err == nil {
				c.Failed = ""
				if n != b.idle {
					c.Note = fmt.Sprintf("%d tunnels", n)
					t.Notes = append(t.Notes, fmt.Sprintf("%s cannot have more than that: %s", v.name, why))
				}
				break
			}
			why = firstLines(err.Error())
			c.Failed = why
		}
	}
	return []*report.Table{t}, nil
}

// holdTunnels opens so many tunnels and sees what they add to the proxy.
func (b *bench) holdTunnels(v variant, count int, c *report.Cell) error {
	s, err := b.startStage()
	if err != nil {
		return err
	}
	defer s.stop()
	w := work{kind: peers.Tunnels, raw: true, job: load.Job{Kind: load.Exchange, Conns: 32, Count: 2000}}
	in, err := b.startVariant(s, w, v)
	if err != nil {
		return err
	}
	// What is needed once is no tunnel's share.
	if _, err := b.measure(s, in, w.jobFor(in, w.target(s.origin), 1)); err != nil {
		return err
	}
	before, _, err := b.atRest(in)
	if err != nil {
		return err
	}
	job := w.jobFor(in, s.origin.addr(origin.Raw), 1)
	job.Kind, job.Conns, job.Count, job.Limit = load.Hold, count, count, 30*time.Second
	if err := s.load.begin(job); err != nil {
		return err
	}
	if err := s.load.proceed(); err != nil {
		return err
	}
	if held, err := s.load.held(); err != nil {
		return err
	} else if err := failure(held, 0); err != nil {
		return err
	}
	after, took, err := b.atRest(in)
	if err != nil {
		return err
	}
	if err := s.load.proceed(); err != nil {
		return err
	}
	res, err := s.load.result()
	if err != nil {
		return err
	}
	if err := failure(res, job.Count); err != nil {
		return err
	}
	n := float64(count)
	c.Put(float64(after.RSS-before.RSS)/1024/n, float64(after.PSS-before.PSS)/1024/n, float64(after.FDs-before.FDs)/n, math.Ceil(took.Seconds()))
	return in.alive()
}

// atRest waits until memory does not fall any more, and returns how long that took.
func (b *bench) atRest(in *instance) (m proc.Memory, took time.Duration, err error) {
	begin := time.Now()
	least, since := int64(math.MaxInt64), begin
	for {
		if m, err = in.group.Memory(); err != nil {
			return m, 0, err
		}
		if m.RSS < least-least/200 {
			least, since = m.RSS, time.Now()
		}
		if time.Since(since) > b.rest || time.Since(begin) > time.Minute {
			return m, since.Sub(begin), nil
		}
		time.Sleep(250 * time.Millisecond)
	}
}
