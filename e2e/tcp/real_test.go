//go:build linux

package tcp

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// redis runs a real Redis server, in which the key whoami says who it is.
func redis(t testing.TB, ip, port, whoami string) (stop func()) {
	t.Helper()
	stop = program.Background(t, exec.Command(nettest.Need(t, "redis-server"), "--bind", ip, "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir()))
	nettest.Eventually(t, "Redis is up", func() bool {
		c, err := net.Dial("tcp", ip+":"+port)
		if err != nil {
			return false
		}
		defer c.Close()
		return tell(t, c, "SET whoami "+whoami) == "+OK"
	})
	return stop
}

// tell gives a command to Redis and returns its answer, of one value.
func tell(t testing.TB, c net.Conn, text string) string {
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
	out, _ := exec.Command(nettest.Need(t, "redis-cli"), "-h", host, "-p", port, "GET", "whoami").CombinedOutput()
	return strings.TrimSpace(string(out))
}

// Redis behind a name that moves while a client is connected, dies, and comes back.
func TestTCPRedis(t *testing.T) {
	port := program.FreePort(t)
	redis(t, "127.0.0.2", port, "one")
	stopTwo := redis(t, "127.0.0.3", port, "two")
	dns := nettest.NewDNS(t)
	dns.Set("redis.test", nettest.Addrs("127.0.0.2").TTL(1))
	p := start(t, dns, "tcp:\n- {listen: 127.0.0.1:0, destinations: 'redis.test:"+port+"'}\n")
	nettest.Eventually(t, "it answers", func() bool { return who(t, p.Ports[0]) == "one" })
	c := p.connect(0)
	require.Equal(t, "+OK", tell(t, c, "CLIENT SETNAME stays"))

	dns.Set("redis.test", nettest.Addrs("127.0.0.3").TTL(1))
	nettest.Eventually(t, "new clients reach the new server", func() bool { return who(t, p.Ports[0]) == "two" })
	require.Equal(t, "$3", tell(t, c, "GET whoami"))
	require.Equal(t, ":1", tell(t, c, "INCR counter"), "the old connection lives on, on the old server")
	assert.Equal(t, "1", p.Metric(`sluice_tcp_addresses{destination="redis.test:`+port+`",listener="127.0.0.1:0",state="draining"}`))

	dns.Set("redis.test", nettest.Addrs("127.0.0.2", "127.0.0.3").TTL(1))
	nettest.Eventually(t, "both are used", func() bool {
		return p.Metric(`sluice_tcp_addresses{destination="redis.test:`+port+`",listener="127.0.0.1:0",state="up"}`) == "2"
	})
	stopTwo()
	for range 6 {
		require.Equal(t, "one", who(t, p.Ports[0]), "no client notices that one has died")
	}
	redis(t, "127.0.0.3", port, "three")
	nettest.Eventually(t, "what came back is used again", func() bool { return who(t, p.Ports[0]) == "three" })
	require.Equal(t, ":2", tell(t, c, "INCR counter"))
}

// A real socat sends all it has, closes its sending half, and waits for what the
// other one makes of the whole.
func TestTCPSocatHalfClose(t *testing.T) {
	socat := nettest.Need(t, "socat")
	port := program.FreePort(t)
	program.Background(t, exec.Command(socat, "TCP-LISTEN:"+port+",bind=127.0.0.1,reuseaddr,fork", "SYSTEM:sha256sum"))
	p := start(t, nettest.NewDNS(t), "tcp:\n- {listen: 127.0.0.1:0, destinations: '127.0.0.1:"+port+"'}\n")
	data := make([]byte, 5<<20)
	rand.Read(data)
	want := fmt.Sprintf("%x  -\n", sha256.Sum256(data))
	nettest.Eventually(t, "it answers", func() bool {
		cmd := exec.Command(socat, "-t", "20", "-", "TCP:"+p.Ports[0])
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		return err == nil && string(out) == want
	})
}
