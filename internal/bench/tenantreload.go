//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

const reloadRate = 5000 // requests a second of row 1 beside it

// tenantReloadTable measures how long it takes until new rules of all tenants are in force,
// what that does to others, and to memory.
func (b *bench) tenantReloadTable(number int, socket string) (*report.Table, error) {
	t := &report.Table{Row: number, Key: "13reload", NoRatio: true, Columns: []report.Column{
		{Name: "in force after ms"}, {Name: "RSS before MiB"}, {Name: "at most MiB"}, {Name: "at most to before", Decimals: 2},
		{Name: "p99 ms", Decimals: 2}, {Name: "max ms", Decimals: 1}, {Name: "p99 ms without", Decimals: 2},
	}, Title: fmt.Sprintf("reload of %d tenants, %d rules each, all changed, with row 1 at %d requests/s", manyTenants, peers.DefaultRules, reloadRate)}
	c := t.Add("reload")
	s, err := b.startStage()
	if err != nil {
		return nil, err
	}
	defer s.stop()
	w := workOf("1")
	in, err := b.startVariant(s, w, variant{name: b.sluices[0].Name, peer: b.sluices[0], setup: peers.Setup{Tenants: manyTenants, Directory: socket}, scale: 1})
	if err != nil {
		return nil, err
	}
	for i := range b.reps {
		if err := b.reloadOnce(s, in, w, i+1, c); err != nil {
			c.Failed = err.Error()
			break
		}
	}
	return t, nil
}

func (b *bench) reloadOnce(s *stage, in *instance, w work, version int, c *report.Cell) error {
	job := w.jobFor(in, w.target(s.origin), 1)
	job.Rate, job.Count, job.Warm, job.Duration, job.Limit = reloadRate, 0, reloadRate/5, 3*time.Second, 30*time.Second
	if err := in.setup.WriteTenants(version); err != nil {
		return err
	}
	quiet, err := b.measure(s, in, job)
	if err != nil {
		return err
	}
	before, err := in.rss()
	if err != nil {
		return err
	}
	var most int64
	var took time.Duration
	r, err := s.load.during(job, func() error {
		most, took, err = in.reloadTenants(version, job.Duration)
		return err
	})
	if err == nil {
		err = failure(r, 0)
	}
	if err != nil {
		return err
	}
	c.Put(ms(took), float64(before)/(1<<20), float64(most)/(1<<20), float64(most)/float64(before), ms(r.P99), ms(r.Max), ms(quiet.result.P99))
	return errors.Join(in.alive(), in.lostLines())
}

// during does something while a job goes on.
func (l *loader) during(job load.Job, do func() error) (load.Result, error) {
	if err := l.begin(job); err != nil {
		return load.Result{}, err
	}
	if err := l.proceed(); err != nil {
		return load.Result{}, err
	}
	err := do()
	r, failed := l.result()
	return r, errors.Join(err, failed)
}

// reloadTenants puts rules of all tenants that are written in force. It returns how long that took, and
// the most memory there was until then, and until rest is over.
func (in *instance) reloadTenants(version int, rest time.Duration) (most int64, took time.Duration, err error) {
	const reloaded = `"msg":"reloaded"`
	done := strings.Count(in.stderr.String(), reloaded)
	begun := time.Now()
	if err := errors.Join(in.setup.UseTenants(version), in.cmd.Process.Signal(syscall.SIGHUP)); err != nil {
		return 0, 0, err
	}
	for took == 0 || time.Since(begun) < rest {
		now, err := in.rss()
		if err != nil {
			return 0, 0, errors.Join(err, in.alive())
		}
		most = max(most, now)
		if took == 0 && strings.Count(in.stderr.String(), reloaded) > done {
			took = time.Since(begun)
		}
		if time.Since(begun) > time.Minute {
			return 0, 0, errors.New("the new rules are not in force: " + in.stderr.String())
		}
		time.Sleep(2 * time.Millisecond)
	}
	return most, took, nil
}

// rss is the resident memory of the proxy's one process.
func (in *instance) rss() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", in.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, errors.New("no figures in statm")
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}
