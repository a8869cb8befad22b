//go:build linux

package http

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// While clients wait for names that no server answers, the proxy accepts others and
// serves them, and so does the admin port, at the usual limit of 1,024 open files.
func TestSilentDNSHoldsNothingUp(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	g := start(t, program.Setup{Rules: "!denied.test\n*\n", Files: 1024,
		Args: []string{"--access-log=off", "--dns-timeout=1m", "--resolver=" + silent.LocalAddr().String()}})

	ask := func(target string) net.Conn {
		c, err := net.Dial("tcp", g.Addr)
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
		return c
	}
	for i := range 240 {
		ask(fmt.Sprintf("name%d.test:443", i))
	}
	files := func() int {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.PID()))
		require.NoError(t, err)
		return len(fds)
	}
	nettest.Eventually(t, "all are accepted", func() bool { return files() >= 240 })
	c := ask("denied.test:443")
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	answer := make([]byte, 256)
	n, err := c.Read(answer)
	require.NoError(t, err)
	require.Contains(t, string(answer[:n]), "403 Egress denied: line 1 !denied.test")
	require.Less(t, files(), 240+64+64, "one for each client, and few for DNS")

	for i := range 1760 { // beyond what there is room for
		ask(fmt.Sprintf("more%d.test:443", i))
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	for range 10 {
		resp, err := client.Get("http://" + g.Admin + "/healthz")
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Less(t, files(), 1000)
	}
}
