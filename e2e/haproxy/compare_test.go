//go:build linux

package haproxy

import (
	"flag"
	"fmt"
	"io"
	"net"
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

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestMain(m *testing.M) { os.Exit(program.Main(m)) }

var update = flag.Bool("update", false, "run haproxy too, and write the table into docs/tcp.md")

// TestCompare puts "sluice tcp" and, with -update, a real haproxy that is
// set up as the original script does it, before the same faults, and writes what
// clients saw into docs/tcp.md. Without -update it runs Sluice alone and wants of
// it what the table says.
func TestCompare(t *testing.T) {
	doc := filepath.Join("..", "..", "docs", "tcp.md")
	b, err := os.ReadFile(doc)
	require.NoError(t, err)
	const from, to = "<!-- compare: go test ./e2e/haproxy -update -->\n", "<!-- /compare -->"
	before, rest, ok := strings.Cut(string(b), from)
	require.True(t, ok, "docs/tcp.md has lost its marker")
	table, after, ok := strings.Cut(rest, to)
	require.True(t, ok, "docs/tcp.md has lost its marker")

	var rows strings.Builder
	rows.WriteString("| fault | haproxy 2.6, set up by the original script | sluice tcp |\n| --- | --- | --- |\n")
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			if f.slow && !*update {
				assert.Contains(t, table, "| "+f.name+" | ")
				return // the same by a clock that jumps: proxy/tcp's TestIdleHour
			}
			var theirs, ours string
			var both sync.WaitGroup
			if *update {
				both.Go(func() { theirs = f.run(newStage(t, true)) })
				if !f.slow {
					both.Wait() // so that neither disturbs the other's times
				}
			}
			both.Go(func() { ours = f.run(newStage(t, false)) })
			both.Wait()
			assert.Regexp(t, f.want, ours)
			if *update {
				fmt.Fprintf(&rows, "| %s | %s | %s |\n", f.name, theirs, ours)
			} else {
				assert.Contains(t, table, "| "+f.name+" | ")
			}
		})
	}
	if *update && !t.Failed() {
		require.NoError(t, os.WriteFile(doc, []byte(before+from+rows.String()+to+after), 0o644))
	}
}

// faults are what is done to destinations, and what Sluice's clients must see.
var faults = []struct {
	name string
	slow bool
	want string
	run  func(s *stage) string
}{
	{"the name does not resolve at the start, and does later", false, `^a reset at once; served .* after the name is there$`, func(s *stage) string {
		if !s.start() {
			return "it does not start: exit status 1, and so on at each restart; clients are refused"
		}
		first := s.visit()
		s.server("127.0.0.2")
		s.dns.Set("db.test", nettest.Addrs("127.0.0.2").TTL(1))
		return first.String() + "; served " + s.until("127.0.0.2") + " after the name is there"
	}},
	{"the destination is down at the start, and comes up", false, `^a reset at once; served .* after it is up$`, func(s *stage) string {
		s.names("127.0.0.2")
		s.start()
		first := s.visit()
		s.server("127.0.0.2")
		return first.String() + "; served " + s.until("127.0.0.2") + " after it is up"
	}},
	{"the destination dies, and comes back", false, `^a reset at once; served .* after it is back$`, func(s *stage) string {
		stop := s.server("127.0.0.2")
		s.names("127.0.0.2")
		s.start()
		s.until("127.0.0.2")
		stop()
		first := s.visit()
		s.server("127.0.0.2")
		return first.String() + "; served " + s.until("127.0.0.2") + " after it is back"
	}},
	{"the address moves, the old server goes on", false, `^new clients at the new server .* later; an open connection lives on$`, func(s *stage) string {
		s.server("127.0.0.2")
		s.server("127.0.0.3")
		s.names("127.0.0.2")
		s.start()
		s.until("127.0.0.2")
		c, err := net.Dial("tcp", s.addr)
		require.NoError(s.t, err)
		defer c.Close()
		program.Hears(s.t, c, "127.0.0.2")
		s.dns.Set("db.test", nettest.Addrs("127.0.0.3").TTL(1))
		took := s.until("127.0.0.3")
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return "new clients at the new server " + took + " later; an open connection ends"
		}
		return "new clients at the new server " + took + " later; an open connection lives on"
	}},
	{"the address moves, the old server is dead", false, `^served by the new server .* later; `, func(s *stage) string {
		stop := s.server("127.0.0.2")
		s.server("127.0.0.3")
		s.names("127.0.0.2")
		s.start()
		s.until("127.0.0.2")
		stop()
		s.dns.Set("db.test", nettest.Addrs("127.0.0.3").TTL(1))
		first := s.visit()
		return "served by the new server " + s.until("127.0.0.3") + " later; until then: " + first.String()
	}},
	{"one of three addresses is dead: 12 clients in a row", false, `^all served, the slowest in less than 0.1 s$`, func(s *stage) string {
		s.server("127.0.0.2")
		stop := s.server("127.0.0.3")
		s.server("127.0.0.4")
		s.names("127.0.0.2", "127.0.0.3", "127.0.0.4")
		s.start()
		for _, ip := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
			s.until(ip)
		}
		stop()
		served, slowest := 0, visit{}
		for range 12 {
			v := s.visit()
			if v.word != "" {
				served++
			}
			if v.took > slowest.took {
				slowest = v
			}
		}
		if served == 12 {
			return "all served, the slowest in " + about(slowest.took)
		}
		return fmt.Sprintf("%d of 12 served, the slowest answer in %s", served, about(slowest.took))
	}},
	{"a connection is idle for 65 s", true, `^it lives on$`, func(s *stage) string {
		s.server("127.0.0.2")
		s.names("127.0.0.2")
		s.start()
		s.until("127.0.0.2")
		c, err := net.Dial("tcp", s.addr)
		require.NoError(s.t, err)
		defer c.Close()
		program.Hears(s.t, c, "127.0.0.2")
		begin := time.Now()
		c.SetDeadline(begin.Add(65 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == io.EOF {
			return "it is closed after " + about(time.Since(begin))
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return "it is dead"
		}
		return "it lives on"
	}},
}

// stage is one of the two programs, with servers behind it.
type stage struct {
	t       *testing.T
	haproxy bool
	dns     *nettest.DNS
	port    string   // of the servers
	known   []string // what the name resolves to at the start
	addr    string   // where clients connect
}

func newStage(t *testing.T, haproxy bool) *stage {
	return &stage{t: t, haproxy: haproxy, dns: nettest.NewDNS(t), port: program.FreePort(t)}
}

// server answers with its address, then echoes.
func (s *stage) server(ip string) (stop func()) {
	l, err := net.Listen("tcp", ip+":"+s.port)
	require.NoError(s.t, err)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				io.WriteString(c, ip)
				io.Copy(c, c)
				c.Close()
			})
		}
	})
	stop = func() { l.Close() }
	s.t.Cleanup(stop)
	return stop
}

func (s *stage) names(ips ...string) {
	s.known = ips
	s.dns.Set("db.test", nettest.Addrs(ips...).TTL(1))
}

// start runs the program, and reports whether it stays.
func (s *stage) start() bool {
	if s.haproxy {
		return s.startHAProxy()
	}
	p := program.Start(s.t, program.Setup{Command: "tcp", Config: "tcp:\n- {listen: 127.0.0.1:0, destinations: 'db.test:" + s.port + "'}\n",
		Args: []string{"--guard=off", "--resolver=" + s.dns.Addr().String()}})
	s.addr = p.Ports[0]
	return true
}

// haproxyConfig is what egress-dns-proxy.sh writes, but for the place of files and
// the address to bind.
const haproxyConfig = `global
    maxconn 4000

defaults
    mode tcp
    option dontlognull
    option redispatch
    retries 3
    timeout http-request 100s
    timeout queue 1m
    timeout connect 10s
    timeout client 1m
    timeout server 1m
    timeout http-keep-alive 100s
    timeout check 10s

resolvers dns-resolver
    nameserver ns1 %s
    resolve_retries 3
    timeout retry 1s
    hold valid 10s

frontend fe1
    bind %s
    default_backend be1

backend be1
    %s db.test:%s check resolvers dns-resolver resolve-prefer ipv4
`

// startHAProxy runs haproxy in a mount namespace where the hosts file says what
// DNS says at the start: it asks libc then.
func (s *stage) startHAProxy() bool {
	nettest.Need(s.t, "haproxy")
	dir := s.t.TempDir()
	s.addr = "127.0.0.1:" + program.FreePort(s.t)
	kind := "server dest1"
	if len(s.known) > 1 {
		kind = fmt.Sprintf("server-template dest %d", len(s.known))
	}
	text := fmt.Sprintf(haproxyConfig, s.dns.Addr(), s.addr, kind, s.port)
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(text), 0o600))
	hosts := "127.0.0.1 localhost\n"
	for _, ip := range s.known {
		hosts += ip + " db.test\n"
	}
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, "hosts"), []byte(hosts), 0o644))
	cmd := exec.Command("unshare", "-m", "sh", "-c", "mount --bind "+dir+"/hosts /etc/hosts && exec haproxy -db -f "+dir+"/haproxy.cfg")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(s.t, cmd.Start())
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	s.t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); <-done })
	up := false
	nettest.Eventually(s.t, "haproxy is up, or has ended", func() bool {
		select {
		case <-done:
			return true
		default:
		}
		c, err := net.Dial("tcp", s.addr)
		if up = err == nil; up {
			c.Close()
		}
		return up
	})
	return up
}

// visit is what a client saw: the word of a server, or how it ended.
type visit struct {
	word string
	err  error
	took time.Duration
}

func (s *stage) visit() visit {
	begin := time.Now()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		return visit{err: err, took: time.Since(begin)}
	}
	defer c.Close()
	c.SetDeadline(begin.Add(40 * time.Second))
	b := make([]byte, len("127.0.0.2"))
	n, err := io.ReadFull(c, b)
	return visit{string(b[:n]), err, time.Since(begin)}
}

func (v visit) String() string {
	when := " after " + about(v.took)
	if v.took < 100*time.Millisecond {
		when = " at once"
	}
	switch {
	case v.err == nil:
		return "served" + when
	case regexp.MustCompile("reset").MatchString(v.err.Error()):
		return "a reset" + when
	case v.err == io.EOF:
		return "accepted, then closed without a byte" + when
	}
	return "an error" + when
}

// until visits until ip answers, and returns how long that took.
func (s *stage) until(ip string) string {
	begin := time.Now()
	nettest.Eventually(s.t, ip+" answers", func() bool { return s.visit().word == ip })
	return about(time.Since(begin))
}

// about is a duration as a table shows it.
func about(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return "less than 0.1 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
