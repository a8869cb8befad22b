package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// asSluice makes the test's own binary the program.
const asSluice = "TEST_AS_SLUICE"

func TestMain(m *testing.M) {
	if os.Getenv(asSluice) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Environ(), streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
	}
	if kind := os.Getenv(asPeers); kind != "" {
		os.Exit(servePeers(kind))
	}
	os.Exit(m.Run())
}

// program is "sluice tcp" as a process of its own, on loopback.
type program struct {
	t     testing.TB
	cmd   *exec.Cmd
	dir   string
	ports []string // where it listens
	admin string
	done  chan struct{}
}

// tcpProgram starts "sluice tcp" with a file as its configuration, and a DNS
// server to ask. The guard is off, since names lead to loopback.
func tcpProgram(t testing.TB, bin string, dns *nettest.DNS, file string, args ...string) *program {
	t.Helper()
	p := &program{t: t, dir: t.TempDir(), done: make(chan struct{})}
	require.NoError(t, os.WriteFile(p.file(), []byte(file), 0o600))
	args = append([]string{"tcp", "--config", p.file(), "--admin=127.0.0.1:0", "--guard=off", "--access-log=-", "--resolver=" + dns.Addr().String()}, args...)
	p.cmd = exec.Command(bin, args...)
	p.cmd.Env = append(os.Environ(), asSluice+"=1")
	p.cmd.Stdout, p.cmd.Stderr = p.create("stdout"), p.create("stderr")
	require.NoError(t, p.cmd.Start())
	go func() { p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if out := p.read("stderr"); t.Failed() || strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
			t.Errorf("the program said:\n%s", out)
		}
	})
	nettest.Eventually(t, "the program is up", func() bool { return strings.Contains(p.read("stderr"), "source address: ") })
	said := p.read("stderr")
	p.admin = regexp.MustCompile(`admin on http://(\S+)/`).FindStringSubmatch(said)[1]
	for _, m := range regexp.MustCompile(`(?m)^  (\S+) > `).FindAllStringSubmatch(said, -1) {
		if len(p.ports) == 0 || p.ports[len(p.ports)-1] != m[1] {
			p.ports = append(p.ports, m[1])
		}
	}
	return p
}

func (p *program) file() string { return filepath.Join(p.dir, "sluice.yaml") }

func (p *program) create(name string) *os.File {
	f, err := os.Create(filepath.Join(p.dir, name))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { f.Close() })
	return f
}

func (p *program) read(name string) string {
	b, err := os.ReadFile(filepath.Join(p.dir, name))
	require.NoError(p.t, err)
	return string(b)
}

// ask asks the admin port.
func (p *program) ask(path string) (int, string) {
	p.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := c.Get("http://" + p.admin + path)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, string(b)
}

func (p *program) metric(name string) string {
	_, text := p.ask("/metrics")
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func (p *program) connect(i int) *net.TCPConn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.ports[i])
	require.NoError(p.t, err)
	p.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// refused is how a connection that is refused ends, at its beginning or soon.
func (p *program) refused(i int) error {
	c, err := net.Dial("tcp", p.ports[i])
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

func (p *program) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatal("the program has not ended")
	}
	return p.cmd.ProcessState.ExitCode()
}

// echoServer sends back what comes, with a word first.
func echoServer(t testing.TB, addr, word string) (at string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				io.WriteString(c, word)
				io.Copy(c, c)
				c.Close()
			})
		}
	})
	stop = func() { l.Close() }
	t.Cleanup(func() { stop(); open.Wait() })
	return l.Addr().String(), stop
}

func hears(t testing.TB, c net.Conn, word string) {
	t.Helper()
	b := make([]byte, len(word))
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, word, string(b))
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func TestTCPCheck(t *testing.T) {
	status, out, err := sluice(t, []string{"EGRESS_DNS_PROXY_DESTINATION=80 a.test\n81 192.0.2.1 8081", "EGRESS_SOURCE=127.0.0.1/8"}, "", "tcp", "--check")
	assert.Equal(t, 0, status, err)
	assert.Empty(t, out+err)
	status, out, err = sluice(t, []string{"EGRESS_DNS_PROXY_DESTINATION=80 a.test\n80 b.test\n0 c.test\nd.test", "EGRESS_SOURCE=x"}, "", "tcp", "--check", "--connect-timeout=never")
	assert.Equal(t, 2, status)
	assert.Empty(t, out)
	for _, want := range []string{
		"EGRESS_DNS_PROXY_DESTINATION:2: Proxy port 80 already used, must be unique for each destination\n",
		"EGRESS_DNS_PROXY_DESTINATION:3: Invalid port: 0, must be in the range 1 to 65535\n",
		"EGRESS_DNS_PROXY_DESTINATION:4: Bad destination 'd.test': ",
		"EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: ",
		"--connect-timeout: ",
	} {
		assert.Contains(t, err, want)
	}
	status, _, err = sluice(t, nil, "", "tcp")
	assert.Equal(t, 2, status)
	assert.Contains(t, err, "Must specify EGRESS_DNS_PROXY_DESTINATION")
	// The environment picks the command.
	status, _, err = sluice(t, []string{"EGRESS_DNS_PROXY_DESTINATION=x"}, "")
	assert.Equal(t, 2, status)
	assert.Contains(t, err, "Bad destination 'x'")
	status, _, err = sluice(t, []string{"SERVICE_DEST=a.test"}, "")
	assert.Equal(t, 2, status)
	assert.Contains(t, err, "SERVICE_TCP_PORT: is not set")
	_, out, err = sluice(t, nil, "", "tcp", "--help")
	assert.Contains(t, out+err, "Destinations:")
}

// The life of the program: not ready, ready, a reload that is refused, one that
// is taken, the end.
func TestTCPProgram(t *testing.T) {
	dns := nettest.NewDNS(t)
	a, _ := echoServer(t, "127.0.0.2:0", "")
	b, _ := echoServer(t, "127.0.0.1:0", "second:")
	config := func(to string) string {
		return "drainTimeout: 20s\ntcp:\n- listen: 127.0.0.1:0\n  name: orders\n  destinations: " + to + "\n"
	}
	p := tcpProgram(t, os.Args[0], dns, config("db.test:"+portOf(a)))
	status, _ := p.ask("/readyz")
	assert.Equal(t, 503, status)
	status, _ = p.ask("/healthz")
	assert.Equal(t, 200, status)
	nettest.Eventually(t, "the page says why", func() bool {
		_, page := p.ask("/")
		return strings.Contains(page, "no such name (NXDOMAIN)")
	})
	require.ErrorIs(t, p.refused(0), syscall.ECONNRESET)

	dns.Set("db.test", nettest.Addrs("127.0.0.2").TTL(1))
	nettest.Eventually(t, "it heals", func() bool { status, _ := p.ask("/readyz"); return status == 200 })
	c := p.connect(0)
	io.WriteString(c, "hello")
	hears(t, c, "hello")
	label := `{destination="db.test:` + portOf(a) + `",listener="127.0.0.1:0"`
	assert.Equal(t, "1", p.metric("sluice_tcp_sessions"+label+"}"))
	assert.Equal(t, "1", p.metric("sluice_tcp_addresses"+label+`,state="up"}`))

	require.NoError(t, os.WriteFile(p.file(), []byte(config("'*'")), 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	nettest.Eventually(t, "the reload is refused", func() bool { return p.metric("sluice_config_last_reload_successful") == "0" })
	assert.Contains(t, p.read("stderr"), "Bad destination '*'")
	io.WriteString(c, "still")
	hears(t, c, "still")

	// By the file alone; the socket stays, the open connection too.
	require.NoError(t, os.WriteFile(p.file(), []byte(config(b)), 0o600))
	nettest.Eventually(t, "the reload is in force", func() bool { return p.metric("sluice_config_last_reload_successful") == "1" })
	d := p.connect(0)
	hears(t, d, "second:")
	io.WriteString(c, "still")
	hears(t, c, "still")

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	nettest.Eventually(t, "it is not ready", func() bool { status, _ := p.ask("/readyz"); return status == 503 })
	io.WriteString(c, "draining")
	hears(t, c, "draining")
	c.CloseWrite()
	_, err := io.ReadAll(c)
	require.NoError(t, err)
	d.Close()
	assert.Zero(t, p.exit())
	log := p.read("stdout")
	assert.Contains(t, log, `"listener":"127.0.0.1:0","name":"orders"`)
	assert.Contains(t, log, `"refused":"no_address"`)
	assert.Contains(t, log, `"received":23,"sent":23,"end":"closed"`)
}

// What an operator types into a pod.
func TestTCPFromEnvironment(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	free := portOf(l.Addr().String())
	l.Close()
	b, _ := echoServer(t, "127.0.0.1:0", "here")
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{asSluice + "=1", "EGRESS_DNS_PROXY_DESTINATION=# the database\n" + free + " 127.0.0.1 " + portOf(b), "SLUICE_ADMIN=off", "SLUICE_BIND=127.0.0.1", "EGRESS_DNS_PROXY_DEBUG=1"}
	var out strings.Builder
	cmd.Stdout = &out
	require.NoError(t, cmd.Start())
	defer cmd.Process.Kill()
	var c net.Conn
	nettest.Eventually(t, "it listens", func() bool { c, err = net.Dial("tcp", "127.0.0.1:"+free); return err == nil })
	hears(t, c, "here")
	c.Close()
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())
	assert.Contains(t, out.String(), fmt.Sprintf(`"destination":"127.0.0.1:%s"`, portOf(b)))
}
