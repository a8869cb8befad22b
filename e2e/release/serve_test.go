//go:build linux

package release

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// hello is a server on loopback; ns may be nil.
func hello(t *testing.T, ns *nettest.Netns) (addr string) {
	t.Helper()
	var l net.Listener
	if ns != nil {
		l = ns.Listen("127.0.0.1:0")
	} else {
		var err error
		l, err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// serves starts sluice, the last of line, and has curl reach what its rules allow, in plain
// and in a tunnel, and nothing else.
func serves(t *testing.T, ns *nettest.Netns, line []string) {
	t.Helper()
	dir := t.TempDir()
	rules, said := filepath.Join(dir, "rules"), filepath.Join(dir, "said")
	require.NoError(t, os.WriteFile(rules, []byte("127.0.0.1\n"), 0o644))
	f, err := os.Create(said)
	require.NoError(t, err)
	defer f.Close()
	cmd := exec.Command(line[0], append(line[1:], "proxy", "--listen", "127.0.0.1:0", "--admin", "off", "--rules", rules)...)
	cmd.Stderr = f
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	text := func() string { b, _ := os.ReadFile(said); return string(b) }
	nettest.Eventually(t, "it runs", func() bool { return strings.Contains(text(), "\nsource address: ") })
	_, at, _ := strings.Cut(text(), "listens on ")
	at, _, _ = strings.Cut(at, "\n")
	reaches(t, ns, at, hello(t, ns))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), text())
}

// reaches has curl use the proxy at an address, by rules that allow 127.0.0.1 and nothing else.
func reaches(t *testing.T, ns *nettest.Netns, proxy, server string) {
	t.Helper()
	curl := func(args ...string) program.Output {
		return program.Command(t, ns, nil, "curl", append([]string{"-sS", "--noproxy", "", "-x", "http://" + proxy}, args...)...)
	}
	assert.Equal(t, "hello\n", curl("http://"+server+"/").Out)
	assert.Equal(t, "hello\n", curl("-p", "http://"+server+"/").Out)
	assert.Contains(t, curl("http://192.0.2.1/").Out, "sluice: 403 Egress denied")
	assert.Contains(t, curl("https://192.0.2.1/").Err, "response 403")
}
