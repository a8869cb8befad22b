//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
	"github.com/sluiceproxy/sluice/internal/bench/report"
	"github.com/sluiceproxy/sluice/internal/bench/secure"
)

// openedWork is work inside TLS that the proxy terminates.
type openedWork struct {
	key, name string
	job       secure.Job
	perGB     bool
}

var openedWorks = []openedWork{
	{key: "14:1k", name: "inside TLS, GET 1 KiB, 64 keep-alive clients", job: secure.Job{Path: "/1k", Length: origin.SizeSmall, Conns: 64, Warm: 2048, Count: 20032}},
	{key: "14:1m", name: "inside TLS, GET 1 MiB, 16 keep-alive clients", job: secure.Job{Path: "/1m", Length: origin.SizeLarge, Conns: 16, Warm: 64, Count: 512}, perGB: true},
	{key: "14:new", name: "inside TLS, GET 1 KiB, a new connection for each", job: secure.Job{Path: "/1k", Length: origin.SizeSmall, Conns: 32, Warm: 640, Count: 5024, New: true}},
}

// openedRow measures what is asked for inside TLS that proxies terminate, for hosts that they know by
// then; what memory that has taken; and what a host costs that is new.
func (b *bench) openedRow(number int) ([]*report.Table, error) {
	if err := secure.WriteAuthorities(b.dir); err != nil {
		return nil, err
	}
	s := &stage{}
	var err error
	if s.origin, err = b.startTLSOrigin(); err != nil {
		return nil, err
	}
	defer s.stop()
	if s.load, err = b.startTLSLoader(); err != nil {
		return nil, err
	}
	if s.names, err = b.startDNS(); err != nil {
		return nil, err
	}
	memory := &report.Table{Row: number, Key: "14memory", Title: "memory after that", Columns: []report.Column{{Name: "RSS MiB", Decimals: 1}, {Name: "PSS MiB", Decimals: 1}}}
	fresh := &report.Table{Row: number, Key: "14host", Title: "what the first request to a host takes longer than the second, each on a new connection", NoRatio: true, Columns: []report.Column{{Name: "ms", Decimals: 2}, {Name: "first ms", Decimals: 2}, {Name: "second ms", Decimals: 2}}}
	var tables []*report.Table
	for _, w := range openedWorks {
		tables = append(tables, work{row: number, key: w.key, name: w.name, perGB: w.perGB}.newTable())
	}
	tables = append(tables, memory, fresh)
	var variants []variant
	for _, v := range b.variants(work{kind: peers.Opened}) {
		if v.peer == nil || v.peer.Does(peers.Opened) {
			v.setup.Authority = b.dir
			variants = append(variants, v)
		}
	}
	var running []*instance
	for _, v := range variants {
		in, failed := b.startVariant(s, work{kind: peers.Opened}, v)
		running = append(running, in)
		for _, t := range tables {
			if c := v.cell(t); failed != nil {
				c.Failed = failed.Error()
			}
		}
	}
	order := rand.New(rand.NewPCG(1, 1)) // the same in each run
	for i, w := range openedWorks {
		for range b.reps {
			for _, j := range order.Perm(len(variants)) {
				b.repeatOpened(s, running[j], w, tables[i].Cells[j])
			}
		}
	}
	for j, in := range running {
		b.openedMemory(in, memory.Cells[j])
		b.freshHosts(s, in, j, fresh.Cells[j])
	}
	return tables, nil
}

func (b *bench) startTLSOrigin() (*originHelper, error) {
	h, err := b.startHelper("tls-origin", b.dir)
	if err != nil {
		return nil, err
	}
	o := &originHelper{helper: h}
	return o, h.read(&o.ports)
}

func (b *bench) startTLSLoader() (*loader, error) {
	h, err := b.startHelper("tls-load")
	return &loader{h}, err
}

// jobFor is the job that does the work through an instance.
func (w openedWork) jobFor(b *bench, s *stage, in *instance) secure.Job {
	j := w.job
	j.Count, j.Warm = max(int(float64(j.Count)*b.scale), j.Conns), max(int(float64(j.Warm)*b.scale), j.Conns)
	j.Limit, j.CA = limit, filepath.Join(b.dir, secure.OriginCert)
	if in.peer != nil {
		j.Proxy, j.CA = in.setup.Addr(), filepath.Join(b.dir, secure.ProxyCert)
		j.Any = in.peer.SignsNamesOnly()
	}
	for i := range addresses {
		j.Hosts = append(j.Hosts, fmt.Sprintf("127.0.0.%d:%d", 2+i, s.origin.ports[origin.HTTP]))
	}
	return j
}

// repeatOpened does one repetition of one cell.
func (b *bench) repeatOpened(s *stage, in *instance, w openedWork, c *report.Cell) {
	if c.Failed != "" {
		return
	}
	if err := b.measureOpened(s, in, w, c); err != nil {
		c.Failed = err.Error()
	}
}

func (b *bench) measureOpened(s *stage, in *instance, w openedWork, c *report.Cell) error {
	job := w.jobFor(b, s, in)
	seen, err := s.origin.counts()
	if err != nil {
		return err
	}
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.load.in, "%s\n", text); err != nil {
		return err
	}
	if err := s.load.awaitReady(); err != nil {
		return err
	}
	settle(in)
	ours := []*proc.Group{in.group, s.origin.group, s.load.group}
	before, err := b.meter(ours)
	if err != nil {
		return err
	}
	if err := s.load.proceed(); err != nil {
		return err
	}
	var r secure.Result
	if err := s.load.read(&r); err != nil {
		return err
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	settle(in)
	after, err := b.meter(ours)
	if err != nil {
		return err
	}
	got := sample{proxied: in.peer != nil, cpu: after.ours[0] - before.ours[0], softirqs: after.softirqs - before.softirqs}
	foreign := after.busy - before.busy - (sum(after.ours) - sum(before.ours))
	got.foreign = max(0, foreign.Seconds()/after.at.Sub(before.at).Seconds())
	got.result.Done, got.result.Bytes = r.Done, int64(r.Done)*job.Length
	got.result.Elapsed, got.result.P50, got.result.P99 = r.Elapsed, r.P50, r.P99
	if err := s.seen(seen, r.Done); err != nil {
		return err
	}
	work{perGB: w.perGB}.put(c, got)
	return in.alive()
}

func (b *bench) openedMemory(in *instance, c *report.Cell) {
	if in.peer == nil || c.Failed != "" {
		c.None = in.peer == nil
		return
	}
	m, err := in.group.Memory()
	if err != nil {
		c.Failed = err.Error()
		return
	}
	c.Put(float64(m.RSS)/(1<<20), float64(m.PSS)/(1<<20))
}

// freshHosts asks hosts for something that nobody has asked before, and once more.
func (b *bench) freshHosts(s *stage, in *instance, variant int, c *report.Cell) {
	if c.Failed != "" {
		return
	}
	job := openedWorks[0].jobFor(b, s, in)
	for i := range 20 * b.reps {
		host := fmt.Sprintf("127.1.%d.%d:%d", variant, i+1, s.origin.ports[origin.HTTP])
		var took [2]time.Duration
		for n := range took {
			var err error
			if took[n], err = secure.Once(job, host); err != nil {
				c.Failed = err.Error()
				return
			}
		}
		c.Put(ms(took[0]-took[1]), ms(took[0]), ms(took[1]))
	}
}
