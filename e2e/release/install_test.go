//go:build linux

package release

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
)

// docs/install.md, as it stands there, with the release's files.
func TestInstallPage(t *testing.T) {
	dir := t.TempDir()
	deb := "sluice_" + number + "-1_" + runtime.GOARCH + ".deb"
	for _, name := range []string{"SHA256SUMS", deb, "sluice_" + number + "_linux_" + runtime.GOARCH + ".tar.gz"} {
		require.NoError(t, os.Symlink(filepath.Join(release(t), name), filepath.Join(dir, name)))
	}
	d := newDebian(t)
	d.bring(filepath.Join(dir, deb))
	ran := 0
	for _, b := range docs.All(t, filepath.Join("..", ".."), "docs/install.md") {
		if b.Language != "console" || strings.Contains(b.Text, "systemd-socket-activate") {
			continue // that one is run in e2e/docs
		}
		ran++
		docs.Replay(t, strings.ReplaceAll(b.Text, "amd64", runtime.GOARCH), func(place, script string) string {
			if place == "root" {
				return d.run("bash", "-c", script)
			}
			return program.Command(t, nil, nil, "bash", "-c", "cd "+dir+"\n"+script).Out
		})
	}
	require.Equal(t, 3, ran)
}
