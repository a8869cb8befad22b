//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// soakLoad is what one load generator does all the time.
type soakLoad struct {
	name string
	job  load.Job
}

// soakLoads are rows 1 to 5 at rates that one processor carries for long, and for
// each 100 pieces of work one that meets a fault.
func soakLoads(in *instance, o *originHelper, d time.Duration) (all []soakLoad) {
	var total float64
	add := func(key string, rate float64, conns int) {
		w := workOf(key)
		j := w.jobFor(in, w.target(o), 1)
		j.Rate, j.Conns = rate, conns
		if w.perGB && w.raw {
			j.Bytes = 16 << 20
		}
		all = append(all, soakLoad{w.name, j})
		total += rate
	}
	add("1", 5000, 64)
	add("2", 500, 32)
	add("3", 80, 16)
	add("4", 500, 32)
	add("5down", 3, 4)
	add("5up", 3, 4)
	get := func(p origin.Port, status int) load.Request {
		r := getRequest(true, o.addr(p), "/1k")
		r.Status, r.Broken = status, p == origin.Broken
		if status != 200 {
			r.Length = -1
		}
		return r
	}
	refused := getRequest(true, "127.0.0.2:1", "/1k")
	refused.Status, refused.Length = 502, -1
	faults := []load.Request{
		get(origin.Reset, 502), get(origin.Broken, 200), get(origin.Slow, 200), refused,
		{Head: connectHead("127.0.0.2:1"), Status: 502, Length: -1},
	}
	job := load.Job{Kind: load.GetNew, Addr: in.setup.Addr(), Requests: faults, Conns: 64, Rate: total / 100 * 5 / 6}
	all = append(all, soakLoad{"servers that reset, break off, are slow or not there", job})
	job = load.Job{Kind: load.Quit, Addr: in.setup.Addr(), Requests: []load.Request{getRequest(true, o.addr(origin.HTTP), "/1m")}, Conns: 8, Rate: total / 100 / 6}
	all = append(all, soakLoad{"clients that go away", job})
	for i := range all {
		all[i].job.Warm, all[i].job.Count, all[i].job.Duration, all[i].job.Limit = 0, 0, d, d+time.Minute
	}
	return all
}

// heldThroughout is how many tunnels are open from beginning to end.
const heldThroughout = 100

// soakRow runs Sluice under all loads at once, with new rules each second.
func (b *bench) soakRow(number int) ([]*report.Table, error) {
	t := &report.Table{Row: number, Key: "12", Title: fmt.Sprintf("soak for %v: rows 1 to 5 together, new rules each second, 1 %% faults", b.soak), Columns: []report.Column{
		{Name: "RSS MiB", Decimals: 1}, {Name: "descriptors"}, {Name: "goroutines"}, {Name: "CPU used %"},
	}}
	for _, when := range []string{"start", "middle", "end"} {
		t.Add(when)
	}
	s, err := b.startStage()
	if err != nil {
		return nil, err
	}
	defer s.stop()
	in, err := b.startVariant(s, workOf("1"), variant{name: b.sluices[0].Name, peer: b.sluices[0]})
	if err != nil {
		return nil, err
	}
	if err := b.soakWith(s, in, t); err != nil {
		for _, c := range t.Cells {
			c.Failed = err.Error()
		}
	}
	return []*report.Table{t}, nil
}

func (b *bench) soakWith(s *stage, in *instance, t *report.Table) error {
	w := workOf("4")
	hold := w.jobFor(in, w.target(s.origin), 1)
	hold.Kind, hold.Conns, hold.Count, hold.Warm = load.Hold, heldThroughout, heldThroughout, 0
	if err := s.load.begin(hold); err != nil {
		return err
	}
	if err := s.load.proceed(); err != nil {
		return err
	}
	if r, err := s.load.held(); err != nil || failure(r, 0) != nil {
		return errors.Join(err, failure(r, 0))
	}
	loads := soakLoads(in, s.origin, b.soak)
	results, err := b.soakAll(in, loads, t)
	if err != nil {
		return err
	}
	if err := s.load.proceed(); err != nil {
		return err
	}
	held, err := s.load.result()
	if err != nil {
		return err
	}
	if err := failure(held, heldThroughout); err != nil {
		return err
	}
	for i, r := range results {
		if err := failure(r, 0); err != nil {
			return fmt.Errorf("%s: %w", loads[i].name, err)
		}
		t.Notes = append(t.Notes, fmt.Sprintf("%s: %d, all as they must be; p99 %.1f ms, max %.0f ms", loads[i].name, r.Done, ms(r.P99), ms(r.Max)))
	}
	t.Notes = append(t.Notes, fmt.Sprintf("%d tunnels stayed open all the time", heldThroughout))
	return errors.Join(in.alive(), in.lostLines())
}

// soakAll runs the loads at once, reloads each second, and puts samples of the
// program into the table.
func (b *bench) soakAll(in *instance, loads []soakLoad, t *report.Table) ([]load.Result, error) {
	generators := make([]*loader, len(loads))
	defer func() {
		for _, l := range generators {
			if l != nil {
				l.stop()
			}
		}
	}()
	for i := range loads {
		l, err := b.startLoader()
		if err != nil {
			return nil, err
		}
		generators[i] = l
		if err := l.begin(loads[i].job); err != nil {
			return nil, err
		}
	}
	results := make([]load.Result, len(loads))
	done := make(chan error, len(loads))
	for i, l := range generators {
		if err := l.proceed(); err != nil {
			return nil, err
		}
		go func() {
			var err error
			results[i], err = l.result()
			done <- err
		}()
	}
	if err := b.reloadAndWatch(in, t); err != nil {
		return nil, err
	}
	var failed error
	for range loads {
		failed = errors.Join(failed, <-done)
	}
	return results, failed
}

// reloadAndWatch gives the program new rules each second, for as long as the soak takes.
func (b *bench) reloadAndWatch(in *instance, t *report.Table) error {
	const reloads = `sluice_config_reloads_total{result="%s"}`
	before, _ := in.metric(fmt.Sprintf(reloads, "success"))
	begin, seconds := time.Now(), 0
	last, _ := in.group.Usage()
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for ; time.Since(begin) < b.soak; seconds++ {
		<-every.C
		if err := errors.Join(reload(in, seconds), shorten(in)); err != nil {
			return err
		}
		m, err := in.group.Memory()
		if err != nil {
			return errors.Join(err, in.alive())
		}
		goroutines, err := in.metric("go_goroutines")
		if err != nil {
			return err
		}
		usage, err := in.group.Usage()
		if err != nil {
			return err
		}
		share := time.Since(begin).Seconds() / b.soak.Seconds()
		if c := partOf(t, share); c != nil {
			c.Put(float64(m.RSS)/(1<<20), float64(m.FDs), goroutines, 100*(usage-last).Seconds())
		}
		last = usage
	}
	failures, _ := in.metric(fmt.Sprintf(reloads, "failure"))
	after, err := in.metric(fmt.Sprintf(reloads, "success"))
	if err != nil {
		return err
	}
	if failures > 0 || after-before < math.Floor(float64(seconds)*0.9) {
		return fmt.Errorf("%d times new rules: %.0f reloads, %.0f failed", seconds, after-before, failures)
	}
	t.Notes = append(t.Notes, fmt.Sprintf("%d times new rules, %.0f reloads, none failed", seconds, after-before))
	return nil
}

// shorten empties the access log from time to time, as log rotation does.
func shorten(in *instance) error {
	log := filepath.Join(in.setup.Dir, peers.AccessLog)
	st, err := os.Stat(log)
	if err != nil || st.Size() < 64<<20 {
		return err
	}
	return os.Truncate(log, 0)
}

// partOf is the cell for a moment of the soak: it has warmed up by the start.
func partOf(t *report.Table, share float64) *report.Cell {
	switch {
	case share > 0.05 && share < 0.2:
		return t.Cells[0]
	case share > 0.42 && share < 0.58:
		return t.Cells[1]
	case share > 0.85 && share < 0.99:
		return t.Cells[2]
	}
	return nil
}

// reload changes the rules and, every other time, says so by SIGHUP.
func reload(in *instance, i int) error {
	text := fmt.Sprintf("%s# change %d\n", peers.RuleText(peers.DefaultRules+i%2), i)
	rules := filepath.Join(in.setup.Dir, "rules.txt")
	if err := os.WriteFile(rules+".new", []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Rename(rules+".new", rules); err != nil {
		return err
	}
	if i%2 == 0 {
		return nil
	}
	return in.cmd.Process.Signal(syscall.SIGHUP)
}
