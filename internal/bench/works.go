//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
)

// work is a fixed amount of work whose cost is measured: rows 1 to 5, 7 and 8.
type work struct {
	row   int
	name  string
	kind  peers.Work
	job   load.Job // without addresses
	path  string   // of Gets
	raw   bool     // to the origin's raw port
	perGB bool     // cost is for 1e9 bytes, else for 10,000 pieces
}

const limit = 5 * time.Minute

// works are the rows that are plain work.
var works = []work{
	{row: 1, name: "GET 1 KiB, 64 keep-alive clients", kind: peers.Gets, path: "/1k",
		job: load.Job{Kind: load.Get, Conns: 64, Warm: 2000, Count: 20000}},
	{row: 2, name: "GET 1 KiB, a new connection for each", kind: peers.Gets, path: "/1k",
		job: load.Job{Kind: load.GetNew, Conns: 32, Warm: 1000, Count: 10000}},
	{row: 3, name: "GET 1 MiB, 16 keep-alive clients", kind: peers.Gets, path: "/1m",
		job: load.Job{Kind: load.Get, Conns: 16, Warm: 64, Count: 1024}, perGB: true},
	{row: 4, name: "CONNECT, one exchange, close, 32 clients", kind: peers.Tunnels, raw: true,
		job: load.Job{Kind: load.Exchange, Conns: 32, Warm: 1000, Count: 10000}},
	{row: 5, name: "CONNECT, bulk down, 4 tunnels", kind: peers.Tunnels, raw: true, perGB: true,
		job: load.Job{Kind: load.Down, Conns: 4, Warm: 4, Count: 16, Bytes: 64 << 20}},
	{row: 5, name: "CONNECT, bulk up, 4 tunnels", kind: peers.Tunnels, raw: true, perGB: true,
		job: load.Job{Kind: load.Up, Conns: 4, Warm: 4, Count: 16, Bytes: 64 << 20}},
	{row: 8, name: "TCP mode, a connection, one exchange, close, 32 clients", kind: peers.TCP, raw: true,
		job: load.Job{Kind: load.Exchange, Conns: 32, Warm: 1000, Count: 10000}},
	{row: 8, name: "TCP mode, bulk down, 4 connections", kind: peers.TCP, raw: true, perGB: true,
		job: load.Job{Kind: load.Down, Conns: 4, Warm: 4, Count: 16, Bytes: 64 << 20}},
	{row: 8, name: "TCP mode, bulk up, 4 connections", kind: peers.TCP, raw: true, perGB: true,
		job: load.Job{Kind: load.Up, Conns: 4, Warm: 4, Count: 16, Bytes: 64 << 20}},
}

// target is where the work leads.
func (w work) target(o *originHelper) string {
	if w.raw {
		return o.addr(origin.Raw)
	}
	return o.addr(origin.HTTP)
}

// jobFor is the job that does the work through an instance.
func (w work) jobFor(in *instance, target string, scale float64) load.Job {
	j := w.job
	if scale != 1 {
		j.Count = max(int(float64(j.Count)*scale), j.Conns)
		j.Warm = max(int(float64(j.Warm)*scale), j.Conns)
	}
	j.Limit = limit
	proxied := in.peer != nil
	j.Addr = target
	if proxied {
		j.Addr = in.setup.Addr()
	}
	switch w.kind {
	case peers.Gets:
		j.Requests = []load.Request{getRequest(proxied, target, w.path)}
	case peers.Tunnels:
		if proxied {
			j.Head = connectHead(target)
		}
	}
	return j
}

func connectHead(target string) string {
	return fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\nUser-Agent: bench\r\n\r\n", target)
}

// getRequest is a request as an ordinary client sends it.
func getRequest(proxied bool, target, path string) load.Request {
	url := path
	if proxied {
		url = "http://" + target + path
	}
	size := int64(origin.SizeSmall)
	if path == "/1m" {
		size = origin.SizeLarge
	}
	return load.Request{
		Head:   fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", url, target),
		Status: 200, Length: size,
	}
}

// cell is what came of one proxy's work, in all repetitions.
type cell struct {
	name    string
	samples []sample
	err     error
	none    bool // it does not do such work
}

// table is what came of a row, or a part of one.
type table struct {
	row   int
	name  string
	perGB bool
	cells []*cell
}

// runWork measures a work for all proxies, one after the other in each repetition.
func (b *bench) runWork(w work) (*table, error) {
	o, err := b.startOrigin()
	if err != nil {
		return nil, err
	}
	defer o.stop()
	l, err := b.startLoader()
	if err != nil {
		return nil, err
	}
	defer l.stop()
	t := &table{row: w.row, name: w.name, perGB: w.perGB}
	target := w.target(o)
	var running []*instance
	defer func() {
		for _, in := range running {
			in.stop()
		}
	}()
	add := func(name string, in *instance, err error) {
		t.cells = append(t.cells, &cell{name: name, err: err})
		running = append(running, in)
	}
	for _, p := range slices.Concat(b.sluices, b.others) {
		if !p.Does(w.kind) {
			t.cells = append(t.cells, &cell{name: p.Name, none: true})
			running = append(running, &instance{name: p.Name})
			continue
		}
		in, err := b.start(p, peers.Setup{Work: w.kind, Target: target})
		if err != nil {
			in = &instance{name: p.Name}
		}
		add(p.Name, in, err)
	}
	add(direct, &instance{name: direct}, nil)
	for range b.reps {
		for i, c := range t.cells {
			if c.err != nil || c.none {
				continue
			}
			in := running[i]
			s, err := b.measure(l, in, []*proc.Group{in.group, o.group, l.group}, w.jobFor(in, target, b.scale))
			if c.err = err; err == nil {
				c.samples = append(c.samples, s)
			}
		}
	}
	return t, nil
}
