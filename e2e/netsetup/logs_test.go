//go:build linux

package netsetup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestMain(m *testing.M) { os.Exit(program.Main(m)) }

// In legacy mode it stays, follows its files and ends by SIGTERM whatever becomes of
// standard error: the reader goes away, or stalls. An empty file is
// another than none.
func TestStandardErrorFails(t *testing.T) {
	p := nettest.NewTopology(t)
	for name, spoil := range map[string]func(r, w *os.File){
		"gone": func(r, _ *os.File) { r.Close() },
		"stalled": func(_, w *os.File) {
			require.NoError(t, w.SetWriteDeadline(time.Now().Add(10*time.Millisecond)))
			_, err := w.Write(make([]byte, 1<<20))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			rules, prom := filepath.Join(dir, "rules"), filepath.Join(dir, "sluice.prom")
			require.NoError(t, os.WriteFile(rules, []byte("80 tcp "+nettest.ServerAV4), 0o600))
			r, w, err := os.Pipe()
			require.NoError(t, err)
			t.Cleanup(func() { r.Close(); w.Close() })
			spoil(r, w)
			cmd := exec.Command(program.Netsetup(t))
			cmd.Env = []string{"EGRESS_SOURCE=" + nettest.SourceV4 + "/24", "EGRESS_GATEWAY=198.51.100.1",
				"SLUICE_DESTINATIONS=" + rules, "SLUICE_METRICS_FILE=" + prom, "SLUICE_PROBE=false"}
			cmd.Stderr = w
			require.NoError(t, p.Egress.Start(cmd))
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			t.Cleanup(func() { cmd.Process.Kill() })
			until := func(part string) {
				t.Helper()
				nettest.Eventually(t, "the metrics say "+part, func() bool {
					text, _ := os.ReadFile(prom)
					return strings.Contains(string(text), part)
				})
			}
			until("successful 1\n")
			require.NoError(t, os.Remove(rules))
			until("successful 0\n")
			require.NoError(t, os.WriteFile(rules, nil, 0o600))
			until("successful 1\n")
			require.NoError(t, os.WriteFile(rules, []byte("81 tcp "+nettest.ServerAV4), 0o600))
			until(`rule="81 tcp 203.0.113.10"} 0`)
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			select {
			case err := <-done:
				assert.NoError(t, err)
			case <-time.After(20 * time.Second):
				t.Fatal("it has not ended")
			}
		})
	}
}
