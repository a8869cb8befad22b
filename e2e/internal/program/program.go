//go:build linux

// Package program builds the real programs and runs them as processes, for the tests
// beneath e2e.
package program

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// Setup says how to run sluice. The zero value runs "sluice proxy" here, on loopback, and
// without rules, which is wrong.
type Setup struct {
	Netns   *nettest.Netns // nil: where the test runs
	Command string         // "": proxy
	Bare    bool           // no command and no flags: the environment says all
	Rules   string         // written to a file for --rules; "": no such flag
	Config  string         // written to a file for --config; "": no such flag
	Args    []string
	Env     []string
	Files   int  // limit of open files; 0: as it is
	Plain   bool // as it ships, without the race detector
}

// Program is sluice as a process of its own. It ends with the test, which fails when it
// has told of a data race or of a panic. Its methods are for the test's goroutine.
type Program struct {
	Addr  string   // of the proxy, ADDR:PORT, where the program itself runs
	Ports []string // of "sluice tcp", in the order of the configuration
	Admin string   // of the admin port, likewise
	Rules string   // path of the rules file
	File  string   // path of the configuration file
	Dir   string   // for files of the test

	t    testing.TB
	ns   *nettest.Netns
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// Start runs the program and waits until it serves. It listens on what its command
// listens on by default in a namespace of its own, else on free ports of loopback.
func Start(t testing.TB, s Setup) *Program {
	t.Helper()
	p := Launch(t, s)
	nettest.Eventually(t, "the program is up", func() bool {
		if p.Ended() {
			t.Fatalf("it ended (%v):\n%s", p.cmd.ProcessState, p.Stderr())
		}
		return strings.Contains(p.Stderr(), "\nsource address: ") && strings.HasSuffix(p.Stderr(), "\n")
	})
	said := p.Stderr()
	if m := regexp.MustCompile(`admin on http://(\S+)/`).FindStringSubmatch(said); m != nil {
		p.Admin = strings.Replace(m[1], "[::]", "127.0.0.1", 1)
	}
	if m := regexp.MustCompile(`listens on ([^\s,]+)`).FindStringSubmatch(said); m != nil {
		p.Addr = strings.Replace(m[1], "[::]", "127.0.0.1", 1)
	}
	for _, m := range regexp.MustCompile(`(?m)^  (\S+) > `).FindAllStringSubmatch(said, -1) {
		if len(p.Ports) == 0 || p.Ports[len(p.Ports)-1] != m[1] {
			p.Ports = append(p.Ports, m[1])
		}
	}
	return p
}

// Launch runs the program.
func Launch(t testing.TB, s Setup) *Program {
	t.Helper()
	p := &Program{t: t, ns: s.Netns, Dir: t.TempDir(), done: make(chan struct{})}
	args := append(p.line(s), s.Args...)
	if s.Files > 0 {
		args = append([]string{"prlimit", fmt.Sprintf("--nofile=%d:%d", s.Files, s.Files)}, args...)
	}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GOTRACEBACK=all", "GORACE=atexit_sleep_ms=0"}, s.Env...)
	// Files, not pipes: nothing that the program writes is lost, however it ends.
	p.cmd.Stdout, p.cmd.Stderr = p.create("stdout"), p.create("stderr")
	if s.Netns != nil {
		require.NoError(t, s.Netns.Start(p.cmd))
	} else {
		require.NoError(t, p.cmd.Start())
	}
	go func() {
		_ = p.cmd.Wait() // the state is looked at later
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

// line is the command line, up to what the test itself adds.
func (p *Program) line(s Setup) []string {
	p.t.Helper()
	bin := racy
	if s.Plain {
		bin = plain
	}
	args := []string{path(p.t, bin)}
	if s.Bare {
		return args
	}
	command := s.Command
	if command == "" {
		command = "proxy"
	}
	args = append(args, command)
	if s.Netns == nil {
		args = append(args, "--admin", "127.0.0.1:0")
		if command == "proxy" {
			args = append(args, "--listen", "127.0.0.1:0")
		}
	}
	if s.Rules != "" {
		p.Rules = p.write("rules", s.Rules)
		args = append(args, "--rules", p.Rules)
	}
	if s.Config != "" {
		p.File = p.write("sluice.yaml", s.Config)
		args = append(args, "--config", p.File)
	}
	return args
}

// PID is the process's id.
func (p *Program) PID() int { return p.cmd.Process.Pid }

func (p *Program) write(name, text string) (path string) {
	p.t.Helper()
	path = filepath.Join(p.Dir, name)
	require.NoError(p.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (p *Program) create(name string) *os.File {
	f, err := os.Create(filepath.Join(p.Dir, name))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = f.Close() })
	return f
}

func (p *Program) kill() {
	if !p.Ended() {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	if log := p.Stderr(); p.t.Failed() || strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
		p.t.Errorf("the program said:\n%s", log)
	}
}

func (p *Program) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Exit waits for the end of the process and returns its status.
func (p *Program) Exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("the program has not ended")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *Program) Signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

func (p *Program) Stderr() string { return p.read("stderr") }
func (p *Program) Stdout() string { return p.read("stdout") }

func (p *Program) read(name string) string {
	b, err := os.ReadFile(filepath.Join(p.Dir, name))
	if err != nil {
		p.t.Errorf("read what the program wrote: %v", err)
	}
	return string(b)
}

// Dial connects from where the program runs.
func (p *Program) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if p.ns != nil {
		return p.ns.DialContext(ctx, network, addr)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// Connect opens a bare connection to the proxy, closed when the test ends.
func (p *Program) Connect() net.Conn {
	p.t.Helper()
	c, err := p.Dial(context.Background(), "tcp", p.Addr)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = c.Close() })
	require.NoError(p.t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	return c
}

// Client is an HTTP client that goes by the proxy, and keeps its connections.
func (p *Program) Client() *http.Client {
	tr := &http.Transport{
		DialContext: p.Dial,
		Proxy:       http.ProxyURL(&url.URL{Scheme: "http", Host: p.Addr}),
	}
	p.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * time.Minute}
}

// Ask asks the admin port for a path, on a connection of its own.
func (p *Program) Ask(path string) (status int, body string) {
	p.t.Helper()
	c := &http.Client{
		Transport: &http.Transport{DialContext: p.Dial, DisableKeepAlives: true},
		Timeout:   30 * time.Second,
	}
	resp, err := c.Get("http://" + p.Admin + path)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, string(b)
}

// Metric is the value of a metric, "" when there is none; name has the labels.
func (p *Program) Metric(name string) string {
	p.t.Helper()
	_, text := p.Ask("/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// AccessLog are the lines of the access log on standard output.
func (p *Program) AccessLog() []string {
	text := strings.TrimSpace(p.Stdout())
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
