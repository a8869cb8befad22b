//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// bench is one run.
type bench struct {
	out      io.Writer
	reps     int
	scale    float64 // of the work of a cell
	accounts *proc.Accounts
	dir      string // for the proxies' files
	serial   int

	pageLists func() // gives the kernel its own way with them again

	cpuOfProxy, cpuOfHelpers int
	nice                     int // of proxies and helpers

	sluices []*peers.Peer // the first is the one that all are compared with
	others  []*peers.Peer
	notes   []string
	tables  []*report.Table

	isolated bool // in a network namespace of its own
	quick    bool
	starts   int           // of row 9
	idle     int           // tunnels of row 6
	rest     time.Duration // for so long memory must not fall to be at rest
	soak     time.Duration
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
	b := &bench{out: os.Stdout, reps: 5, scale: 1, starts: 10, idle: idleTunnels, rest: 4 * time.Second, dir: dir, accounts: proc.OpenAccounts(), cpuOfProxy: 0, cpuOfHelpers: 1}
	if runtime.NumCPU() < 2 {
		b.cpuOfProxy, b.cpuOfHelpers = -1, -1
		b.notes = append(b.notes, "There is one processor only: proxies, origin and load generator share it.")
	}
	short := false
	if b.pageLists, short = proc.ShortPageLists(); !short {
		b.notes = append(b.notes, "The kernel's lists of free pages are as long as it likes: the cost of bulk depends on what was measured before.")
	}
	return b, proc.Pin(b.cpuOfHelpers)
}

func (b *bench) close() {
	b.pageLists() // first, since the others may take their time
	b.accounts.Close()
	_ = os.RemoveAll(b.dir)
}

// stage is the origin, a load generator, a DNS server, and proxies between them.
type stage struct {
	origin  *originHelper
	names   *dnsHelper
	load    *loader
	proxies []*instance
}

func (b *bench) startStage() (s *stage, err error) {
	s = &stage{}
	if s.origin, err = b.startOrigin(); err != nil {
		return nil, err
	}
	if s.names, err = b.startDNS(); err == nil {
		s.load, err = b.startLoader()
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *stage) stop() {
	for _, in := range s.proxies {
		in.stop()
	}
	if s.load != nil {
		s.load.stop()
	}
	if s.names != nil {
		s.names.stop()
	}
	s.origin.stop()
}

// seen is an error unless the origin saw all that was asked for since before: a
// proxy must not answer by itself.
func (s *stage) seen(before origin.Counts, asked int) error {
	now, err := s.origin.counts()
	if err != nil {
		return err
	}
	if n := now.Requests + now.Messages - before.Requests - before.Messages; n < asked {
		return fmt.Errorf("the origin saw %d of %d requests", n, asked)
	}
	return nil
}

// sample is one repetition of one cell.
type sample struct {
	proxied bool
	cpu     time.Duration // of the proxy
	foreign float64       // processor time of others, as a share of one processor
	// What the kernel did of the proxy's work in its own thread, of the time of others.
	softirqs time.Duration
	asked    int // with the warm-up
	result   load.Result
}

// measure does a job and sees what it costs the proxy in. The job's counted part
// is measured alone.
func (b *bench) measure(st *stage, in *instance, job load.Job) (s sample, err error) {
	s.proxied = in.peer != nil
	if err := st.load.begin(job); err != nil {
		return s, err
	}
	settle(in)
	ours := []*proc.Group{in.group, st.origin.group, st.load.group}
	before, err := b.meter(ours)
	if err != nil {
		return s, err
	}
	if err := st.load.proceed(); err != nil {
		return s, err
	}
	if s.result, err = st.load.result(); err != nil {
		return s, err
	}
	if err := failure(s.result, job.Count); err != nil {
		return s, err
	}
	settle(in)
	after, err := b.meter(ours)
	if err != nil {
		return s, err
	}
	s.cpu = after.ours[0] - before.ours[0]
	foreign := after.busy - before.busy - (sum(after.ours) - sum(before.ours))
	s.foreign = max(0, foreign.Seconds()/after.at.Sub(before.at).Seconds())
	s.softirqs = after.softirqs - before.softirqs
	s.asked = s.result.Done + job.Warm
	return s, in.alive()
}

// reading is what processors have done so far.
type reading struct {
	at   time.Time
	busy time.Duration
	ours []time.Duration

	softirqs time.Duration // of the proxy's processor
}

func (b *bench) meter(groups []*proc.Group) (r reading, err error) {
	if r.ours, err = usages(groups); err != nil {
		return r, err
	}
	r.at = time.Now()
	r.softirqs = proc.Softirqs(b.cpuOfProxy)
	r.busy, err = b.accounts.Busy()
	return r, err
}

// failure is what the results say that went wrong.
func failure(r load.Result, count int) error {
	for what, n := range r.Errors {
		return fmt.Errorf("%s (%d times)", what, n)
	}
	if r.Done < count {
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

func usages(groups []*proc.Group) ([]time.Duration, error) {
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
