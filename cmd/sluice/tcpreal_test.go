package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/proxytest"
)

// need skips the test when a program is not installed.
func need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		proxytest.Unavailable(t, name+" is not installed")
	}
	return path
}

// freePort is a port that is free on all of 127.0.0.0/8, as far as can be known.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp4", ":0")
	require.NoError(t, err)
	defer l.Close()
	return portOf(l.Addr().String())
}

// background runs a program until stop is called, or the test ends.
func background(t testing.TB, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	stop = func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group: it, and what it started
		<-done
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd, out.String())
		}
	})
	return stop
}

// redis runs a real Redis server, in which the key whoami says who it is.
func redis(t testing.TB, ip, port, whoami string) (stop func()) {
	t.Helper()
	stop = background(t, exec.Command(need(t, "redis-server"), "--bind", ip, "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir()))
	eventually(t, "Redis is up", func() bool {
		c, err := net.Dial("tcp", ip+":"+port)
		if err != nil {
			return false
		}
		defer c.Close()
		return command(t, c, "SET whoami "+whoami) == "+OK"
	})
	return stop
}

// command gives a command to Redis and returns its answer, of one value.
func command(t testing.TB, c net.Conn, text string) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, text+"\r\n")
	line, err := bufio.NewReaderSize(c, 16).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// who asks by redis-cli, a new connection each time.
func who(t testing.TB, addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	out, _ := exec.Command(need(t, "redis-cli"), "-h", host, "-p", port, "GET", "whoami").CombinedOutput()
	return strings.TrimSpace(string(out))
}

// Redis behind a name that moves while a client is connected, dies, and comes back.
func TestTCPRedis(t *testing.T) {
	port := freePort(t)
	redis(t, "127.0.0.2", port, "one")
	stopTwo := redis(t, "127.0.0.3", port, "two")
	dns := proxytest.NewDNS(t)
	dns.Set("redis.test", proxytest.Addrs("127.0.0.2").TTL(1))
	p := tcpProgram(t, os.Args[0], dns, "tcp:\n- {listen: 127.0.0.1:0, destinations: 'redis.test:"+port+"'}\n")
	eventually(t, "it answers", func() bool { return who(t, p.ports[0]) == "one" })
	c := p.connect(0)
	require.Equal(t, "+OK", command(t, c, "CLIENT SETNAME stays"))

	dns.Set("redis.test", proxytest.Addrs("127.0.0.3").TTL(1))
	eventually(t, "new clients reach the new server", func() bool { return who(t, p.ports[0]) == "two" })
	require.Equal(t, "$3", command(t, c, "GET whoami"))
	require.Equal(t, ":1", command(t, c, "INCR counter"), "the old connection lives on, on the old server")
	assert.Equal(t, "1", p.metric(`sluice_tcp_addresses{destination="redis.test:`+port+`",listener="127.0.0.1:0",state="draining"}`))

	dns.Set("redis.test", proxytest.Addrs("127.0.0.2", "127.0.0.3").TTL(1))
	eventually(t, "both are used", func() bool {
		return p.metric(`sluice_tcp_addresses{destination="redis.test:`+port+`",listener="127.0.0.1:0",state="up"}`) == "2"
	})
	stopTwo()
	for range 6 {
		require.Equal(t, "one", who(t, p.ports[0]), "no client notices that one has died")
	}
	redis(t, "127.0.0.3", port, "three")
	eventually(t, "what came back is used again", func() bool { return who(t, p.ports[0]) == "three" })
	require.Equal(t, ":2", command(t, c, "INCR counter"))
}

// A real socat sends all it has, closes its sending half, and waits for what the
// other one makes of the whole.
func TestTCPSocatHalfClose(t *testing.T) {
	socat := need(t, "socat")
	port := freePort(t)
	background(t, exec.Command(socat, "TCP-LISTEN:"+port+",bind=127.0.0.1,reuseaddr,fork", "SYSTEM:sha256sum"))
	p := tcpProgram(t, os.Args[0], proxytest.NewDNS(t), "tcp:\n- {listen: 127.0.0.1:0, destinations: '127.0.0.1:"+port+"'}\n")
	data := make([]byte, 5<<20)
	rand.Read(data)
	want := fmt.Sprintf("%x  -\n", sha256.Sum256(data))
	eventually(t, "it answers", func() bool {
		cmd := exec.Command(socat, "-t", "20", "-", "TCP:"+p.ports[0])
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		return err == nil && string(out) == want
	})
}

// 10,000 connections through the program as it ships: as many at once as its
// descriptors allow, the others one after the other.
func TestTCPManyConnections(t *testing.T) {
	const total = 10000
	var lim unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	atOnce := min(9000, int(lim.Cur)/2-500) // the program and the test need two each
	bin := filepath.Join(t.TempDir(), "sluice")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	p := tcpProgram(t, bin, proxytest.NewDNS(t), "tcp:\n- {listen: 127.0.0.1:0, destinations: '"+l.Addr().String()+"'}\n", "--access-log=off")
	// pair opens a connection through the program and returns both ends.
	pair := func(i int) (near, far net.Conn) {
		near, err := net.Dial("tcp", p.ports[0])
		require.NoError(t, err)
		fmt.Fprintf(near, "%08d", i)
		far, err = l.Accept()
		require.NoError(t, err)
		hears(t, far, fmt.Sprintf("%08d", i))
		return near, far
	}
	rss := func() string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(string(b))
		return m[1] + " KiB"
	}
	before, begin := rss(), time.Now()
	near, far := make([]net.Conn, atOnce), make([]net.Conn, atOnce)
	for i := range atOnce {
		near[i], far[i] = pair(i)
	}
	took := time.Since(begin)
	label := fmt.Sprintf(`{destination="%s",listener="127.0.0.1:0"}`, l.Addr())
	assert.Equal(t, fmt.Sprint(atOnce), p.metric("sluice_tcp_sessions"+label))
	status, _ := p.ask("/readyz")
	assert.Equal(t, 200, status)
	full := rss()
	for i := range atOnce { // all of them carry bytes, both ways
		fmt.Fprintf(far[i], "%08d", i)
	}
	for i := range atOnce {
		hears(t, near[i], fmt.Sprintf("%08d", i))
	}
	for i := range atOnce {
		near[i].Close()
		far[i].Close()
	}
	eventually(t, "all are gone", func() bool { return p.metric("sluice_tcp_sessions"+label) == "0" })
	for i := atOnce; i < total; i++ {
		n, f := pair(i)
		n.Close()
		f.Close()
	}
	eventually(t, "all are counted", func() bool {
		return p.metric("sluice_tcp_sessions_total"+label) == fmt.Sprint(total) && p.metric("sluice_tcp_sessions"+label) == "0"
	})
	assert.Equal(t, fmt.Sprint(8*total), p.metric("sluice_tcp_received_bytes_total"+label))
	t.Logf("%d connections at once (%s), %d in all; resident: %s before, %s with all open", atOnce, took.Round(time.Millisecond), total, before, full)
}
