//go:build linux

package http

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// registries are an outside in which the registries of the ecosystems have their own names, with one
// package each: what a real client asks them for by its own defaults stays on this machine.
type registries struct {
	*outside
	clients []ecosystem
}

// ecosystem is a client of a registry.
type ecosystem struct {
	name  string   // of its preset
	hosts []string // that it asks, in their order in a list
	// run gets the package, and wants it to be there.
	run func(t testing.TB)
}

// otherHost is one that no client of a registry asks.
const otherHost = "other.example.com"

func newRegistries(t testing.TB) *registries {
	t.Helper()
	o := &outside{Topology: nettest.NewTopology(t), CA: newAuthority(t)}
	o.DNS = o.Topology.DNS(t)
	r := &registries{outside: o}
	mux := http.NewServeMux()
	mux.Handle("/", witness("server-a"))
	r.clients = []ecosystem{r.npm(t, mux), r.pypi(t, mux), r.goModules(t, mux), r.apt(t, mux)}
	names := []string{otherHost}
	for _, c := range r.clients {
		names = append(names, c.hosts...)
	}
	for _, name := range names {
		o.DNS.Set(name, nettest.Addrs(nettest.ServerAV4))
	}
	serve(t, o.ServerA.Listen(net.JoinHostPort(nettest.ServerAV4, "80")), nil, mux)
	serve(t, o.ServerA.Listen(net.JoinHostPort(nettest.ServerAV4, "443")), o.CA.serverConfig(names...), mux)
	return r
}

// file is a file of an archive.
type file struct{ name, text string }

func zipOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f.name)
		require.NoError(t, err)
		_, err = w.Write([]byte(f.text))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return b.Bytes()
}

// with runs a client in the client pod, behind the proxy, and wants it to succeed.
func (r *registries) with(t testing.TB, env []string, name string, args ...string) {
	t.Helper()
	got := program.Command(t, r.Client, slices.Concat(proxyEnv, env), name, args...)
	require.Equal(t, 0, got.Status, "%s %q: %s%s", name, args, got.Out, got.Err)
}

func (r *registries) npm(t testing.TB, mux *http.ServeMux) ecosystem {
	newNpmPackage(t, mux)
	mux.HandleFunc("registry.npmjs.org/sluice-test", func(w http.ResponseWriter, q *http.Request) {
		q.URL.Path = "/npm/sluice-test"
		mux.ServeHTTP(w, q)
	})
	return ecosystem{"npm", []string{"registry.npmjs.org"}, func(t testing.TB) {
		dir := t.TempDir()
		r.with(t, nil, "npm", "install", "--prefix="+dir, "--cafile="+r.CA.File, "--cache="+filepath.Join(dir, "cache"),
			"--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=0", "sluice-test")
		require.FileExists(t, filepath.Join(dir, "node_modules", "sluice-test", "file.txt"))
	}}
}

// newWheel serves a package as an index at one host does, with its files at another: "" is any.
func newWheel(t testing.TB, mux *http.ServeMux, index, files string) {
	t.Helper()
	const info = "sluice_test-1.0.dist-info/"
	wheel := zipOf(t, file{"sluice_test.py", "word = 'wheel'\n"},
		file{info + "METADATA", "Metadata-Version: 2.1\nName: sluice-test\nVersion: 1.0\n"},
		file{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		file{info + "RECORD", "sluice_test.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"})
	path, scheme := files+"/packages/sluice_test-1.0-py3-none-any.whl", ""
	if files != "" {
		scheme = "https://"
	}
	mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(wheel) })
	mux.HandleFunc(index+"/simple/sluice-test/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!DOCTYPE html><a href=\"%s%s#sha256=%x\">sluice_test-1.0-py3-none-any.whl</a>", scheme, path, sha256.Sum256(wheel))
	})
}

func (r *registries) pypi(t testing.TB, mux *http.ServeMux) ecosystem {
	newWheel(t, mux, "pypi.org", "files.pythonhosted.org")
	return ecosystem{"pypi", []string{"files.pythonhosted.org", "pypi.org"}, func(t testing.TB) {
		dir := t.TempDir()
		r.with(t, nil, "/usr/bin/python3", "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir", "--retries=0",
			"--cert="+r.CA.File, "install", "--target="+dir, "sluice-test")
		require.FileExists(t, filepath.Join(dir, "sluice_test.py"))
	}}
}

// newModule serves a module below at, a host or a path.
func newModule(t testing.TB, mux *http.ServeMux, at string) (module, version string) {
	t.Helper()
	module, version = "sluice.test/module", "v1.0.0"
	prefix, mod := module+"@"+version+"/", "module "+module+"\n"
	for name, text := range map[string][]byte{
		".info": []byte(`{"Version":"` + version + `"}`), ".mod": []byte(mod),
		".zip": zipOf(t, file{prefix + "go.mod", mod}, file{prefix + "module.go", "package module\n"}),
	} {
		mux.HandleFunc(at+"/"+module+"/@v/"+version+name, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
	}
	return module, version
}

func (r *registries) goModules(t testing.TB, mux *http.ServeMux) ecosystem {
	module, version := newModule(t, mux, "proxy.golang.org")
	return ecosystem{"go", []string{"proxy.golang.org"}, func(t testing.TB) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module a\n\nrequire "+module+" "+version+"\n"), 0o600))
		r.with(t, []string{"SSL_CERT_FILE=" + r.CA.File, "GOMODCACHE=" + filepath.Join(dir, "cache"), "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local",
			"GOSUMDB=off"}, "go", "-C", dir, "mod", "download", module) // whose signatures are nobody else's to make
		require.FileExists(t, filepath.Join(dir, "cache", module+"@"+version, "module.go"))
	}}
}

func (r *registries) apt(t testing.TB, mux *http.ServeMux) ecosystem {
	nettest.Need(t, "apt-get")
	nettest.Need(t, "dpkg-deb")
	newAptRepository(t, mux)
	return ecosystem{"apt", []string{"deb.debian.org"}, func(t testing.TB) {
		dir := t.TempDir()
		args := aptArgs(t, dir, r.CA.File, "http://deb.debian.org/apt/")
		args = args[:len(args):len(args)]
		r.with(t, nil, "env", append(args, "update")...)
		r.with(t, nil, "env", append(args, "download", "sluice-test")...)
		require.FileExists(t, filepath.Join(dir, "sluice-test_1.0_all.deb"))
	}}
}
