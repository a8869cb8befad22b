//go:build linux

package http

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// succeed runs a command here and wants it to succeed.
func succeed(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	got := program.Command(t, nil, env, name, args...)
	require.Equal(t, 0, got.Status, "%s %q: %s%s", name, args, got.Out, got.Err)
	return strings.TrimSpace(got.Out)
}

// gitEnv keeps this machine's settings out.
var gitEnv = []string{
	"GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
	"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.com",
	"GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.com",
}

// packSize is that of the file in the repository, which does not compress.
const packSize = 64 << 20

// newRepository makes a bare repository, served under /git/repo.git, and returns
// its head.
func newRepository(t testing.TB, mux *http.ServeMux) (head string) {
	t.Helper()
	return newRepositoryOf(t, mux, packSize)
}

// newRepositoryOf does so with a file of that size.
func newRepositoryOf(t testing.TB, mux *http.ServeMux, size int) (head string) {
	t.Helper()
	root := t.TempDir()
	work, bare := filepath.Join(root, "work"), filepath.Join(root, "served", "repo.git")
	succeed(t, gitEnv, "git", "init", "-q", "-b", "main", work)
	noise := make([]byte, size)
	_, _ = rand.Read(noise) // never fails
	require.NoError(t, os.WriteFile(filepath.Join(work, "noise"), noise, 0o600))
	succeed(t, gitEnv, "git", "-C", work, "-c", "core.compression=0", "add", "noise")
	succeed(t, gitEnv, "git", "-C", work, "commit", "-q", "-m", "Noise")
	succeed(t, gitEnv, "git", "clone", "-q", "--bare", work, bare)
	succeed(t, gitEnv, "git", "-C", bare, "config", "http.receivepack", "true")
	mux.Handle("/git/", &cgi.Handler{
		Path: filepath.Join(succeed(t, nil, "git", "--exec-path"), "git-http-backend"),
		Root: "/git",
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(bare), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"},
	})
	return succeed(t, gitEnv, "git", "-C", work, "rev-parse", "HEAD")
}

func TestGit(t *testing.T) {
	o, mux := newSite(t)
	nettest.Need(t, "git")
	head := newRepository(t, mux)
	env := append(append([]string{"GIT_SSL_CAINFO=" + o.CA.File}, gitEnv...), proxyEnv...)
	for _, scheme := range []string{"http://", "https://"} {
		t.Run(scheme, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "clone")
			got := program.Command(t, o.Client, env, "git", "clone", "-q", scheme+allowedHost+"/git/repo.git", dir)
			require.Equal(t, 0, got.Status, got.Err)
			require.Equal(t, head, succeed(t, gitEnv, "git", "-C", dir, "rev-parse", "HEAD"))

			require.NoError(t, os.WriteFile(filepath.Join(dir, "more"), []byte(scheme), 0o600))
			succeed(t, gitEnv, "git", "-C", dir, "add", "more")
			succeed(t, gitEnv, "git", "-C", dir, "commit", "-q", "-m", scheme)
			got = program.Command(t, o.Client, env, "git", "-C", dir, "push", "-q", "origin", "main")
			require.Equal(t, 0, got.Status, got.Err)
			head = succeed(t, gitEnv, "git", "-C", dir, "rev-parse", "HEAD")

			got = program.Command(t, o.Client, env, "git", "ls-remote", scheme+deniedHost+"/git/repo.git")
			assert.Contains(t, got.Err, "403")
			assert.NotEqual(t, 0, got.Status)
		})
	}
}

// newAptRepository makes a repository with one package, served under /apt/.
func newAptRepository(t testing.TB, mux *http.ServeMux) (deb []byte) {
	t.Helper()
	dir, tree := t.TempDir(), t.TempDir()
	const control = "Package: sluice-test\nVersion: 1.0\nArchitecture: all\n" +
		"Maintainer: Test <test@example.com>\nDescription: nothing\n"
	write := func(path, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644)) //nolint:gosec // served to all
	}
	write(filepath.Join(tree, "DEBIAN", "control"), control)
	write(filepath.Join(tree, "usr", "share", "sluice-test"), content)
	path := filepath.Join(dir, "sluice-test_1.0_all.deb")
	succeed(t, nil, "dpkg-deb", "--root-owner-group", "--build", tree, path)
	deb, err := os.ReadFile(path)
	require.NoError(t, err)
	packages := fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %x\n", control, filepath.Base(path), len(deb), sha256.Sum256(deb))
	write(filepath.Join(dir, "Packages"), packages)
	write(filepath.Join(dir, "Release"), fmt.Sprintf("Date: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n %x %d Packages\n",
		sha256.Sum256([]byte(packages)), len(packages)))
	mux.Handle("/apt/", http.StripPrefix("/apt/", http.FileServer(http.Dir(dir))))
	return deb
}

// aptArgs keep apt in dir, away from this machine's packages.
func aptArgs(t testing.TB, dir, ca, source string) []string {
	t.Helper()
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "etc"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	list := filepath.Join(dir, "etc", "sources.list")
	require.NoError(t, os.WriteFile(list, []byte("deb [trusted=yes] "+source+" ./\n"), 0o600))
	args := []string{"-C", dir, "apt-get", "-y"}
	for _, option := range []string{
		"Dir::Etc=" + filepath.Join(dir, "etc"), "Dir::Etc::sourcelist=" + list,
		"Dir::State=" + filepath.Join(dir, "state"), "Dir::State::status=/dev/null",
		"Dir::Cache=" + filepath.Join(dir, "cache"),
		"APT::Sandbox::User=root", "Acquire::Languages=none", "Acquire::Retries=0",
		"Acquire::http::Proxy=" + proxyURL, "Acquire::https::Proxy=" + proxyURL, "Acquire::https::CaInfo=" + ca,
	} {
		args = append(args, "-o", option)
	}
	return args
}

func TestApt(t *testing.T) {
	o, mux := newSite(t)
	nettest.Need(t, "apt-get")
	nettest.Need(t, "dpkg-deb")
	deb := newAptRepository(t, mux)
	for _, scheme := range []string{"http://", "https://"} {
		t.Run(scheme, func(t *testing.T) {
			dir := t.TempDir()
			args := aptArgs(t, dir, o.CA.File, scheme+allowedHost+"/apt/")
			apt := func(more ...string) program.Output {
				t.Helper()
				got := program.Command(t, o.Client, nil, "env", append(args[:len(args):len(args)], more...)...)
				require.Equal(t, 0, got.Status, got.Out+got.Err)
				return got
			}
			apt("update")
			assert.Contains(t, apt("update").Out, "Hit:2 "+scheme, "304 for what has not changed")
			apt("download", "sluice-test")
			got, err := os.ReadFile(filepath.Join(dir, "sluice-test_1.0_all.deb"))
			require.NoError(t, err)
			assert.Equal(t, sha256.Sum256(deb), sha256.Sum256(got))

			denied := aptArgs(t, t.TempDir(), o.CA.File, scheme+deniedHost+"/apt/")
			failed := program.Command(t, o.Client, nil, "env", append(denied, "update")...)
			assert.Contains(t, failed.Out+failed.Err, denial)
		})
	}
}

// newNpmPackage serves a package under /npm/, as a registry does.
func newNpmPackage(t testing.TB, mux *http.ServeMux) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"name": "sluice-test", "version": "1.0.0"}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file.txt"), []byte(content), 0o600))
	archive := filepath.Join(t.TempDir(), "sluice-test-1.0.0.tgz")
	succeed(t, nil, "tar", "-czf", archive, "-C", dir, "--transform=s,^,package/,", "package.json", "file.txt")
	packed, err := os.ReadFile(archive)
	require.NoError(t, err)
	sum := sha512.Sum512(packed)
	mux.HandleFunc("/npm/sluice-test", func(w http.ResponseWriter, r *http.Request) {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		fmt.Fprintf(w, `{"name": "sluice-test", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {"name": "sluice-test", "version": "1.0.0",
			"dist": {"tarball": "%s://%s/npm/sluice-test.tgz", "integrity": "sha512-%s"}}}}`, scheme, r.Host, base64.StdEncoding.EncodeToString(sum[:]))
	})
	mux.HandleFunc("/npm/sluice-test.tgz", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(packed) })
}
