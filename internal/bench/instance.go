//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
)

// instance is a proxy that runs; without a peer it is no proxy at all.
type instance struct {
	name   string
	peer   *peers.Peer
	setup  peers.Setup
	group  *proc.Group
	cmd    *exec.Cmd
	stderr said
	done   chan struct{}
	began  time.Duration // see proc.Now
}

// said is what a program has said, as far as it has come.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// startTimeout is how long a proxy may take until it listens.
const startTimeout = 120 * time.Second

// start runs a proxy on the proxies' processor, and waits until it listens.
func (b *bench) start(p *peers.Peer, s peers.Setup) (*instance, error) {
	in, err := b.launch(p, s)
	if err != nil {
		return nil, err
	}
	if err := in.await(startTimeout); err != nil {
		in.stop()
		return nil, err
	}
	return in, nil
}

// launch runs a proxy.
func (b *bench) launch(p *peers.Peer, s peers.Setup) (in *instance, err error) {
	b.serial++
	name := fmt.Sprintf("%s-%d", p.Name, b.serial)
	s.Dir = filepath.Join(b.dir, name)
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	if s.Port, err = proc.FreePort(); err != nil {
		return nil, err
	}
	if s.Admin, err = proc.FreePort(); err != nil {
		return nil, err
	}
	argv, env, err := p.Command(s)
	if err != nil {
		return nil, err
	}
	in = &instance{name: p.Name, peer: p, setup: s, done: make(chan struct{})}
	if in.group, err = b.accounts.Group(name); err != nil {
		return nil, err
	}
	if in.cmd, err = proc.Command(proc.Place{CPU: b.cpuOfProxy, Nice: b.nice, Cgroup: in.group.Dir(), Clock: true}, argv...); err != nil {
		return nil, err
	}
	in.cmd.Env = append(os.Environ(), env...)
	in.cmd.Dir = s.Dir
	in.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	in.cmd.Stderr = &in.stderr
	clock, end, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer clock.Close()
	in.cmd.ExtraFiles = []*os.File{end}
	err = in.cmd.Start()
	end.Close()
	if err != nil {
		in.group.Close()
		return nil, err
	}
	in.group.Follow(in.cmd.Process.Pid)
	go func() {
		defer close(in.done)
		_ = in.cmd.Wait()
	}()
	var began int64
	_, _ = fmt.Fscanln(clock, &began) // if there is none, the program has not begun, and await says so
	in.began = time.Duration(began)
	return in, nil
}

// await waits until the proxy listens.
func (in *instance) await(limit time.Duration) error {
	for begin := time.Now(); time.Since(begin) < limit; {
		c, err := net.Dial("tcp4", in.setup.Addr())
		if err == nil {
			return c.Close()
		}
		select {
		case <-in.done:
			return fmt.Errorf("%s has ended: %v %s", in.name, in.cmd.ProcessState, firstLines(in.stderr.String()))
		case <-time.After(time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not listen after %v", in.name, limit)
}

// firstLines is the beginning of what a program said.
func firstLines(s string) string {
	return strings.Join(strings.Split(strings.TrimSpace(s), "\n")[:1], " ")
}

// stop ends the proxy and every process of it.
func (in *instance) stop() {
	if in.peer == nil {
		return
	}
	pids, _ := in.group.Pids()
	_ = in.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-in.done:
	case <-time.After(time.Second):
	}
	for _, pid := range pids { // no one waits for what is open
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-in.done
	in.group.Close()
	_ = os.RemoveAll(in.setup.Dir)
}

// alive is an error when the proxy has ended.
func (in *instance) alive() error {
	if in.peer == nil {
		return nil
	}
	select {
	case <-in.done:
		return errors.New(in.name + " has ended: " + firstLines(in.stderr.String()))
	default:
		return nil
	}
}

// lostLines is an error when Sluice's access log is not complete.
func (in *instance) lostLines() error {
	if in.peer == nil || in.alive() != nil || !in.peer.IsSluice() || in.setup.Work == peers.TCP {
		return nil
	}
	lost, err := in.metric("sluice_access_log_dropped_total")
	if err == nil && lost > 0 {
		err = fmt.Errorf("%.0f lines of the access log are lost", lost)
	}
	return err
}

// metric reads one metric of Sluice, which may have a label in its name.
func (in *instance) metric(name string) (float64, error) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", in.setup.Admin))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
