//go:build linux

package e2e

import (
	"bytes"
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

// setup says how to run the program. The zero value runs it here, on loopback,
// and without rules, which is wrong.
type setup struct {
	ns    *nettest.Netns // nil: where the test runs
	rules string         // written to a file for --rules; "": no such flag
	args  []string
	env   []string
	files int  // limit of open files; 0: as it is
	plain bool // without the race detector
}

// gateway is a running program.
type gateway struct {
	Addr  string // of the proxy, ADDR:PORT, where the program itself runs
	Admin string // of the admin port, likewise
	Rules string // path of the rules file

	t    testing.TB
	ns   *nettest.Netns
	cmd  *exec.Cmd
	dir  string
	done chan struct{} // closed when the process has ended
}

// start runs the program and waits until it serves. It listens on port 8080 of
// all addresses in a namespace of its own, else on free ports of loopback.
func start(t testing.TB, s setup) *gateway {
	t.Helper()
	g := launch(t, s)
	announced := regexp.MustCompile(`listens on ([^\s,]+)(?:, \S+)*, admin on http://(\S+)/\n(?s:.*)source address: .*\n`)
	nettest.Eventually(t, "the program is up", func() bool {
		m := announced.FindStringSubmatch(g.stderr())
		if m != nil {
			g.Addr, g.Admin = strings.Replace(m[1], "[::]", "127.0.0.1", 1), m[2]
		} else if g.ended() {
			t.Fatalf("it ended (%v):\n%s", g.cmd.ProcessState, g.stderr())
		}
		return m != nil
	})
	return g
}

// launch runs the program.
func launch(t testing.TB, s setup) *gateway {
	t.Helper()
	g := &gateway{t: t, ns: s.ns, dir: t.TempDir(), done: make(chan struct{})}
	bin := racy()
	if s.plain {
		var err error
		bin, err = plain()
		require.NoError(t, err)
	}
	args := []string{bin, "proxy"}
	if s.ns == nil {
		args = append(args, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	}
	if s.rules != "" {
		g.Rules = filepath.Join(g.dir, "rules")
		require.NoError(t, os.WriteFile(g.Rules, []byte(s.rules), 0o600))
		args = append(args, "--rules", g.Rules)
	}
	args = append(args, s.args...)
	if s.files > 0 {
		args = append([]string{"prlimit", fmt.Sprintf("--nofile=%d:%d", s.files, s.files)}, args...)
	}
	g.cmd = exec.Command(args[0], args[1:]...)
	g.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GOTRACEBACK=all", "GORACE=atexit_sleep_ms=0"}, s.env...)
	// Files, not pipes: nothing that the program writes is lost, however it ends.
	g.cmd.Stdout, g.cmd.Stderr = g.create("stdout"), g.create("stderr")
	if s.ns != nil {
		require.NoError(t, s.ns.Start(g.cmd))
	} else {
		require.NoError(t, g.cmd.Start())
	}
	go func() {
		_ = g.cmd.Wait() // the state is looked at later
		close(g.done)
	}()
	t.Cleanup(g.kill)
	return g
}

func (g *gateway) create(name string) *os.File {
	f, err := os.Create(filepath.Join(g.dir, name))
	require.NoError(g.t, err)
	g.t.Cleanup(func() { _ = f.Close() })
	return f
}

func (g *gateway) kill() {
	if !g.ended() {
		_ = g.cmd.Process.Kill()
		<-g.done
	}
	if log := g.stderr(); g.t.Failed() || strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
		g.t.Errorf("the program said:\n%s", log)
	}
}

func (g *gateway) ended() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// exit waits for the end of the process and returns its status.
func (g *gateway) exit() int {
	g.t.Helper()
	select {
	case <-g.done:
	case <-time.After(30 * time.Second):
		g.t.Fatalf("the program has not ended")
	}
	return g.cmd.ProcessState.ExitCode()
}

func (g *gateway) signal(s syscall.Signal) {
	g.t.Helper()
	require.NoError(g.t, g.cmd.Process.Signal(s))
}

func (g *gateway) stderr() string { return g.read("stderr") }
func (g *gateway) stdout() string { return g.read("stdout") }

func (g *gateway) read(name string) string {
	b, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		g.t.Errorf("read what the program wrote: %v", err)
	}
	return string(b)
}

// dial connects from where the program runs.
func (g *gateway) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if g.ns != nil {
		return g.ns.DialContext(ctx, network, addr)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// connect opens a bare connection to the proxy, closed when the test ends.
func (g *gateway) connect() net.Conn {
	g.t.Helper()
	c, err := g.dial(context.Background(), "tcp", g.Addr)
	require.NoError(g.t, err)
	g.t.Cleanup(func() { _ = c.Close() })
	require.NoError(g.t, c.SetDeadline(time.Now().Add(2*time.Minute)))
	return c
}

// client is an HTTP client that goes by the proxy, and keeps its connections.
func (g *gateway) client() *http.Client {
	tr := &http.Transport{
		DialContext: g.dial,
		Proxy:       http.ProxyURL(&url.URL{Scheme: "http", Host: g.Addr}),
	}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * time.Minute}
}

// admin asks the admin port for a path, on a connection of its own.
func (g *gateway) admin(path string) (status int, body string) {
	g.t.Helper()
	c := &http.Client{
		Transport: &http.Transport{DialContext: g.dial, DisableKeepAlives: true},
		Timeout:   30 * time.Second,
	}
	resp, err := c.Get("http://" + g.Admin + path)
	require.NoError(g.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(g.t, err)
	return resp.StatusCode, string(b)
}

// metric is the value of a metric, "" when there is none; name has the labels.
func (g *gateway) metric(name string) string {
	g.t.Helper()
	_, text := g.admin("/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// accessLog are the lines of the access log on standard output.
func (g *gateway) accessLog() []string {
	text := strings.TrimSpace(g.stdout())
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// output is what a command of a test's client gave.
type output struct {
	Out, Err string
	Status   int
	Took     time.Duration
}

// command runs a client with an environment of its own: PATH, an empty HOME, and
// env. It ends with the test, or after two minutes. A client that is not
// installed skips the test.
func command(t testing.TB, ns *nettest.Netns, env []string, name string, args ...string) output {
	t.Helper()
	need(t, name)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C"}, env...)
	cmd.WaitDelay = time.Second
	begun := time.Now()
	if ns != nil {
		require.NoError(t, ns.Start(cmd))
	} else {
		require.NoError(t, cmd.Start())
	}
	_ = cmd.Wait() // the status tells
	return output{out.String(), errs.String(), cmd.ProcessState.ExitCode(), time.Since(begun)}
}

// need skips the test when a program is not installed.
func need(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		nettest.Unavailable(t, name+" is not installed")
	}
}
