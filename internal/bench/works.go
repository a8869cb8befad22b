//go:build linux

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// work is a fixed amount of work whose cost is measured: rows 1 to 5, 7 and 8.
type work struct {
	row   int
	key   string
	name  string
	kind  peers.Work
	job   load.Job // without addresses
	path  string   // of Gets
	raw   bool     // to the origin's raw port
	perGB bool     // cost is for 1e9 bytes, else for 10,000 pieces
	round int      // repetitions for each one of the run; 0: 1
}

const (
	limit     = 5 * time.Minute
	least     = time.Second // of a cell: a stall of a millisecond is not its p99 then
	addresses = 64          // of the origin
)

// works are the rows that are plain work.
var works = []work{
	{row: 1, key: "1", name: "GET 1 KiB, 64 keep-alive clients", kind: peers.Gets, path: "/1k",
		job: load.Job{Kind: load.Get, Conns: 64, Warm: 2000, Count: 20000, Duration: least}},
	{row: 2, key: "2", name: "GET 1 KiB, a new connection for each", kind: peers.Gets, path: "/1k",
		job: load.Job{Kind: load.GetNew, Conns: 32, Warm: 1000, Count: 10000}},
	{row: 3, key: "3", name: "GET 1 MiB, 16 keep-alive clients", kind: peers.Gets, path: "/1m",
		job: load.Job{Kind: load.Get, Conns: 16, Warm: 64, Count: 1024, Duration: least}, perGB: true},
	{row: 4, key: "4", name: "CONNECT, one exchange, close, 32 clients", kind: peers.Tunnels, raw: true,
		job: load.Job{Kind: load.Exchange, Conns: 32, Warm: 1000, Count: 10000}},
	{row: 5, key: "5down", name: "CONNECT, bulk down, 4 tunnels", kind: peers.Tunnels, raw: true, perGB: true,
		job: load.Job{Kind: load.Down, Conns: 4, Warm: 4, Count: 16, Bytes: 64 << 20, Duration: least}},
	{row: 5, key: "5up", name: "CONNECT, bulk up, 4 tunnels", kind: peers.Tunnels, raw: true, perGB: true,
		job: load.Job{Kind: load.Up, Conns: 4, Warm: 4, Count: 16, Bytes: 64 << 20, Duration: least}},
	{row: 8, key: "8", name: "TCP mode, a connection, one exchange, close, 32 clients", kind: peers.TCP, raw: true,
		job: load.Job{Kind: load.Exchange, Conns: 32, Warm: 1000, Count: 10000}},
	{row: 8, key: "8down", name: "TCP mode, bulk down, 4 connections", kind: peers.TCP, raw: true, perGB: true,
		job: load.Job{Kind: load.Down, Conns: 4, Warm: 4, Count: 16, Bytes: 64 << 20, Duration: least}},
	{row: 8, key: "8up", name: "TCP mode, bulk up, 4 connections", kind: peers.TCP, raw: true, perGB: true,
		job: load.Job{Kind: load.Up, Conns: 4, Warm: 4, Count: 16, Bytes: 64 << 20, Duration: least}},
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
		j.Duration = time.Duration(float64(j.Duration) * scale)
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
		if proxied && in.setup.SOCKS {
			j = overSOCKS(j, target, in.setup.AtOnce)
		} else if proxied {
			j.Heads = connectHeads(target)
		}
	}
	if a := in.setup.Authorization; a != "" {
		for i := range j.Requests {
			j.Requests[i].Head = authorized(j.Requests[i].Head, a)
		}
		for i := range j.Heads {
			j.Heads[i] = []byte(authorized(string(j.Heads[i]), a))
		}
	}
	return j
}

// authorized is a head with credentials.
func authorized(head, a string) string {
	return strings.TrimSuffix(head, "\r\n") + "Proxy-Authorization: " + a + "\r\n\r\n"
}

// connectHeads lead to the target at several addresses. To one and the same address,
// connections that ended less than a second ago would leave so few ports that the
// search for one is what is measured.
func connectHeads(target string) (heads [][]byte) {
	_, port, _ := strings.Cut(target, ":")
	for i := range addresses {
		heads = append(heads, []byte(connectHead(fmt.Sprintf("127.0.0.%d:%s", 2+i, port))))
	}
	return heads
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

// newTable is the table of a work.
func (w work) newTable() *report.Table {
	cost, rate := "CPU s/10k", "1/s"
	decimals := 0
	if w.perGB {
		cost, rate, decimals = "CPU s/GB", "GB/s", 2
	}
	return &report.Table{Row: w.row, Key: w.key, Title: w.name, Columns: []report.Column{
		{Name: cost, Decimals: 3}, {Name: rate, Decimals: decimals}, {Name: "p50 ms", Decimals: 2}, {Name: "p99 ms", Decimals: 2},
		{Name: "CPU used %"}, {Name: "foreign CPU %"},
		{Name: "with ksoftirqd", Decimals: 3},
	}}
}

// put adds a sample to a cell.
func (w work) put(c *report.Cell, s sample) {
	r := s.result
	amount, cost := float64(r.Done), 1e4
	if w.perGB {
		amount, cost = float64(r.Bytes)/1e9, 1
	}
	cpu, whole := math.NaN(), math.NaN()
	if s.proxied {
		cpu = s.cpu.Seconds()
		whole = cpu + s.softirqs.Seconds()
	}
	c.Put(cpu*cost/amount, amount/r.Elapsed.Seconds(), ms(r.P50), ms(r.P99), 100*cpu/r.Elapsed.Seconds(), 100*s.foreign, whole*cost/amount)
	if n := r.Reopened + r.Retried; n > r.Done/10 && w.job.Kind == load.Get {
		c.Note = "it does not keep connections"
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// variant is a proxy in one setup.
type variant struct {
	name  string
	peer  *peers.Peer // nil: no proxy
	setup peers.Setup
	scale float64 // of the work, beside that of the run
	rare  bool    // it takes part only in the first repetition of each round
}

// cell adds a cell for the variant.
func (v variant) cell(t *report.Table) *report.Cell {
	c := t.Add(v.name)
	c.Own = v.peer != nil && v.peer.IsSluice()
	c.Peer = v.peer != nil && !c.Own
	return c
}

// variants are all proxies and, at the end, none.
func (b *bench) variants(w work) (all []variant) {
	for _, p := range slices.Concat(b.sluices, b.others) {
		if !p.Does(w.kind) && p.Opener() {
			continue
		}
		all = append(all, variant{name: p.Name, peer: p, setup: peers.Setup{Work: w.kind}, scale: 1})
	}
	return append(all, variant{name: direct, scale: 1})
}

// runWorks measures works of one kind for variants of proxies, which take turns in
// each repetition. The proxies run all the time.
func (b *bench) runWorks(works []work, variants []variant) (tables []*report.Table, err error) {
	s, err := b.startStage()
	if err != nil {
		return nil, err
	}
	defer s.stop()
	for _, w := range works {
		tables = append(tables, w.newTable())
	}
	var running []*instance
	for _, v := range variants {
		in, failed := b.startVariant(s, works[0], v)
		running = append(running, in)
		for _, t := range tables {
			c := v.cell(t)
			c.None = v.peer != nil && !v.peer.Does(works[0].kind)
			if failed != nil {
				c.Failed = failed.Error()
			}
		}
	}
	order := rand.New(rand.NewPCG(1, 1)) // the same in each run
	for i, w := range works {
		for rep := range b.reps * max(1, w.round) {
			for _, j := range order.Perm(len(variants)) { // so that none always comes after the same
				if variants[j].rare && rep%w.round > 0 {
					continue
				}
				b.repeat(s, running[j], w, variants[j], tables[i].Cells[j])
			}
		}
		tables[i].Notes = saturation(tables[i])
	}
	for j, in := range running {
		if err := in.lostLines(); err != nil {
			for _, t := range tables {
				t.Cells[j].Failed = err.Error()
			}
		}
	}
	return tables, nil
}

// startVariant starts a proxy for works on a stage, which ends it.
func (b *bench) startVariant(s *stage, w work, v variant) (*instance, error) {
	none := &instance{name: v.name}
	if v.peer == nil || !v.peer.Does(w.kind) {
		return none, nil
	}
	v.setup.Work, v.setup.Target = w.kind, w.target(s.origin)
	// squid asks for the name of each address, and what is not answered makes all
	// that comes after it dearer.
	v.setup.Resolver = s.names.resolverFor(v.peer)
	in, err := b.start(v.peer, v.setup)
	if err != nil {
		return none, err
	}
	s.proxies = append(s.proxies, in)
	if v.setup.Directory != "" {
		return in, in.awaitPods()
	}
	return in, nil
}

// repeat does one repetition of one cell.
func (b *bench) repeat(s *stage, in *instance, w work, v variant, c *report.Cell) {
	if c.None || c.Failed != "" {
		return
	}
	before, err := s.origin.counts()
	if err != nil {
		c.Failed = err.Error()
		return
	}
	got, err := b.measure(s, in, w.jobFor(in, w.target(s.origin), b.scale*v.scale))
	if err == nil {
		err = s.seen(before, got.asked)
	}
	if err != nil {
		c.Failed = err.Error()
		return
	}
	w.put(c, got)
}

// saturation says where the origin and the load generator were the limit.
func saturation(t *report.Table) []string {
	limit := t.Cell(direct).Median(1)
	for _, c := range t.Cells {
		if c.Name != direct && c.Median(1) > 0.8*limit {
			return []string{fmt.Sprintf("Rates above %.4g are near the limit of the load generator and the origin, which share a processor: compare the CPU.", 0.8*limit)}
		}
	}
	return nil
}
