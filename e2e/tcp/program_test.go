//go:build linux

package tcp

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(asPeers); kind != "" {
		os.Exit(servePeers(kind))
	}
	os.Exit(program.Main(m))
}

// tcpProgram is a running "sluice tcp", on loopback.
type tcpProgram struct {
	*program.Program
	t testing.TB
}

// start runs "sluice tcp" with a file as its configuration, and a DNS server to ask.
func start(t testing.TB, dns *nettest.DNS, config string) *tcpProgram {
	t.Helper()
	return startBy(t, program.Setup{Config: config, Args: []string{"--access-log=-"}}, dns)
}

// startBy runs "sluice tcp" as s says. The guard is off, since names lead to loopback.
func startBy(t testing.TB, s program.Setup, dns *nettest.DNS) *tcpProgram {
	t.Helper()
	s.Command = "tcp"
	s.Args = append(s.Args, "--guard=off", "--resolver="+dns.Addr().String())
	return &tcpProgram{program.Start(t, s), t}
}

// connect opens a connection to a port of the program, closed when the test ends.
func (p *tcpProgram) connect(i int) *net.TCPConn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.Ports[i])
	require.NoError(p.t, err)
	p.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// refused is how a connection that is refused ends, at its beginning or soon.
func (p *tcpProgram) refused(i int) error {
	c, err := net.Dial("tcp", p.Ports[i])
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}
