//go:build linux

package tcp

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The life of the program: not ready, ready, a reload that is refused, one that
// is taken, the end.
func TestTCPProgram(t *testing.T) {
	dns := nettest.NewDNS(t)
	a, _ := program.EchoServer(t, "127.0.0.2:0", "")
	b, _ := program.EchoServer(t, "127.0.0.1:0", "second:")
	config := func(to string) string {
		return "drainTimeout: 20s\ntcp:\n- listen: 127.0.0.1:0\n  name: orders\n  destinations: " + to + "\n"
	}
	p := start(t, dns, config("db.test:"+program.PortOf(t, a)))
	status, _ := p.Ask("/readyz")
	assert.Equal(t, 503, status)
	status, _ = p.Ask("/healthz")
	assert.Equal(t, 200, status)
	nettest.Eventually(t, "the page says why", func() bool {
		_, page := p.Ask("/")
		return strings.Contains(page, "no such name (NXDOMAIN)")
	})
	require.ErrorIs(t, p.refused(0), syscall.ECONNRESET)

	dns.Set("db.test", nettest.Addrs("127.0.0.2").TTL(1))
	nettest.Eventually(t, "it heals", func() bool { status, _ := p.Ask("/readyz"); return status == 200 })
	c := p.connect(0)
	io.WriteString(c, "hello")
	program.Hears(t, c, "hello")
	label := `{destination="db.test:` + program.PortOf(t, a) + `",listener="127.0.0.1:0"`
	assert.Equal(t, "1", p.Metric("sluice_tcp_sessions"+label+"}"))
	assert.Equal(t, "1", p.Metric("sluice_tcp_addresses"+label+`,state="up"}`))

	require.NoError(t, os.WriteFile(p.File, []byte(config("'*'")), 0o600))
	p.Signal(syscall.SIGHUP)
	nettest.Eventually(t, "the reload is refused", func() bool { return p.Metric("sluice_config_last_reload_successful") == "0" })
	assert.Contains(t, p.Stderr(), "Bad destination '*'")
	io.WriteString(c, "still")
	program.Hears(t, c, "still")

	// By the file alone; the socket stays, the open connection too.
	require.NoError(t, os.WriteFile(p.File, []byte(config(b)), 0o600))
	nettest.Eventually(t, "the reload is in force", func() bool { return p.Metric("sluice_config_last_reload_successful") == "1" })
	d := p.connect(0)
	program.Hears(t, d, "second:")
	io.WriteString(c, "still")
	program.Hears(t, c, "still")

	p.Signal(syscall.SIGTERM)
	nettest.Eventually(t, "it is not ready", func() bool { status, _ := p.Ask("/readyz"); return status == 503 })
	io.WriteString(c, "draining")
	program.Hears(t, c, "draining")
	c.CloseWrite()
	_, err := io.ReadAll(c)
	require.NoError(t, err)
	d.Close()
	assert.Zero(t, p.Exit())
	log := p.Stdout()
	assert.Contains(t, log, `"listener":"127.0.0.1:0","name":"orders"`)
	assert.Contains(t, log, `"refused":"no_address"`)
	assert.Contains(t, log, `"received":23,"sent":23,"end":"closed"`)
}

// What an operator types into a pod.
func TestTCPFromEnvironment(t *testing.T) {
	free := program.FreePort(t)
	b, _ := program.EchoServer(t, "127.0.0.1:0", "here")
	p := program.Launch(t, program.Setup{Bare: true, Env: []string{"EGRESS_DNS_PROXY_DESTINATION=# the database\n" + free + " 127.0.0.1 " + program.PortOf(t, b),
		"SLUICE_ADMIN=off", "SLUICE_BIND=127.0.0.1", "EGRESS_DNS_PROXY_DEBUG=1"}})
	var c net.Conn
	nettest.Eventually(t, "it listens", func() (ok bool) {
		var err error
		c, err = net.Dial("tcp", "127.0.0.1:"+free)
		return err == nil
	})
	program.Hears(t, c, "here")
	c.Close()
	p.Signal(syscall.SIGTERM)
	assert.Zero(t, p.Exit())
	assert.Contains(t, p.Stdout(), fmt.Sprintf(`"destination":"127.0.0.1:%s"`, program.PortOf(t, b)))
}
