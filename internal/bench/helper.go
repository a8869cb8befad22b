//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
)

// helper is this program again, as origin, load generator or DNS server: a process
// that answers lines with lines.
type helper struct {
	group *proc.Group
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
}

// startHelper runs a subcommand on the helpers' processor.
func (b *bench) startHelper(name string, args ...string) (*helper, error) {
	b.serial++
	group, err := b.accounts.Group(fmt.Sprintf("%s-%d", name, b.serial))
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd, err := proc.Command(proc.Place{CPU: b.cpuOfHelpers, Nice: b.nice, Cgroup: group.Dir()}, append([]string{self, name}, args...)...)
	if err != nil {
		return nil, err
	}
	// One thread that is never to be interrupted.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	group.Follow(cmd.Process.Pid)
	return &helper{group: group, cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

// stop ends the helper.
func (h *helper) stop() {
	h.in.Close()
	done := time.AfterFunc(2*time.Second, func() { _ = h.cmd.Process.Kill() })
	_ = h.cmd.Wait()
	done.Stop()
	h.group.Close()
}

// ask sends a line and reads the answer into v.
func (h *helper) ask(line string, v any) error {
	if _, err := io.WriteString(h.in, line+"\n"); err != nil {
		return err
	}
	return h.read(v)
}

func (h *helper) read(v any) error {
	b, err := h.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("a helper has ended: %w", err)
	}
	return json.Unmarshal(b, v)
}

// originHelper is the origin.
type originHelper struct {
	*helper
	ports []int
}

func (b *bench) startOrigin() (*originHelper, error) {
	h, err := b.startHelper("origin")
	if err != nil {
		return nil, err
	}
	o := &originHelper{helper: h}
	return o, h.read(&o.ports)
}

// addr is where a port is reached.
func (o *originHelper) addr(p origin.Port) string {
	return fmt.Sprintf("127.0.0.2:%d", o.ports[p])
}

func (o *originHelper) counts() (c origin.Counts, err error) {
	return c, o.ask("counts", &c)
}

// loader is the load generator.
type loader struct{ *helper }

func (b *bench) startLoader() (*loader, error) {
	h, err := b.startHelper("load")
	if err != nil {
		return nil, err
	}
	return &loader{h}, nil
}

// begin hands over a job, and returns when it has warmed up.
func (l *loader) begin(job load.Job) error {
	b, err := json.Marshal(job)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(l.in, "%s\n", b); err != nil {
		return err
	}
	return l.awaitReady()
}

func (l *loader) awaitReady() error {
	line, err := l.out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the load generator has ended: %w", err)
	}
	if line != "ready\n" {
		return errors.New("the load generator says " + line)
	}
	return nil
}

// proceed lets the job go on.
func (l *loader) proceed() error {
	_, err := io.WriteString(l.in, "go\n")
	return err
}

// held waits until a Hold job holds. When it failed before, its result says so.
func (l *loader) held() (r load.Result, err error) {
	line, err := l.out.ReadString('\n')
	if err != nil || line == "ready\n" {
		return r, err
	}
	return r, json.Unmarshal([]byte(line), &r)
}

// result waits for what came of the job.
func (l *loader) result() (r load.Result, err error) {
	return r, l.read(&r)
}
