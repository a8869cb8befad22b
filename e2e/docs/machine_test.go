//go:build linux

package docs

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "sluice-docs-"); err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(scratch)
	os.Exit(status)
}

// checkout is a copy of the source, in which the programs are built.
var checkout = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "sluice")
	if err := program.Checkout(dir, 0o755, 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command("make", "build")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return dir, nil
})

// machine is a reader's: the source is checked out, the programs are built, and outside
// there are name servers and servers of example.com.
type machine struct {
	t      *testing.T
	dir    string
	o      *nettest.Topology
	resolv string
	env    []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := checkout()
	require.NoError(t, err)
	m := &machine{t: t, dir: dir, o: nettest.NewTopology(t), resolv: filepath.Join(t.TempDir(), "resolv.conf")}
	dns := m.o.DNS(t)
	names := []string{"www.example.com", "intranet.example.com", "example.com"}
	ca := nettest.NewCA(t)
	for _, name := range names {
		dns.Set(name, nettest.Addrs(nettest.ServerAV4))
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	plain := &http.Server{Handler: answer}
	secure := &http.Server{Handler: answer, TLSConfig: &tls.Config{Certificates: []tls.Certificate{ca.Issue(names...)}}}
	go plain.Serve(m.o.ServerA.Listen(nettest.ServerAV4 + ":80"))
	go secure.ServeTLS(m.o.ServerA.Listen(nettest.ServerAV4+":443"), "", "")
	t.Cleanup(func() { plain.Close(); secure.Close() })
	require.NoError(t, os.WriteFile(m.resolv, []byte("nameserver "+nettest.NodeV4+"\n"), 0o644))
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, ca.PEM, 0o644))
	m.env = []string{"CURL_CA_BUNDLE=" + roots, "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LC_ALL=C.UTF-8", "GOPROXY=off"}
	return m
}

// command is a script of the reader's, which sees the machine's own resolv.conf.
func (m *machine) command(script string) *exec.Cmd {
	cmd := exec.Command("unshare", "-m", "bash", "-c", `mount --bind "$0" /etc/resolv.conf && cd "$1" && exec bash -c "$2"`, m.resolv, m.dir, `
started() { until (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; do read -rt 0.1 <> <(:) || :; done; }
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
`+script)
	cmd.Env = m.env
	return cmd
}

// run runs a script and returns its output.
func (m *machine) run(script string) string {
	m.t.Helper()
	var out strings.Builder
	cmd := m.command(script)
	cmd.Stdout = &out
	require.NoError(m.t, m.o.Egress.Start(cmd))
	_ = cmd.Wait() // what it says is looked at
	return out.String()
}

// replay runs a console block, after a script that sets the stage.
func (m *machine) replay(b docs.Block, before string) {
	m.t.Helper()
	docs.Replay(m.t, b.Text, func(place, script string) string {
		m.t.Helper()
		require.Empty(m.t, place)
		return m.run(before + "\n" + script)
	})
}
