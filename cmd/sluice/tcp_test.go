package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asSluice makes the test's own binary the program.
const asSluice = "TEST_AS_SLUICE"

func TestMain(m *testing.M) {
	if os.Getenv(asSluice) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Environ(), ofProcess()))
	}
	os.Exit(m.Run())
}

// program is sluice as a process of its own, on loopback.
type program struct {
	t     testing.TB
	cmd   *exec.Cmd
	dir   string
	admin string
	done  chan struct{}
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
