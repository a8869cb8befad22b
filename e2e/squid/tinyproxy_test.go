//go:build linux

package squid

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl/convert"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const tinyproxyData = "../../acl/convert/testdata/others"

// TestConvertedDecidesAsTinyproxyDoes asks the real tinyproxy and the list that "sluice convert
// tinyproxy" makes the same questions, as the test with squid does.
func TestConvertedDecidesAsTinyproxyDoes(t *testing.T) {
	nettest.Need(t, "tinyproxy")
	n := newNetwork(t)
	for name, addr := range convertNames {
		n.dns.Set(name, nettest.Addrs(addr))
	}
	for i, tt := range []struct {
		conf, ports string
		alike       bool
	}{
		{"tinyproxy.conf", "", false},
		{"tinyproxy.conf", "443,563", true},
		{"tinyproxy-deny.conf", "", true},
	} {
		r := rand.New(rand.NewPCG(uint64(setting(t, "SLUICE_SQUID_SEED", defaultSeed)), uint64(100+i))) //nolint:gosec // for repetition
		var questions []convertQuestion
		for range 150 {
			q := newConvertQuestion(r)
			if q.client.IsLoopback() || r.IntN(2) == 0 {
				q.client = parseAddrs("10.3.0.1", "10.3.0.7", "10.4.0.1")[r.IntN(3)]
			}
			if tt.ports != "" {
				q.connect = slices.Contains([]int{443, 563}, q.port)
			}
			questions = append(questions, q)
		}
		t.Run(tt.conf+" "+tt.ports, func(t *testing.T) {
			read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(tinyproxyData, path)) }
			said, err := convert.Tinyproxy{Files: convert.Files{Read: read}, ConnectPorts: tt.ports}.Convert(tt.conf)
			require.NoError(t, err)
			for k, allowed := range askTinyproxy(t, n, tt.conf, questions) {
				got := convertedAllows(t, said, questions[k])
				assert.False(t, got && !allowed, "it opens %+v", questions[k])
				if tt.alike || closes(said) == nil {
					assert.Equal(t, allowed, got, "%+v", questions[k])
				}
			}
		})
	}
}

// askTinyproxy runs tinyproxy with a configuration of the test data and returns whether it
// allowed each.
func askTinyproxy(t *testing.T, n *network, conf string, questions []convertQuestion) []bool {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(tinyproxyData)))
	text, err := os.ReadFile(filepath.Join(dir, conf))
	require.NoError(t, err)
	lines := []string{fmt.Sprintf("Port %d", convertPort), `LogFile "` + filepath.Join(dir, "log") + `"`}
	for line := range strings.SplitSeq(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "Port "), strings.HasPrefix(line, "User "):
		case strings.HasPrefix(line, "Filter \""):
			lines = append(lines, strings.Replace(line, `"`, `"`+dir+"/", 1))
		default:
			lines = append(lines, line)
		}
	}
	run := filepath.Join(dir, "run.conf")
	require.NoError(t, os.WriteFile(run, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	s := &squid{cmd: exec.Command("tinyproxy", "-d", "-c", run), done: make(chan struct{})}
	s.cmd.Stdout = new(bytes.Buffer)
	s.cmd.Stderr = &s.stderr
	require.NoError(t, n.start(s.cmd))
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait()
	}()
	defer s.stop()
	s.awaitPort(t, n, convertPort)
	return n.askEach(t, questions, func(resp *http.Response) bool { return resp.StatusCode != http.StatusForbidden })
}
