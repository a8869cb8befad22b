//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
)

// bench is one run.
type bench struct {
	out      io.Writer
	reps     int
	scale    float64 // of the work of a cell
	accounts *proc.Accounts
	dir      string // for the proxies' files
	serial   int

	cpuOfProxy, cpuOfHelpers int

	sluices []*peers.Peer // the first is the one that all are compared with
	others  []*peers.Peer
	notes   []string
}

// direct is the name of the cell without a proxy.
const direct = "direct"

func newBench() (*bench, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // some proxies give up root
		return nil, err
	}
	b := &bench{out: os.Stdout, reps: 5, scale: 1, dir: dir, accounts: proc.OpenAccounts(), cpuOfProxy: 0, cpuOfHelpers: 1}
	if runtime.NumCPU() < 2 {
		b.cpuOfProxy, b.cpuOfHelpers = -1, -1
		b.notes = append(b.notes, "There is one processor only: proxies, origin and load generator share it.")
	}
	return b, nil
}

func (b *bench) close() {
	b.accounts.Close()
	_ = os.RemoveAll(b.dir)
}

// able are the proxies that do some work, Sluice first.
func (b *bench) able(w peers.Work) (able []*peers.Peer) {
	for _, p := range slices.Concat(b.sluices, b.others) {
		if p.Does(w) {
			able = append(able, p)
		}
	}
	return able
}

// sample is one repetition of one cell.
type sample struct {
	cpu     time.Duration // of the proxy
	foreign float64       // processor time of others, as a share of one processor
	result  load.Result
}

// measure does a job and sees what it costs the proxy in. The job's counted part
// is measured alone.
func (b *bench) measure(l *loader, in *instance, ours []*proc.Group, job load.Job) (s sample, err error) {
	if err := l.begin(job); err != nil {
		return s, err
	}
	settle(in)
	before, err := b.usages(ours)
	if err != nil {
		return s, err
	}
	busy, err := proc.Busy()
	if err != nil {
		return s, err
	}
	begin := time.Now()
	if err := l.proceed(); err != nil {
		return s, err
	}
	if s.result, err = l.result(); err != nil {
		return s, err
	}
	if err := failure(s.result, job.Count); err != nil {
		return s, err
	}
	settle(in)
	after, err := b.usages(ours)
	if err != nil {
		return s, err
	}
	busyAfter, err := proc.Busy()
	if err != nil {
		return s, err
	}
	s.cpu = after[0] - before[0]
	foreign := sum(busyAfter) - sum(busy) - (sum(after) - sum(before))
	s.foreign = max(0, foreign.Seconds()/time.Since(begin).Seconds())
	return s, in.alive()
}

// failure is what the results say that went wrong.
func failure(r load.Result, count int) error {
	for what, n := range r.Errors {
		return fmt.Errorf("%s (%d times)", what, n)
	}
	if count > 0 && r.Done != count {
		return fmt.Errorf("%d of %d done", r.Done, count)
	}
	return nil
}

// settle waits until a proxy does nothing any more, such as to close connections.
func settle(in *instance) {
	if in.group == nil {
		return
	}
	last, _ := in.group.Usage()
	for range 20 {
		time.Sleep(20 * time.Millisecond)
		now, _ := in.group.Usage()
		if now-last < 200*time.Microsecond {
			return
		}
		last = now
	}
}

func (b *bench) usages(groups []*proc.Group) ([]time.Duration, error) {
	var all []time.Duration
	for _, g := range groups {
		if g == nil {
			all = append(all, 0)
			continue
		}
		u, err := g.Usage()
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

func sum(ds []time.Duration) (s time.Duration) {
	for _, d := range ds {
		s += d
	}
	return s
}
