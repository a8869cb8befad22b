package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// process is "sluice proxy" or "sluice tcp" as a process of its own, whose standard
// streams are the test's to spoil.
type process struct {
	*program
	mode   string
	port   string // where it listens
	server string // the address of the server behind it
	env    []string
	files  []*os.File // that it has from 3 on
}

// modes are both front doors. Where they listen is settled beforehand: what they say on
// standard error need not be readable.
var modes = []string{"proxy", "tcp"}

// startDaemon starts a mode. stdout and stderr may be nil: files in its folder.
func startDaemon(t *testing.T, mode string, stdout, stderr *os.File, args ...string) *process {
	t.Helper()
	return startDaemonBy(t, nil, mode, stdout, stderr, args...)
}

// startDaemonBy has another program start it: wrapper, whose last arguments it is.
func startDaemonBy(t *testing.T, wrapper []string, mode string, stdout, stderr *os.File, args ...string) *process {
	t.Helper()
	d := newProcess(t, mode)
	d.start(wrapper, stdout, stderr, args...)
	nettest.Eventually(t, "it is ready", func() bool { return d.status("/readyz") == 200 })
	return d
}

// newProcess is a mode with its files, not started yet.
func newProcess(t *testing.T, mode string) *process {
	t.Helper()
	d := &process{program: &program{t: t, dir: t.TempDir(), done: make(chan struct{})}, mode: mode, port: freeAddr(t), server: httpServer(t)}
	d.admin = freeAddr(t)
	text := fmt.Sprintf("admin: %s\naccessLog: \"-\"\n", d.admin)
	if mode == "proxy" {
		require.NoError(t, os.WriteFile(d.rules(), []byte("127.0.0.0/8\n"), 0o600))
		text += fmt.Sprintf("listen: %s\nrulesFile: rules\n", d.port)
	} else {
		text += fmt.Sprintf("bind: 127.0.0.1\nguard: off\ndestinations: %s 127.0.0.1 %s\n", portOf(d.port), portOf(d.server))
	}
	require.NoError(t, os.WriteFile(d.file(), []byte(text), 0o600))
	return d
}

// start starts it by a wrapper, which may be nil, as may stdout and stderr.
func (d *process) start(wrapper []string, stdout, stderr *os.File, args ...string) {
	t := d.t
	t.Helper()
	d.done = make(chan struct{})
	if stdout == nil {
		stdout = d.create("stdout")
	}
	if stderr == nil {
		stderr = d.create("stderr")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	line := append(append(wrapper, self, d.mode, "--config", d.file()), args...)
	cmd, done := exec.Command(line[0], line[1:]...), d.done
	d.cmd = cmd
	d.cmd.Env = append(append(os.Environ(), asSluice+"=1"), d.env...)
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.ExtraFiles = stdout, stderr, d.files
	require.NoError(t, d.cmd.Start())
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
		if b, err := os.ReadFile(filepath.Join(d.dir, "stderr")); err == nil && t.Failed() {
			t.Logf("the program said:\n%s", b)
		}
	})
}

// send has it serve a request, or a connection: a line for its access log.
func (d *process) send() {
	d.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	at := d.port
	if d.mode == "proxy" {
		at = d.server
		tr.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: d.port})
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get("http://" + at + "/")
	require.NoError(d.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(d.t, err)
	require.Equal(d.t, "server", string(b))
}

// open opens a connection to the server that stays.
func (d *process) open() net.Conn {
	d.t.Helper()
	c, err := net.Dial("tcp", d.port)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { c.Close() })
	require.NoError(d.t, c.SetDeadline(time.Now().Add(time.Minute)))
	if d.mode == "proxy" {
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", d.server, d.server)
		hears(d.t, c, "HTTP/1.1 200 ")
	} else {
		io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
		hears(d.t, c, "HTTP/1.1 200 ")
	}
	return c
}

func (d *process) rules() string { return filepath.Join(d.dir, "rules") }

// status is the admin port's answer, 0 for none.
func (d *process) status(path string) int {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := c.Get("http://" + d.admin + path)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// signal sends it a signal.
func (d *process) signal(s syscall.Signal) { require.NoError(d.t, d.cmd.Process.Signal(s)) }

// exits waits for the end and wants a status.
func (d *process) exits(status int) {
	d.t.Helper()
	select {
	case <-d.done:
	case <-time.After(30 * time.Second):
		d.t.Fatal("it has not ended")
	}
	assert.Equal(d.t, status, d.cmd.ProcessState.ExitCode(), d.cmd.ProcessState)
}

// httpServer answers every request with "server".
func httpServer(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "server") })}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// freeAddr is an address of loopback that nobody listens at, of a port that the kernel gives to nobody meanwhile.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// stalled is the end for writing of a pipe that is full and that nobody reads.
func stalled(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	require.NoError(t, w.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
	_, err = w.Write(make([]byte, 1<<20))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	w.Fd() // blocking, as shells make it
	return w
}

const (
	logDropped      = "sluice_access_log_dropped_total"
	messagesDropped = "sluice_messages_dropped_total"
	reloaded        = `sluice_config_reloads_total{result="success"}`
)

// Whoever reads standard output and error may go away: lines are lost and counted, and
// service goes on.
func TestReaderOfLogsEnds(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			d := startDaemon(t, mode, w, w)
			w.Close()
			r.Close()
			d.send()
			nettest.Eventually(t, "a line is lost", func() bool { return d.metric(logDropped) == "1" })
			d.signal(syscall.SIGHUP)
			nettest.Eventually(t, "a message is lost", func() bool { return d.metric(messagesDropped) != "0" })
			d.send()
			nettest.Eventually(t, "another line is lost", func() bool { return d.metric(logDropped) == "2" })
			d.signal(syscall.SIGTERM)
			d.exits(0)
		})
	}
}

// Nor does it stand still when they are not read: it starts, reloads, drains and ends.
func TestLogsStall(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			w := stalled(t)
			d := startDaemon(t, mode, w, w)
			d.send()
			was := d.metric(reloaded)
			d.signal(syscall.SIGHUP)
			nettest.Eventually(t, "it is reloaded", func() bool { return d.metric(reloaded) != was })
			d.send()
			d.signal(syscall.SIGTERM)
			d.exits(0)
		})
		t.Run(mode+", a second signal", func(t *testing.T) {
			w := stalled(t)
			d := startDaemon(t, mode, w, w, "--drain-timeout=10m")
			d.open()
			d.signal(syscall.SIGTERM)
			nettest.Eventually(t, "it drains", func() bool { return d.status("/readyz") == 503 })
			begun := time.Now()
			d.signal(syscall.SIGTERM)
			d.exits(0)
			assert.Less(t, time.Since(begun), 5*time.Second)
		})
	}
}

// A FIFO that nobody opens is as good as any file.
func TestAccessLogIsFIFO(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "log")
			require.NoError(t, unix.Mkfifo(fifo, 0o600))
			d := startDaemon(t, mode, nil, nil, "--access-log", fifo)
			d.send()
			was := d.metric(reloaded)
			d.signal(syscall.SIGHUP)
			nettest.Eventually(t, "it is reloaded", func() bool { return d.metric(reloaded) != was })
			d.send()
			r, err := os.Open(fifo)
			require.NoError(t, err)
			b := make([]byte, 64<<10)
			got := ""
			for strings.Count(got, "\n") < 2 {
				n, err := r.Read(b)
				require.NoError(t, err)
				got += string(b[:n])
			}
			r.Close()
			d.send()
			d.signal(syscall.SIGTERM)
			d.exits(0)
		})
	}
}

func TestAccessLogOnFullDisk(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil, "--access-log", "/dev/full")
			d.send()
			d.send()
			nettest.Eventually(t, "both are counted", func() bool { return d.metric(logDropped) == "2" })
			d.signal(syscall.SIGTERM)
			d.exits(0)
			assert.Contains(t, d.read("stderr"), `"msg":"write the access log: write /dev/full: no space left on device: lines are lost"`)
		})
	}
}

// setting appends a line to its configuration file, and waits until that is in force.
func (d *process) setting(line string) {
	d.t.Helper()
	was := d.metric(reloaded)
	b, err := os.ReadFile(d.file())
	require.NoError(d.t, err)
	require.NoError(d.t, os.WriteFile(d.file(), append(b, line+"\n"...), 0o600))
	nettest.Eventually(d.t, line+" is in force", func() bool { return d.metric(reloaded) != was })
}

// Between the signal and the drain it is not ready, and serves who comes all the same.
func TestShutdownDelay(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil, "--shutdown-delay=2s")
			begun := time.Now()
			d.signal(syscall.SIGTERM)
			nettest.Eventually(t, "it is not ready", func() bool { return d.status("/readyz") == 503 })
			for time.Since(begun) < time.Second {
				d.send()
			}
			require.Equal(t, 503, d.status("/readyz"))
			d.exits(0)
			assert.GreaterOrEqual(t, time.Since(begun), 2*time.Second)
			assert.Contains(t, d.read("stderr"), `"msg":"draining","signal":"terminated"`)
		})
		t.Run(mode+", a second signal", func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil, "--shutdown-delay=10m", "--drain-timeout=10m")
			c := d.open()
			d.signal(syscall.SIGTERM)
			nettest.Eventually(t, "it is not ready", func() bool { return d.status("/readyz") == 503 })
			d.signal(syscall.SIGHUP) // is none
			d.send()
			d.signal(syscall.SIGINT)
			d.exits(0)
			_, err := io.Copy(io.Discard, c)
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		})
	}
}

// The times of the end are those in force at the end.
func TestEndGoesByReloadedSettings(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil)
			d.setting("drainTimeout: 100ms\nshutdownDelay: 300ms")
			d.open()
			begun := time.Now()
			d.signal(syscall.SIGTERM)
			d.exits(0)
			took := time.Since(begun)
			assert.GreaterOrEqual(t, took, 300*time.Millisecond)
			assert.Less(t, took, 20*time.Second, "the drain of 30 s that it started with")
			said := d.read("stderr")
			assert.Contains(t, said, `"msg":"draining","signal":"terminated","limit":"100ms"`)
			assert.NotContains(t, said, "only a restart")
		})
	}
}

// What a reload cannot put in force is said, as the user wrote it; the rest comes in force.
func TestSettingsThatNeedRestart(t *testing.T) {
	const said = `"level":"WARN","msg":"settings changed that only a restart puts in force","settings":`
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil)
			config := d.read("sluice.yaml")
			lines := strings.Count(config, "\n")
			d.setting("logLevel: warn\ndrainTimeout: 100ms\ndnsTimeout: 1s")
			want := fmt.Sprintf(`%s"dnsTimeout (%[2]s:%[3]d), logLevel (%[2]s:%[4]d)"}`, said, d.file(), lines+3, lines+1)
			nettest.Eventually(t, "it is said", func() bool { return strings.Contains(d.read("stderr"), want) })
			d.signal(syscall.SIGHUP)
			nettest.Eventually(t, "it is said again: it still does", func() bool { return strings.Count(d.read("stderr"), want) == 2 })
			// As it was at the start, there is nothing left that a restart would change.
			d.put(d.file(), text(config+"drainTimeout: 200ms\n"))
			nettest.Eventually(t, "it is back", func() bool { return strings.Count(d.read("stderr"), `"msg":"reloaded"`) == 3 })
			assert.Equal(t, 2, strings.Count(d.read("stderr"), said))
			d.open()
			d.signal(syscall.SIGTERM)
			d.exits(0)
			assert.Contains(t, d.read("stderr"), `"limit":"200ms"`)
		})
	}
}

// However many connect to the admin port, it answers, and clients are served.
func TestFloodOfAdminPort(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemonBy(t, []string{nettest.Need(t, "prlimit"), "--nofile=1024:1024"}, mode, nil, nil)
			for range 1200 {
				c, err := net.Dial("tcp", d.admin)
				require.NoError(t, err)
				defer c.Close()
			}
			begun := time.Now()
			require.Equal(t, 200, d.status("/healthz"))
			d.send()
			assert.Less(t, time.Since(begun), 5*time.Second)
			entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
			require.NoError(t, err)
			assert.Less(t, len(entries), 128)
		})
	}
}

// A service name is one of the admin port's if it was told so.
func TestAdminHost(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := startDaemon(t, mode, nil, nil, "--admin-host", "sluice-admin.egress.svc")
			for host, want := range map[string]int{"sluice-admin.egress.svc:9090": 200, "rebound.example.com": 421} {
				req, err := http.NewRequest("GET", "http://"+d.admin+"/healthz", nil)
				require.NoError(t, err)
				req.Host = host
				resp, err := http.DefaultTransport.RoundTrip(req)
				require.NoError(t, err)
				resp.Body.Close()
				assert.Equal(t, want, resp.StatusCode, host)
			}
		})
	}
}
