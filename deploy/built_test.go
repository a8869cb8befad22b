package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// scratch is a folder for what is built once for all tests. TestMain removes it.
var scratch = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "sluice-deploy-")
	if err != nil {
		panic(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	return dir
})

// once makes a file or folder by a command, which is given its path.
func once(name string, command func(path string) []string) func(t *testing.T) string {
	do := sync.OnceValues(func() (string, error) {
		path := filepath.Join(scratch(), name)
		line := command(path)
		cmd := exec.Command(line[0], line[1:]...)
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w\n%s", line, err, out)
		}
		return path, nil
	})
	return func(t *testing.T) string {
		t.Helper()
		path, err := do()
		require.NoError(t, err)
		return path
	}
}

// All are for this machine's architecture: the image as "make image" writes it, its files in a
// folder, which takes root, and its programs alone.
var (
	imageArchive = once("sluice-image.tar", func(path string) []string {
		return []string{"go", "run", "./deploy/image", "-o", path, "-arch", runtime.GOARCH}
	})
	imageRoot = once("root", func(path string) []string {
		return []string{"go", "run", "./deploy/image", "-root", path, "-arch", runtime.GOARCH}
	})
	programs = once("programs", func(path string) []string {
		return []string{"go", "build", "-o", path + "/", "./cmd/sluice", "./cmd/sluice-kube", "./cmd/sluice-netsetup"}
	})
)

// built is a program of the image, which does what main does.
func built(t *testing.T, name string) string {
	t.Helper()
	if isRoot(t) {
		return filepath.Join(imageRoot(t), name)
	}
	return filepath.Join(programs(t), name)
}
