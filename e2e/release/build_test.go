//go:build linux

package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const version, number = "v0.2.0", "0.2.0"

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "sluice-release-"); err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(scratch)
	os.Exit(status)
}

// release is the folder of a release, made once.
func release(t *testing.T) (dist string) {
	t.Helper()
	dist, err := first()
	require.NoError(t, err, dist)
	return dist
}

var first = sync.OnceValues(func() (string, error) { return makeRelease(filepath.Join(scratch, "here"), 0o755, 0o644) })

// makeRelease makes a release of the checkout's files, committed in a folder of their own, and
// returns its folder, or what was said.
func makeRelease(dir string, dirs, files os.FileMode, by ...string) (dist string, err error) {
	if err := program.Checkout(dir, dirs, files); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-q", "-m", "All"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=Test",
			"GIT_COMMITTER_EMAIL=test@example.com", "GIT_AUTHOR_DATE=2026-11-29T12:00:00Z", "GIT_COMMITTER_DATE=2026-11-29T12:00:00Z")
		if out, err := cmd.CombinedOutput(); err != nil {
			return string(out), err
		}
	}
	line := append(by, "make", "release", "VERSION="+version)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return string(out), err
	}
	return filepath.Join(dir, "dist"), nil
}

// The same commit gives the same bytes: in another folder, by a user whose files are nobody
// else's, in another time zone, on a machine of another name, at another time.
func TestSameBytes(t *testing.T) {
	one := release(t)
	by := []string{"sh", "-c", `umask 077; export TZ=Pacific/Apia LC_ALL=C LOGNAME=other USER=other; exec "$@"`, "sh"}
	if os.Geteuid() == 0 {
		by = append([]string{"unshare", "-u", "sh", "-c", `hostname other; exec "$@"`, "sh"}, by...)
	}
	two, err := makeRelease(filepath.Join(scratch, "another", "place"), 0o700, 0o600, by...)
	require.NoError(t, err, two)
	entries, err := os.ReadDir(one)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		a, err := os.ReadFile(filepath.Join(one, e.Name()))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(two, e.Name()))
		require.NoError(t, err)
		assert.True(t, string(a) == string(b), e.Name())
	}
	assert.Equal(t, []string{
		"SHA256SUMS", "sluice-0.2.0-1.aarch64.rpm", "sluice-0.2.0-1.x86_64.rpm", "sluice_0.2.0-1_amd64.deb", "sluice_0.2.0-1_arm64.deb",
		"sluice_0.2.0_image.spdx.json", "sluice_0.2.0_image.tar",
		"sluice_0.2.0_linux_amd64.spdx.json", "sluice_0.2.0_linux_amd64.tar.gz", "sluice_0.2.0_linux_arm64.spdx.json", "sluice_0.2.0_linux_arm64.tar.gz",
	}, names)
	cmd := exec.Command("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
	cmd.Dir = one
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, string(out))
}

// unpacked is the folder of the archive for an architecture.
func unpacked(t *testing.T, arch string) string {
	t.Helper()
	dir, name := t.TempDir(), "sluice_"+number+"_linux_"+arch
	out, err := exec.Command("tar", "-xzf", filepath.Join(release(t), name+".tar.gz"), "-C", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	return filepath.Join(dir, name)
}

// The programs say what they were built from, and everything that belongs to them is beside them.
func TestArchive(t *testing.T) {
	dir := unpacked(t, runtime.GOARCH)
	for _, name := range []string{"sluice", "sluice-netsetup", "sluice-kube"} {
		got := program.Command(t, nil, nil, filepath.Join(dir, name), "version")
		assert.Regexp(t, `^`+name+` v0\.2\.0 go1\.\S+ linux/`+runtime.GOARCH+`\nbuilt from commit [0-9a-f]{40} of 2026-11-29T12:00:00Z\n$`, got.Out)
		assert.Contains(t, program.Command(t, nil, nil, filepath.Join(dir, name), "version", "--json").Out, `"path": "github.com/spf13/cobra"`)
		assert.FileExists(t, filepath.Join(dir, "man", name+".1"))
		assert.FileExists(t, filepath.Join(dir, "completions", name+".bash"))
	}
	for _, name := range []string{"LICENSE", "CHANGELOG.md", "man/sluice-proxy.1", "man/sluice-tcp.1", "completions/_sluice", "completions/sluice.fish", "systemd/sluice.service", "systemd/sluice.socket", "presets/npm.txt"} {
		assert.FileExists(t, filepath.Join(dir, name))
	}
	page := program.Command(t, nil, nil, "man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", filepath.Join(dir, "man", "sluice-proxy.1"))
	assert.Empty(t, page.Err)
	assert.Contains(t, page.Out, "Run the HTTP/HTTPS forward proxy")
	assert.Contains(t, page.Out, "sluice v0.2.0")
	got := program.Command(t, nil, nil, "bash", "-c", "source "+filepath.Join(dir, "completions", "sluice.bash")+" && complete -p sluice")
	assert.Contains(t, got.Out, "sluice\n", got.Err)
}

// A release that nobody could make again is not made.
func TestRefused(t *testing.T) {
	release(t)
	dir := filepath.Join(scratch, "here")
	made := func(args ...string) string {
		cmd := exec.Command("make", append([]string{"release"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		assert.Error(t, err)
		return string(out)
	}
	for _, v := range []string{"0.2.0", "v0.2", "v0.2.0+meta", "v01.2.0", "v0.2.0-", "v0.2.0 -X=1", ""} {
		assert.Contains(t, made("VERSION="+v), `is no version; write vMAJOR.MINOR.PATCH, as v0.2.0, or v0.2.0-rc.1 before it`, v)
	}
	assert.Contains(t, made("VERSION="+version), "there is something in dist already; remove it, or choose another folder (-o)")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "new.go"), []byte("package x\n"), 0o600))
	assert.Contains(t, made("VERSION="+version), "there are changes that are not committed; commit or stash them:\n?? new.go\n")
	require.NoError(t, os.Remove(filepath.Join(dir, "new.go")))
	tag := func(args ...string) {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=Test", "-c", "user.email=test@example.com"}, args...)...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	tag("tag", "v0.9.0")
	tag("commit", "-q", "--allow-empty", "-m", "More")
	assert.Contains(t, made("VERSION=v0.9.0"), "the tag v0.9.0 is of another commit, ")
}

// The program for arm64 serves a client.
func TestArm64(t *testing.T) {
	qemu := nettest.Need(t, "qemu-aarch64-static")
	dir := unpacked(t, "arm64")
	for _, name := range []string{"sluice", "sluice-netsetup", "sluice-kube"} {
		assert.Contains(t, program.Command(t, nil, nil, qemu, filepath.Join(dir, name), "version").Out, name+" v0.2.0 go1.")
	}
	serves(t, nil, []string{qemu, filepath.Join(dir, "sluice")})
}
