package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// While clients wait for names that no server answers, the proxy accepts others and
// serves them, and so does the admin port, at the usual limit of 1,024 open files.
func TestSilentDNSHoldsNothingUp(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	itself, err := os.Executable()
	require.NoError(t, err)
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules")
	require.NoError(t, os.WriteFile(rules, []byte("!denied.test\n*\n"), 0o600))
	said, err := os.Create(filepath.Join(dir, "stderr"))
	require.NoError(t, err)
	t.Cleanup(func() { said.Close() })
	cmd := exec.Command("sh", "-c", `ulimit -n 1024 && exec "$0" "$@"`, itself, "proxy", "--rules="+rules, "--listen=127.0.0.1:0",
		"--admin=127.0.0.1:0", "--access-log=off", "--dns-timeout=1m", "--resolver="+silent.LocalAddr().String())
	cmd.Env = append(os.Environ(), asSluice+"=1")
	cmd.Stderr = said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var at []string // proxy, admin
	nettest.Eventually(t, "the program is up", func() bool {
		text, err := os.ReadFile(said.Name())
		require.NoError(t, err)
		at = regexp.MustCompile(`listens on (\S+), admin on http://(\S+)/`).FindStringSubmatch(string(text))
		return at != nil && strings.Contains(string(text), "source address: ")
	})

	ask := func(target string) net.Conn {
		c, err := net.Dial("tcp", at[1])
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
		return c
	}
	for i := range 240 {
		ask(fmt.Sprintf("name%d.test:443", i))
	}
	files := func() int {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid))
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
		resp, err := client.Get("http://" + at[2] + "/healthz")
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Less(t, files(), 1000)
	}
}
