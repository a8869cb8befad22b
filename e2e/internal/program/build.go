//go:build linux

package program

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// module is where the programs are, for a test beneath e2e.
const module = "github.com/sluiceproxy/sluice/cmd/"

// binaries is the folder of the programs that the tests build.
var binaries string

// Main is what TestMain of a package that uses the programs calls: it runs the tests
// and returns the status to exit with.
func Main(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "sluice-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	if err := loopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// lookAtSources asks for the state of all files that the programs are built from. So go
// test knows that its results are of these, and takes none of others from its cache. It is to be called while tests run: before,
// nobody takes note.
func lookAtSources() error {
	root := filepath.Join("..", "..")
	for _, dir := range []string{"acl", "cmd", "internal", "metrics", "netsetup", "proxy", "go.mod"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// loopbackUp sets the loopback interface up where it is down: in the namespace
// that "unshare -Urn" has just made.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil || lo.Attrs().Flags&net.FlagUp != 0 {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("the loopback interface is down: %w", err)
	}
	return nil
}

// build makes a program under a name in binaries, once, and returns its path.
func build(name, command string, flags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		if err := lookAtSources(); err != nil {
			return "", err
		}
		path := filepath.Join(binaries, name)
		cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), module+command)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
		return path, nil
	})
}

// Patch is a change of a source file.
type Patch struct {
	File     string // from the top of the module
	Old, New string // Old is there once
}

// Patched is the path of a program that is built from sources with patches, which are not
// touched: one with a flaw, for a test that must find it.
func Patched(t testing.TB, command string, patches ...Patch) string {
	t.Helper()
	require.NoError(t, lookAtSources())
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	dir, texts := t.TempDir(), map[string]string{}
	for _, p := range patches {
		file := filepath.Join(root, p.File)
		if texts[file] == "" {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			texts[file] = string(text)
		}
		require.Equal(t, 1, strings.Count(texts[file], p.Old), "%q in %s", p.Old, p.File)
		texts[file] = strings.Replace(texts[file], p.Old, p.New, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		replace[file] = filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		require.NoError(t, os.WriteFile(replace[file], []byte(text), 0o600))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	path := filepath.Join(dir, command)
	out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, module+command).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

var (
	racy     = build("sluice-race", "sluice", "-race")
	plain    = build("sluice", "sluice")
	netsetup = build("sluice-netsetup", "sluice-netsetup")
	kube     = build("sluice-kube", "sluice-kube")
)

// Racy is the path of sluice with the race detector in it, as every test but those that
// look at its memory runs it.
func Racy(t testing.TB) string { return path(t, racy) }

// Netsetup is the path of sluice-netsetup as it ships.
func Netsetup(t testing.TB) string { return path(t, netsetup) }

// Kube is the path of sluice-kube as it ships.
func Kube(t testing.TB) string { return path(t, kube) }

func path(t testing.TB, build func() (string, error)) string {
	t.Helper()
	p, err := build()
	require.NoError(t, err)
	return p
}
