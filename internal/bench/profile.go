//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// profileTime is how long each way of looking takes.
const profileTime = 6 * time.Second

// profileRows looks into Sluice while it does the works of rows, and leaves what it
// saw in a folder.
func (b *bench) profileRows(rows []string, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, w := range works {
		if !slices.Contains(rows, strconv.Itoa(w.row)) {
			continue
		}
		fmt.Fprintf(b.out, "row %d: %s\n", w.row, w.name)
		if err := b.profile(w, filepath.Join(dir, "row"+w.key)); err != nil {
			return err
		}
	}
	return nil
}

// profile looks at one work: first what it costs, then where the time goes in Go's
// eyes, then in those of the kernel.
func (b *bench) profile(w work, base string) error {
	s, err := b.startStage()
	if err != nil {
		return err
	}
	defer s.stop()
	v := variant{name: b.sluices[0].Name, peer: b.sluices[0], setup: peers.Setup{Profile: true}}
	in, err := b.startVariant(s, w, v)
	if err != nil {
		return err
	}
	if err := b.costs(s, in, w); err != nil {
		return err
	}
	fetched := make(chan error, 1)
	_, err = b.during(s, in, w, func() (stop func(), err error) {
		go func() { fetched <- in.fetchProfile(base + ".pprof") }()
		return func() {}, nil
	})
	if err = errors.Join(err, <-fetched); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "  go tool pprof -http=127.0.0.1:0 %s.pprof\n", base)
	return b.kernelProfile(s, in, w, base)
}

// during does the work for profileTime, and something else meanwhile.
func (b *bench) during(s *stage, in *instance, w work, other func() (stop func(), err error)) (load.Result, error) {
	job := w.jobFor(in, w.target(s.origin), 1)
	job.Count, job.Duration = 0, profileTime
	if err := s.load.begin(job); err != nil {
		return load.Result{}, err
	}
	stop, err := other()
	if err != nil {
		return load.Result{}, err
	}
	if err := s.load.proceed(); err != nil {
		return load.Result{}, err
	}
	r, err := s.load.result()
	stop()
	return r, errors.Join(err, failure(r, 0), in.alive())
}

// costs prints what a piece of work costs: time, system calls, allocations.
func (b *bench) costs(s *stage, in *instance, w work) error {
	var before, after [4]float64
	read := func(v *[4]float64) (err error) {
		settle(in)
		user, system, err := in.group.Split()
		if err != nil {
			return err
		}
		v[0], v[1] = float64(user.Microseconds()), float64(system.Microseconds())
		if v[2], err = in.metric("go_memstats_mallocs_total"); err != nil {
			return err
		}
		v[3], err = in.metric("go_memstats_alloc_bytes_total")
		return err
	}
	count := &syscallCount{pid: in.cmd.Process.Pid}
	r, err := b.during(s, in, w, func() (func(), error) {
		if err := read(&before); err != nil {
			return nil, err
		}
		return func() {}, nil
	})
	if err == nil {
		err = read(&after)
	}
	if err != nil {
		return err
	}
	n, what := float64(r.Done), "a piece"
	if w.perGB {
		n, what = float64(r.Bytes)/1e6, "a MB"
	}
	per := func(i int) float64 { return (after[i] - before[i]) / n }
	fmt.Fprintf(b.out, "  %s: user %.2f µs, system %.2f µs, %.3f allocations of %.1f bytes\n", what, per(0), per(1), per(2), per(3))
	r, err = b.during(s, in, w, count.start)
	if err != nil || count.failed != nil {
		fmt.Fprintf(b.out, "  system calls cannot be counted here: %v\n", errors.Join(err, count.failed))
		return err
	}
	if n = float64(r.Done); w.perGB {
		n = float64(r.Bytes) / 1e6
	}
	fmt.Fprintf(b.out, "  system calls, %s: %s\n", what, count.text(n))
	return nil
}

// fetchProfile writes what /debug/pprof/profile says.
func (in *instance) fetchProfile(path string) error {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=%.0f", in.setup.Admin, (profileTime - time.Second).Seconds()))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("no profile: %s", resp.Status)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// kernelProfile leaves a second profile with what the kernel does, where perf is there.
func (b *bench) kernelProfile(s *stage, in *instance, w work, base string) error {
	if _, err := exec.LookPath("perf"); err != nil {
		fmt.Fprintln(b.out, "  no perf here, so no profile of the kernel's part")
		return nil
	}
	data := filepath.Join(b.dir, "perf.data")
	record := exec.Command("perf", "record", "-q", "-F", "997", "-g", "-o", data, "-p", strconv.Itoa(in.cmd.Process.Pid))
	_, err := b.during(s, in, w, func() (func(), error) {
		return interruptible(record), record.Start()
	})
	if err != nil {
		return err
	}
	out, err := exec.Command("perf", "script", "-F", "ip,sym", "-i", data).Output()
	if err != nil {
		return fmt.Errorf("perf script: %w", err)
	}
	p, err := report.FromPerf(bytes.NewReader(out))
	if err != nil {
		return err
	}
	f, err := os.Create(base + "-kernel.pprof")
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "  go tool pprof -http=127.0.0.1:0 %s\n", f.Name())
	return errors.Join(p.Write(f), f.Close())
}

// interruptible ends a command as Ctrl-C does, so that it writes what it has.
func interruptible(cmd *exec.Cmd) (stop func()) {
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
}

// syscallCount counts system calls by perf.
type syscallCount struct {
	pid    int
	out    bytes.Buffer
	failed error
}

// counted are the system calls that are told by name.
var counted = []string{
	"read", "write", "readv", "writev", "recvfrom", "sendto", "recvmsg", "sendmsg", "splice", "pipe2", "accept4", "socket", "connect",
	"bind", "setsockopt", "getsockopt", "getsockname", "getpeername", "shutdown", "close", "epoll_ctl", "epoll_pwait", "epoll_wait",
	"futex", "nanosleep", "clock_nanosleep", "fcntl", "ioctl", "madvise", "tgkill",
}

// start begins to count; where that cannot be it says so in failed, and is no error.
func (c *syscallCount) start() (stop func(), err error) {
	args := []string{"stat", "-x", ",", "-p", strconv.Itoa(c.pid), "-e", "raw_syscalls:sys_enter"}
	for _, name := range counted {
		args = append(args, "-e", "syscalls:sys_enter_"+name)
	}
	cmd := exec.Command("perf", args...)
	cmd.Stderr = &c.out
	if c.failed = cmd.Start(); c.failed != nil {
		return func() {}, nil
	}
	time.Sleep(500 * time.Millisecond) // until it counts
	return interruptible(cmd), nil
}

// text is the counts for each of n pieces, the greatest first.
func (c *syscallCount) text(n float64) string {
	type count struct {
		name string
		n    float64
	}
	var all []count
	for line := range strings.Lines(c.out.String()) {
		f := strings.Split(line, ",")
		if len(f) < 3 {
			continue
		}
		v, err := strconv.ParseFloat(f[0], 64)
		if err != nil || v/n < 0.0005 {
			continue
		}
		name := strings.TrimPrefix(f[2], "syscalls:sys_enter_")
		if strings.HasPrefix(name, "raw_") {
			name = "all"
		}
		all = append(all, count{name, v / n})
	}
	slices.SortFunc(all, func(a, b count) int { return int(1e6 * (b.n - a.n)) })
	words := make([]string, len(all))
	for i, a := range all {
		words[i] = fmt.Sprintf("%s %.3f", a.name, a.n)
	}
	if len(words) == 0 {
		return "none counted: " + strings.TrimSpace(c.out.String())
	}
	return strings.Join(words, ", ")
}
